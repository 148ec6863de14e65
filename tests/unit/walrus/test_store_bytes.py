"""Bytes that rot are never sent; bytes that are read are not removed; a caller who goes away changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mallee.kernel.clock import ManualClock
from mallee.kernel.errors import Fault
from mallee.walrus.db import marks
from mallee.walrus.db.contents import contents
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import FileRange
from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.reconcile.orphans import Orphans
from mallee.walrus.reconcile.scrub import Scrub
from mallee.walrus.store import Encryption, Files, NewObject, Store, Version
from tests.unit.walrus.a_store import BUCKET, MIB, OWNER, a_store, bytes_of, get, put
from tests.unit.walrus.faulty_files import Troubled

LARGE = bytes(range(256)) * 4096 * 6
SMALL = b"small"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store", clock=clock) as store:
        yield store


def file_of(store: Store, version: Version) -> Path:
    assert isinstance(store.ground.blobs, Files)
    assert version.content
    return store.ground.blobs.path(version.content.id)


def rot(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"!")


async def rot_small(store: Store, version: Version) -> None:
    assert version.content
    changed = sa.update(contents).where(contents.c.id == version.content.id).values(inline=b"smalL")
    await store.ground.db.transact(lambda tx: tx.execute(changed))


@pytest.mark.parametrize("sendfile", [True, False])
@pytest.mark.parametrize("encryption", [None, Encryption()])
async def test_a_block_that_rots_is_not_sent(
    store: Store, sendfile: bool, encryption: Encryption | None
) -> None:
    version = await put(store, "k", LARGE, encryption=encryption)
    rot(file_of(store, version), 5 * MIB + 7)

    assert await bytes_of(store, version, 0, MIB, sendfile=sendfile) == LARGE[: MIB + 1]
    for first in (0, 5 * MIB):
        with pytest.raises(Fault) as caught:
            await bytes_of(store, version, first, sendfile=sendfile)
        assert caught.value.code == "damaged"
    assert store.ground.metrics.damaged == 2
    assert not store.ground.read, "nobody reads any more"


async def test_the_first_block_is_verified_before_anything_is_answered(store: Store) -> None:
    version = await put(store, "k", LARGE)
    rot(file_of(store, version), 3)
    with pytest.raises(Fault):
        await store.read(version)
    small = await put(store, "s", SMALL)
    await rot_small(store, small)
    with pytest.raises(Fault):
        await store.read(await store.find(BUCKET, "s"))


async def test_a_file_that_is_cut_short_or_lost_is_found(store: Store) -> None:
    version = await put(store, "k", LARGE)
    with file_of(store, version).open("r+b") as file:
        file.truncate(5 * MIB)
    with pytest.raises(Fault) as caught:
        await bytes_of(store, version)
    assert caught.value.code == "damaged"
    file_of(store, version).unlink()
    with pytest.raises(Fault) as caught:
        await bytes_of(store, version)
    assert "no such blob" in str(caught.value)


async def test_the_scrub_finds_what_rots_and_that_it_was_mended(store: Store, clock: ManualClock) -> None:
    fine = await put(store, "fine", LARGE)
    rotten = await put(store, "rotten", LARGE)
    lost = await put(store, "lost", LARGE)
    small = await put(store, "small", SMALL)
    healthy = file_of(store, rotten).read_bytes()
    rot(file_of(store, rotten), 2 * MIB)
    file_of(store, lost).unlink()
    await rot_small(store, small)

    scrub = Scrub(store.ground, period=1000, rate=MIB)
    await finished(scrub, clock)

    found = {damage.content for damage in await store.ground.db.read(marks.damaged)}
    assert found == {version.content.id for version in (rotten, lost, small) if version.content}
    assert store.ground.metrics.damages == 3
    assert store.ground.metrics.scrubbed == 3 * len(LARGE) + len(SMALL)
    assert await bytes_of(store, fine) == LARGE

    file_of(store, rotten).write_bytes(healthy)
    await store.delete(BUCKET, "lost")
    await Garbage(store.ground, grace=-1).one_pass()
    await scrub.one_pass()
    assert store.ground.metrics.damages == 3, "it is not time yet"
    await clock.advance(1000)
    await finished(scrub, clock)
    (left,) = await store.ground.db.read(marks.damaged)
    assert small.content
    assert left.content == small.content.id


async def finished(scrub: Scrub, clock: ManualClock) -> None:
    """A pass that sleeps on a clock which somebody must move."""
    running = asyncio.create_task(scrub.one_pass())
    while not running.done():
        await clock.advance(10)
        await asyncio.wait({running}, timeout=0.001)
    await running


async def test_what_is_being_read_is_not_removed(store: Store, clock: ManualClock) -> None:
    version = await put(store, "k", LARGE)
    reading = await store.read(version, sendfile=False)
    await store.delete(BUCKET, "k")
    await clock.advance(3600)
    await Garbage(store.ground).one_pass()
    assert file_of(store, version).exists()

    found = bytearray()
    async for piece in reading:
        assert not isinstance(piece, FileRange)
        found += piece
    await reading.aclose()
    assert found == LARGE
    await Garbage(store.ground).one_pass()
    assert not file_of(store, version).exists()
    with pytest.raises(S3Error) as caught:
        await store.read(version)
    assert caught.value.code == "NoSuchKey"


async def test_garbage_waits_for_those_who_have_just_found_it(store: Store, clock: ManualClock) -> None:
    version = await put(store, "k", LARGE)
    await store.delete(BUCKET, "k")
    await Garbage(store.ground).one_pass()
    assert await bytes_of(store, version) == LARGE
    await clock.advance(61)
    await Garbage(store.ground).one_pass()
    assert not file_of(store, version).exists()
    assert store.ground.metrics.garbage == 1


async def test_a_reading_that_is_never_read_holds_nothing(store: Store) -> None:
    version = await put(store, "k", LARGE)
    reading = await store.read(version)
    await reading.aclose()
    await reading.aclose()
    assert not store.ground.read


async def test_orphans_are_removed_when_they_are_old_and_nobody_writes_them(
    store: Store, clock: ManualClock
) -> None:
    assert isinstance(store.ground.blobs, Files)
    kept = await put(store, "k", LARGE)
    orphan = store.ground.blobs.create(store.ground.new_name())
    await orphan.write(LARGE)
    blob = await orphan.finish()
    await Orphans(store.ground).one_pass()
    assert store.ground.blobs.path(blob.name).exists(), "its commit may still come"

    await clock.advance(601)
    store.ground.written.add(blob.name)
    await Orphans(store.ground).one_pass()
    assert store.ground.blobs.path(blob.name).exists(), "somebody is at it"
    store.ground.written.clear()
    await Orphans(store.ground).one_pass()
    assert not store.ground.blobs.path(blob.name).exists()
    assert await bytes_of(store, kept) == LARGE
    assert store.ground.metrics.orphans == 1


@pytest.mark.parametrize("struck", ["create", "write", "fsync", "rename", "fsync_folder"])
async def test_a_caller_who_goes_away(tmp_path: Path, struck: str) -> None:
    """At any call: the object is there whole, or nothing is; never a row without its bytes."""
    loop = asyncio.get_running_loop()
    caller: list[asyncio.Task[Version]] = []

    def trouble(name: str) -> None:
        if name == struck and caller:
            loop.call_soon_threadsafe(caller[0].cancel)

    async with a_store(tmp_path / "store", files=Troubled(trouble), durable=True) as store:
        assert isinstance(store.ground.blobs, Files)
        store.ground.blobs.flush_every = 2 * MIB
        caller.append(asyncio.create_task(put(store, "k", LARGE)))
        with contextlib.suppress(asyncio.CancelledError):
            await caller[0]
        await store.rest()
        place = store.ground.blobs
        assert isinstance(place, Files)
        assert not store.ground.written
        assert not place.files.names(place.incoming)
        if (await store.list(BUCKET)).entries:
            assert await get(store, "k") == LARGE
        else:
            assert [names async for names in place.names() if names] == []


async def test_the_clients_key_is_nowhere(store: Store, tmp_path: Path) -> None:
    key = b"a key that nobody else may learn"
    await put(store, "small", SMALL, encryption=Encryption(key))
    await put(store, "large", LARGE, encryption=Encryption(key))
    await put(store, "own", b"nobody shall read this" * 9, encryption=Encryption())
    everything = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    for secret in (key, LARGE[:64], b"nobody shall read this"):
        assert secret not in everything


async def test_memory_does_not_grow_with_the_object(store: Store) -> None:
    writing = await store.begin()
    for _ in range(64):
        await writing.write(bytes(MIB))
        assert len(writing._held) <= 32 * 1024
    await store.commit(BUCKET, "k", writing, NewObject(OWNER))
    assert (await store.find(BUCKET, "k")).size == 64 * MIB


async def test_what_could_not_be_discarded_is_swept(store: Store, clock: ManualClock) -> None:
    place = store.ground.blobs
    assert isinstance(place, Files)
    stuck = store.ground.new_name()
    (place.incoming / stuck.hex()).write_bytes(b"left")
    writing = await store.begin(len(LARGE))
    await writing.write(LARGE)
    await clock.advance(3600)
    await Orphans(store.ground).one_pass()
    assert place.files.names(place.incoming) == [writing.name.hex()], "an upload may take its time"
    await store.commit(BUCKET, "slow", writing, NewObject(OWNER))
    assert await get(store, "slow") == LARGE


async def test_what_is_not_ours_is_left_alone(store: Store, clock: ManualClock) -> None:
    place = store.ground.blobs
    assert isinstance(place, Files)
    (place.blobs / "lost+found").mkdir()
    (place.blobs / "note.txt").write_text("mine")
    (place.blobs / "0000000").mkdir()
    (place.blobs / "0000000/also-mine").write_text("mine")
    await clock.advance(3600)
    await Orphans(store.ground).one_pass()
    assert (place.blobs / "note.txt").exists()
    assert (place.blobs / "0000000/also-mine").exists()
