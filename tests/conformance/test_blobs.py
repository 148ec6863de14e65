"""Every place for blobs keeps the same promises: files here, and other stores through their S3."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import which

import pytest
from object_stores import BIN, moto, rclone, walrus

from mallee.kernel.errors import Fault
from mallee.walrus.front.call import FileRange
from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.store.blobs import BLOCK, Blob, Blobs, Damaged, Missing
from mallee.walrus.store.blobs.files import Files
from mallee.walrus.store.blobs.s3 import OtherS3, S3Place
from tests.unit.walrus.a_store import BUCKET, a_store
from tests.unit.walrus.workload import STEPS, judge

LONG = bytes(range(251)) * ((9 << 20) // 251) + b"and a bit"  # nine blocks and a bit: two objects elsewhere
STORES = {"moto": moto, "rclone": rclone, "walrus": walrus}
BINARIES = {"moto": "moto_server", "rclone": "rclone", "walrus": "python"}


@pytest.fixture(scope="module", params=["files", *STORES])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Place | Path]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "files":
        yield folder
        return
    if which(BINARIES[request.param], path=str(BIN)) is None:
        pytest.skip(f"{request.param} is not installed: pip install -e '.[bench]'")
    with STORES[request.param](folder) as other:
        yield other


@pytest.fixture
async def blobs(place: S3Place | Path) -> AsyncIterator[Blobs]:
    opened: Blobs = await (Files.start(place) if isinstance(place, Path) else OtherS3.start(place))
    yield opened
    async for names in opened.names():
        await opened.remove(names)
    await opened.close()


def name_of(number: int) -> bytes:
    return number.to_bytes(6) + bytes(10)


async def keep(blobs: Blobs, number: int, *data: bytes) -> Blob:
    incoming = blobs.create(name_of(number))
    for each in data:
        await incoming.write(each)
    return await incoming.finish()


async def read(blobs: Blobs, blob: Blob, first: int, last: int, *, sendfile: bool = False) -> bytes:
    found = bytearray()
    reading = blobs.read(blob, first, last, sendfile=sendfile)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(reading.aclose)
        async for piece in reading:
            if isinstance(piece, FileRange):
                found += os.pread(piece.fd, piece.length, piece.offset)
                os.close(piece.fd)
            else:
                found += piece
    return bytes(found)


async def all_names(blobs: Blobs) -> list[bytes]:
    return sorted([name async for names in blobs.names() for name in names])


@pytest.mark.parametrize("sendfile", [False, True])
async def test_what_was_written_is_read(blobs: Blobs, sendfile: bool) -> None:
    blob = await keep(blobs, 1, LONG[:7], LONG[7 : 3 * BLOCK], LONG[3 * BLOCK :])
    assert blob.size == len(LONG)
    whole = len(LONG) - 1
    for first, last in (
        (0, whole),
        (0, 0),
        (BLOCK - 1, BLOCK),
        (8 * BLOCK - 3, 8 * BLOCK + 3),
        (whole, whole),
    ):
        assert await read(blobs, blob, first, last, sendfile=sendfile) == LONG[first : last + 1]


async def test_a_blob_may_be_empty(blobs: Blobs) -> None:
    blob = await keep(blobs, 1)
    assert (blob.size, blob.crcs) == (0, b"")
    assert await all_names(blobs) == [name_of(1)]


async def test_nobody_sees_what_is_not_finished_or_was_discarded(blobs: Blobs) -> None:
    incoming = blobs.create(name_of(1))
    await incoming.write(LONG)
    with pytest.raises((Missing, Damaged)):
        await read(blobs, Blob(name_of(1), 4, b"\0" * 4), 0, 3)
    await incoming.discard()
    await incoming.discard()
    finished = blobs.create(name_of(2))
    await finished.write(b"data")
    await finished.finish()
    await finished.discard()
    never = blobs.create(name_of(3))
    await never.discard()
    assert await all_names(blobs) == []


async def test_blobs_are_listed_and_removed(blobs: Blobs) -> None:
    kept = [await keep(blobs, number << 20, b"x" * number) for number in range(1, 6)]
    assert await all_names(blobs) == [blob.name for blob in kept]
    await blobs.remove([kept[1].name, kept[3].name, name_of(77)])
    assert await all_names(blobs) == [kept[0].name, kept[2].name, kept[4].name]
    with pytest.raises(Missing):
        await read(blobs, kept[1], 0, 0)
    await blobs.remove([kept[1].name])


async def test_what_is_not_what_was_written_is_found(blobs: Blobs) -> None:
    blob = await keep(blobs, 1, LONG)
    crcs = blob.crcs[:4] + bytes(4) + blob.crcs[8:]
    wrong = blob._replace(crcs=crcs)
    assert await read(blobs, wrong, 0, BLOCK - 1) == LONG[:BLOCK]
    with pytest.raises(Damaged):
        await read(blobs, wrong, 0, 2 * BLOCK)
    assert await read(blobs, wrong, 2 * BLOCK, len(LONG) - 1) == LONG[2 * BLOCK :]
    longer = blob._replace(size=blob.size + 1)
    with pytest.raises((Damaged, Fault)):
        await read(blobs, longer, longer.size - 1, longer.size - 1)


async def test_many_at_once(blobs: Blobs) -> None:
    async def one(number: int) -> None:
        data = bytes([number]) * (number * 50_000)
        blob = await keep(blobs, number, data)
        assert await read(blobs, blob, 0, len(data) - 1) == data

    await asyncio.gather(*[one(number) for number in range(1, 17)])
    assert len(await all_names(blobs)) == 16


async def test_a_reader_keeps_what_it_began_to_read(blobs: Blobs) -> None:
    if not isinstance(blobs, Files):
        pytest.skip(
            "another store is asked anew for each piece; the store removes nothing that is being read"
        )
    blob = await keep(blobs, 1, LONG)
    reading = blobs.read(blob, 0, len(LONG) - 1, sendfile=False)
    found = bytearray(await anext(reading))  # type: ignore[arg-type]
    await blobs.remove([blob.name])
    async for piece in reading:
        assert not isinstance(piece, FileRange)
        found += piece
    assert found == LONG


async def test_a_store_that_is_away_is_unavailable(tmp_path: Path) -> None:
    from mallee.kernel.secrets_box import Secret

    with pytest.raises(Fault) as caught:
        await OtherS3.start(S3Place("127.0.0.1:1", "blobs", "k", Secret("s" * 8), secure=False))
    assert (caught.value.kind, caught.value.code) == ("unavailable", "blob-store")


async def test_the_whole_store_on_each_of_them(blobs: Blobs, tmp_path: Path) -> None:
    async with a_store(tmp_path / "store", blobs=blobs, durable=True) as store:
        for done, step in enumerate(STEPS):
            await judge(store, done)
            await step.run(store)
        await judge(store, len(STEPS))
        await Garbage(store.ground, grace=-1).one_pass()
        await judge(store, len(STEPS))
        for entry in (await store.list(BUCKET)).entries:
            await store.delete(BUCKET, entry.key)
        await Garbage(store.ground, grace=-1).one_pass()
        assert await all_names(blobs) == []
