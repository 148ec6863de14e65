"""A captured disk becomes one object, however often it is asked for and whoever goes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace

import pytest

from mallee.domain.disk_image import Format
from mallee.domain.guest import GuestKey, ImageFile
from mallee.kernel.errors import Fault, Kind
from mallee.nc.captures import Captures, Wanted
from mallee.nc.driver import CapturedDisk, CaptureProgress, Driver
from mallee.nc.images.objects import Stored
from tests.unit.nc.pretend_store import PretendStore

WANTED = Wanted("n1", GuestKey("i-1", 1), "cap-1", "mallee-images-1", "disk", "123456789012")
CONTENT = b"\1" * 100_000


class Host:
    """As much of a driver as captures ask for; `gate` holds them until a test opens it."""

    def __init__(self) -> None:
        self.captured: list[str] = []
        self.open = 0
        self.gate = asyncio.Event()
        self.fault: Fault | None = None

    async def capture(
        self, key: GuestKey, capture_id: str
    ) -> AsyncGenerator[CaptureProgress | CapturedDisk, None]:
        assert key == WANTED.key
        self.captured.append(capture_id)
        self.open += 1
        try:
            yield CaptureProgress(0, 200_000)
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            yield CapturedDisk(Format.QCOW2, 1 << 20, len(CONTENT), _pieces)
        finally:
            self.open -= 1


async def _pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(CONTENT), 10_000):
        yield CONTENT[at : at + 10_000]


class Room:
    def __init__(self) -> None:
        self.host, self.store = Host(), PretendStore()
        self.captures = Captures(self.store)

    async def follow(self, wanted: Wanted = WANTED) -> list[CaptureProgress | ImageFile]:
        driver: Driver = self.host  # type: ignore[assignment]
        return [word async for word in self.captures.follow(driver, wanted)]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    yield made
    await made.captures.close()
    assert made.host.open == 0


async def test_a_capture_tells_how_far_it_is_and_what_it_wrote(room: Room) -> None:
    room.host.gate.set()
    *told, file = await room.follow()

    assert isinstance(file, ImageFile)
    assert (file.size, file.format, file.virtual_bytes) == (len(CONTENT), "qcow2", 1 << 20)
    assert room.store.objects["mallee-images-1", "disk"][0] == CONTENT
    steps = [word.done for word in told if isinstance(word, CaptureProgress)]
    assert steps == sorted(steps)
    assert all(isinstance(word, CaptureProgress) and word.done <= word.total for word in told)


async def test_asked_twice_it_is_one_and_asked_after_its_end_it_is_done(room: Room) -> None:
    both = asyncio.gather(room.follow(), room.follow())
    await asyncio.sleep(0)  # noqa: TID251 - one turn, so that both have asked
    room.host.gate.set()
    first, second = await both
    assert first[-1] == second[-1]
    assert (await room.follow())[-1] == first[-1]
    # A process that knows nothing of it finds the object.
    again = Captures(room.store)
    driver: Driver = room.host  # type: ignore[assignment]
    assert [word async for word in again.follow(driver, WANTED)][-1] == first[-1]
    assert room.host.captured == ["cap-1"]


async def test_it_goes_on_when_its_asker_has_gone(room: Room) -> None:
    driver: Driver = room.host  # type: ignore[assignment]
    async with aclosing(room.captures.follow(driver, WANTED)) as words:
        await anext(words)
    room.host.gate.set()
    assert isinstance((await room.follow())[-1], ImageFile)
    assert room.host.captured == ["cap-1"]


async def test_a_failure_is_told_and_the_next_try_begins_anew(room: Room) -> None:
    room.host.fault = Fault(Kind.NO_CAPACITY, "The disk is full.", code="storage-full")
    room.host.gate.set()
    with pytest.raises(Fault) as caught:
        await room.follow()
    assert caught.value.code == "storage-full"
    assert room.store.objects == {}
    room.host.fault = None
    assert isinstance((await room.follow())[-1], ImageFile)


async def test_what_the_store_heard_and_we_did_not_is_no_failure(room: Room) -> None:
    class Deaf(PretendStore):
        async def write(
            self, bucket: str, key: str, owner: str, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
        ) -> Stored:
            await super().write(bucket, key, owner, headers, pieces)
            raise Fault(Kind.UNAVAILABLE, "The answer was lost.", code="cut-off")

    room.captures = Captures(Deaf())
    room.host.gate.set()
    assert isinstance((await room.follow())[-1], ImageFile)


async def test_another_object_is_never_written_over(room: Room) -> None:
    room.store.objects["mallee-images-1", "disk"] = (b"somebody's", {})
    with pytest.raises(Fault) as caught:
        await room.follow()
    assert caught.value.code == "object-exists"
    assert room.host.captured == []


async def test_an_id_stands_for_one_capture(room: Room) -> None:
    running = asyncio.ensure_future(room.follow())
    await asyncio.sleep(0)  # noqa: TID251 - one turn, so that it runs
    with pytest.raises(Fault) as caught:
        await room.follow(replace(WANTED, name="another"))
    assert caught.value.code == "capture-mismatch"
    room.host.gate.set()
    await running
