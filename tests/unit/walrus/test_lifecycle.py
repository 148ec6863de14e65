"""A bucket's rules carried out on a clock that is moved: what ends, what stays, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mallee.kernel.clock import ManualClock
from mallee.walrus.api.settings.lifecycle_rules import LIFECYCLE
from mallee.walrus.errors import S3Error
from mallee.walrus.reconcile.lifecycle import Lifecycle
from mallee.walrus.store import Lock, NewObject, Store
from tests.unit.walrus.a_store import BUCKET, OWNER, a_store, etag_of, put

DAY = 24 * 3600


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store", clock=clock) as opened:
        yield opened


async def rules(store: Store, *given: dict[str, Any]) -> Lifecycle:
    named = [
        {"ID": str(number), "Status": "Enabled", "Filter": {}} | rule for number, rule in enumerate(given)
    ]
    await store.set_config(BUCKET, LIFECYCLE, msgspec.json.encode({"Rules": named}))
    return Lifecycle(store)


async def keys(store: Store) -> list[str]:
    return [entry.key for entry in (await store.list(BUCKET)).entries]


async def versions(store: Store) -> list[str]:
    page = await store.list_versions(BUCKET)
    return [f"{entry.key}{'!' if entry.is_delete_marker else ''}" for entry in page.entries]


async def test_objects_end_at_the_midnight_after_their_days(store: Store, clock: ManualClock) -> None:
    await clock.advance(3600)
    await put(store, "logs/old", b"1")
    await put(store, "kept", b"2")
    lifecycle = await rules(store, {"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 2}})

    await clock.advance(2 * DAY)
    await put(store, "logs/new", b"3")
    await lifecycle.one_pass()
    assert await keys(store) == ["kept", "logs/new", "logs/old"], "two days have passed, the midnight has not"
    await clock.advance(23 * 3600)
    await lifecycle.one_pass()
    assert await keys(store) == ["kept", "logs/new"]


async def test_a_rule_that_is_put_later_is_carried_out_at_once(store: Store, clock: ManualClock) -> None:
    await put(store, "k", b"1")
    lifecycle = await rules(store, {"Status": "Disabled", "Expiration": {"Days": 1}})
    await clock.advance(10 * DAY)
    await lifecycle.one_pass()
    assert await keys(store) == ["k"]
    await store.set_config(
        BUCKET,
        LIFECYCLE,
        msgspec.json.encode(
            {"Rules": [{"ID": "x", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}]}
        ),
    )
    await lifecycle.one_pass()
    assert await keys(store) == []


async def test_only_what_the_filter_means(store: Store, clock: ManualClock) -> None:
    tagged = NewObject(owner=OWNER, etag=etag_of(b"1"), tags={"class": "short"})
    await put(store, "tagged", b"1", new=tagged)
    await put(store, "plain", b"1")
    await put(store, "large", b"x" * 2000)
    lifecycle = await rules(
        store,
        {"Filter": {"Tag": {"Key": "class", "Value": "short"}}, "Expiration": {"Days": 1}},
        {"Filter": {"ObjectSizeGreaterThan": 1000}, "Expiration": {"Days": 1}},
    )
    await clock.advance(3 * DAY)
    await lifecycle.one_pass()
    assert await keys(store) == ["plain"]


async def test_versions_markers_and_how_many_are_kept(store: Store, clock: ManualClock) -> None:
    await store.set_versioning(BUCKET, "Enabled")
    for number in range(5):
        await put(store, "k", str(number).encode())
        await clock.advance(60)
    lifecycle = await rules(
        store, {"NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2}}
    )
    await clock.advance(5 * DAY)
    await lifecycle.one_pass()
    assert await versions(store) == ["k", "k", "k"], "the current one and two that it replaced"

    lifecycle = await rules(
        store, {"Expiration": {"Days": 1}}, {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    )
    await lifecycle.one_pass()
    assert await versions(store) == ["k!", "k"], "a marker over what was current a moment ago"
    await clock.advance(2 * DAY)
    await lifecycle.one_pass()
    assert await versions(store) == ["k!"]
    await clock.advance(2 * DAY)
    await lifecycle.one_pass()
    assert await versions(store) == []


async def test_what_is_locked_stays(store: Store, clock: ManualClock) -> None:
    await store.set_versioning(BUCKET, "Enabled")
    await store.enable_object_lock(BUCKET)
    held = NewObject(owner=OWNER, etag=etag_of(b"1"), lock=Lock(legal_hold=True))
    await put(store, "k", b"1", new=held)
    await put(store, "k", b"2")
    lifecycle = await rules(store, {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}})
    await clock.advance(5 * DAY)
    await lifecycle.one_pass()
    assert await versions(store) == ["k", "k"]


async def test_abandoned_uploads_end(store: Store, clock: ManualClock) -> None:
    old = await store.begin_upload(BUCKET, "a", NewObject(owner=OWNER), initiator="me")
    lifecycle = await rules(store, {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}})
    await clock.advance(3 * DAY)
    fresh = await store.begin_upload(BUCKET, "b", NewObject(owner=OWNER), initiator="me")
    await lifecycle.one_pass()
    assert [one.upload_id for one in (await store.list_uploads(BUCKET)).uploads] == [fresh.upload_id]
    with pytest.raises(S3Error, match="NoSuchUpload"):
        await store.find_upload(BUCKET, "a", old.upload_id)


async def test_more_than_a_page(store: Store, clock: ManualClock) -> None:
    for number in range(1050):
        await put(store, f"k{number:05}", b"x")
    lifecycle = await rules(store, {"Filter": {"Prefix": "k"}, "Expiration": {"Days": 1}})
    await clock.advance(3 * DAY)
    await put(store, "k-new", b"x")
    await lifecycle.one_pass()
    assert await keys(store) == ["k-new"]
