"""A bucket is remembered, and every change of it is seen by whoever asks after the change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.walrus.errors import S3Error
from mallee.walrus.store import Store
from tests.unit.walrus.a_store import BUCKET, OWNER, a_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store") as opened:
        yield opened


async def test_it_is_read_once(store: Store) -> None:
    first = await store.head_bucket(BUCKET)
    assert await store.head_bucket(BUCKET) is first


async def test_every_change_is_seen(store: Store) -> None:
    await store.head_bucket(BUCKET)
    await store.set_config(BUCKET, "policy", b"1")
    assert (await store.head_bucket(BUCKET)).config["policy"] == b"1"
    await store.set_config(BUCKET, "policy", None)
    assert "policy" not in (await store.head_bucket(BUCKET)).config
    await store.set_versioning(BUCKET, "Enabled")
    assert (await store.head_bucket(BUCKET)).versioning == "Enabled"
    await store.enable_object_lock(BUCKET)
    assert (await store.head_bucket(BUCKET)).object_lock
    await store.delete_bucket(BUCKET)
    with pytest.raises(S3Error, match="NoSuchBucket"):
        await store.head_bucket(BUCKET)
    await store.create_bucket(BUCKET, OWNER, "elsewhere")
    assert (await store.head_bucket(BUCKET)).region == "elsewhere"


async def test_a_change_that_overtakes_a_read_is_not_lost(store: Store) -> None:
    for number in range(50):
        document = str(number).encode()
        asking = [asyncio.create_task(store.head_bucket(BUCKET)) for _ in range(3)]
        await asyncio.gather(store.set_config(BUCKET, "cors", document), *asking)
        assert (await store.head_bucket(BUCKET)).config["cors"] == document
