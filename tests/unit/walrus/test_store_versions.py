"""Versions, delete markers and locks: what the dictionary of the model test does not say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mallee.kernel.clock import ManualClock
from mallee.walrus.errors import S3Error
from mallee.walrus.store import Conditions, Deleted, Doomed, Lock, NewObject, Store
from tests.unit.walrus.a_store import BUCKET, OWNER, a_store, etag_of, get, put

LOCKED = "locked"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock, database_url: str) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store", clock=clock, url=database_url) as store:
        await store.create_bucket(LOCKED, OWNER, "eu", object_lock=True)
        yield store


async def code_of(asked: Any) -> str:
    with pytest.raises(S3Error) as caught:
        await asked
    return caught.value.code


async def test_a_marker_hides_and_its_removal_shows_again(store: Store) -> None:
    await store.set_versioning(BUCKET, "Enabled")
    first = await put(store, "k", b"one")
    marker = await store.delete(BUCKET, "k", owner=OWNER)
    assert marker.delete_marker
    hidden = await store.find(BUCKET, "k")
    assert (hidden.is_delete_marker, hidden.version_id, hidden.owner) == (True, marker.version_id, OWNER)
    assert (await store.list(BUCKET)).entries == []
    assert await get(store, "k", first.version_id) == b"one"
    assert await code_of(store.set_tags(BUCKET, "k", None, {"a": "b"})) == "MethodNotAllowed"
    assert await code_of(store.delete_bucket(BUCKET)) == "BucketNotEmpty"

    assert await store.delete(BUCKET, "k", marker.version_id) == Deleted(
        marker.version_id, delete_marker=True
    )
    assert await get(store, "k") == b"one"


async def test_version_ids_that_are_none(store: Store) -> None:
    version = await put(store, "k", b"one")
    assert await code_of(store.find(BUCKET, "k", "what?")) == "InvalidArgument"
    assert await code_of(store.find(BUCKET, "k", "0" * 32)) == "NoSuchVersion"
    assert await code_of(store.find("no-bucket", "k", "null")) == "NoSuchBucket"
    assert (await store.find(BUCKET, "k", "null")).modified_ms == version.modified_ms
    assert await store.delete(BUCKET, "k", "0" * 32) == Deleted("0" * 32)


async def test_tags_and_acls_of_any_version(store: Store) -> None:
    await store.set_versioning(BUCKET, "Enabled")
    first = await put(store, "k", b"one", new=NewObject(OWNER, "e", tags={"a": "b"}, acl=b"list"))
    await put(store, "k", b"two")
    assert (first.tags, first.acl) == ({"a": "b"}, b"list")
    await store.set_tags(BUCKET, "k", first.version_id, {"c": "d"})
    await store.set_acl(BUCKET, "k", None, b"other")
    old, new = await store.find(BUCKET, "k", first.version_id), await store.find(BUCKET, "k")
    assert (old.tags, old.acl, old.is_latest) == ({"c": "d"}, b"list", False)
    assert (new.tags, new.acl, new.is_latest) == ({}, b"other", True)


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
async def test_retention_keeps_a_version_until_its_time(store: Store, clock: ManualClock, mode: Any) -> None:
    until = clock.now() + timedelta(days=1)
    version = await put(store, "k", b"kept", bucket=LOCKED)
    assert (await store.set_lock(LOCKED, "k", None, Lock(mode, until))).lock == Lock(mode, until)

    assert await code_of(store.delete(LOCKED, "k", version.version_id)) == "AccessDenied"
    weaker = Lock(mode, until - timedelta(hours=1))
    assert await code_of(store.set_lock(LOCKED, "k", None, weaker)) == "AccessDenied"
    await store.set_lock(LOCKED, "k", None, Lock(mode, until + timedelta(hours=1)))
    assert (await store.delete(LOCKED, "k")).delete_marker, "a marker deletes nothing"

    if mode == "GOVERNANCE":
        await store.delete(LOCKED, "k", version.version_id, bypass_governance=True)
    else:
        bypassed = store.delete(LOCKED, "k", version.version_id, bypass_governance=True)
        assert await code_of(bypassed) == "AccessDenied"
        await clock.advance(90_001)
        await store.delete(LOCKED, "k", version.version_id)
    assert await code_of(store.find(LOCKED, "k", version.version_id)) == "NoSuchVersion"


async def test_a_legal_hold_is_ended_by_nobody_but_who_ends_it(store: Store) -> None:
    version = await put(
        store, "k", b"kept", bucket=LOCKED, new=NewObject(OWNER, "e", lock=Lock(legal_hold=True))
    )
    held = store.delete(LOCKED, "k", version.version_id, bypass_governance=True)
    assert await code_of(held) == "AccessDenied"
    await store.set_lock(LOCKED, "k", None, Lock())
    await store.delete(LOCKED, "k", version.version_id)


async def test_lock_needs_versioning_and_a_bucket_that_has_it(store: Store) -> None:
    await put(store, "k", b"x")
    assert await code_of(store.set_lock(BUCKET, "k", None, Lock(legal_hold=True))) == "InvalidRequest"
    assert await code_of(store.enable_object_lock(BUCKET)) == "InvalidBucketState"
    assert await code_of(store.set_versioning(LOCKED, "Suspended")) == "InvalidBucketState"
    await store.set_versioning(BUCKET, "Enabled")
    await store.enable_object_lock(BUCKET)
    assert (await store.head_bucket(BUCKET)).object_lock


async def test_many_are_deleted_each_for_itself(store: Store) -> None:
    version = await put(
        store, "held", b"x", bucket=LOCKED, new=NewObject(OWNER, "e", lock=Lock(legal_hold=True))
    )
    await put(store, "gone", b"x", bucket=LOCKED)
    doomed = [
        Doomed("gone"),
        Doomed("held", version.version_id),
        Doomed("never"),
        Doomed("\ud800"),
        Doomed("gone", None, Conditions(if_match="other")),
        *[Doomed(f"{number}") for number in range(300)],
    ]
    answers = await store.delete_many(LOCKED, doomed, owner=OWNER)
    shown = [each.code if isinstance(each, S3Error) else each.delete_marker for each in answers]
    assert shown == [True, "AccessDenied", True, "InvalidURI", "PreconditionFailed", *[True] * 300]
    assert await code_of(store.delete_many("no-bucket", doomed)) == "NoSuchBucket"
    assert await code_of(store.delete_many("no-bucket", [])) == "NoSuchBucket"


async def test_conditions_of_a_delete(store: Store) -> None:
    version = await put(store, "k", b"one")
    for wrong in (
        Conditions(if_match="other"),
        Conditions(size=4),
        Conditions(modified=version.modified + timedelta(seconds=1)),
    ):
        assert await code_of(store.delete(BUCKET, "k", conditions=wrong)) == "PreconditionFailed"
    right = Conditions(if_match=etag_of(b"one"), size=3, modified=version.modified)
    await store.delete(BUCKET, "k", conditions=right)
    assert (
        await code_of(store.delete(BUCKET, "k", conditions=Conditions(if_match="*"))) == "PreconditionFailed"
    )


async def test_pages_of_versions_go_on_behind_one_that_was_deleted_meanwhile(store: Store) -> None:
    await store.set_versioning(BUCKET, "Enabled")
    ids = [(await put(store, "k", b"x")).version_id for _ in range(5)][::-1]
    page = await store.list_versions(BUCKET, limit=2)
    assert [entry.version_id for entry in page.entries] == ids[:2]
    await store.delete(BUCKET, "k", ids[1])
    page = await store.list_versions(BUCKET, after=page.next_key, after_version=page.next_version)
    assert [entry.version_id for entry in page.entries] == ids[2:]
    assert not any(entry.is_latest for entry in page.entries)
