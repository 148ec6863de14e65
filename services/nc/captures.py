"""Root disks of guests on their way into the object store.

A capture is known by its id: said again it is the one that runs, or the one that is done, which the
object itself tells. It goes on when its asker has gone, and dies with the process; what was not yet
an object is then begun anew by whoever asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from mallee.domain.guest import GuestKey, ImageFile
from mallee.kernel.errors import Fault, Kind
from mallee.nc.driver import CapturedDisk, CaptureProgress, Driver
from mallee.nc.images.objects import Objects, Stored

CAPTURE: Final = "x-amz-meta-mallee-capture"  # on the object: by which capture it was written
_FORMAT: Final = "x-amz-meta-mallee-format"
_VIRTUAL: Final = "x-amz-meta-mallee-virtual-bytes"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be captured, and where it goes. `owner` is an account."""

    node: str
    key: GuestKey
    capture_id: str
    bucket: str
    name: str
    owner: str


@dataclass(slots=True)
class _Capture:
    wanted: Wanted
    progress: CaptureProgress = field(default_factory=lambda: CaptureProgress(0, 0))
    told: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[ImageFile] | None = None

    def tell(self, done: int, total: int) -> None:
        self.progress = CaptureProgress(done, total)
        told, self.told = self.told, asyncio.Event()
        told.set()


class Captures:
    """The captures of one process."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._under_way: dict[str, _Capture] = {}

    async def follow(
        self, driver: Driver, wanted: Wanted
    ) -> AsyncGenerator[CaptureProgress | ImageFile, None]:
        """How far it is, whenever that changes, and at last the object that was written.

        Raises:
            Fault: CONFLICT `capture-mismatch` for an id that stands for something else, `object-exists`;
                what the driver's `capture` raises, what the store says.
        """
        one = self._under_way.get(wanted.capture_id)
        if one is None:
            one = self._under_way[wanted.capture_id] = _Capture(wanted)
            one.task = asyncio.ensure_future(self._run(driver, one))
            one.task.add_done_callback(lambda done: self._ended(wanted.capture_id, done))
        if one.wanted != wanted:
            raise _conflict("This id is of another capture.", "Make a new one.", "capture-mismatch")
        assert one.task is not None
        while not one.task.done():
            told = asyncio.ensure_future(one.told.wait())
            try:
                await asyncio.wait((told, one.task), return_when=asyncio.FIRST_COMPLETED)
            finally:
                told.cancel()
            if not one.task.done():
                yield one.progress
        yield await one.task

    async def close(self) -> None:
        """Break off whatever is under way."""
        tasks = [one.task for one in self._under_way.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, capture_id: str, task: asyncio.Task[ImageFile]) -> None:
        self._under_way.pop(capture_id, None)
        if not task.cancelled():
            task.exception()  # whoever asks again hears of it, or tries anew

    async def _run(self, driver: Driver, one: _Capture) -> ImageFile:
        done = await self._done(one.wanted)
        if done is not None:
            return done
        async with aclosing(driver.capture(one.wanted.key, one.wanted.capture_id)) as words:
            async for word in words:
                if isinstance(word, CapturedDisk):
                    return await self._upload(one, word)
                one.tell(word.done, 2 * word.total)  # the upload is the other half of the way
        raise AssertionError("a capture ended without a disk")

    async def _upload(self, one: _Capture, disk: CapturedDisk) -> ImageFile:
        wanted = one.wanted
        headers = {
            "content-type": "application/octet-stream",
            CAPTURE: wanted.capture_id,
            _FORMAT: disk.format.value,
            _VIRTUAL: str(disk.virtual_bytes),
        }
        pieces = _counted(one, disk)
        try:
            stored = await self._objects.write(wanted.bucket, wanted.name, wanted.owner, headers, pieces)
        except Fault:
            # An earlier try may have been heard by the store and not by us.
            done = await self._done(wanted)
            if done is None:
                raise
            return done
        return _file(wanted, stored, disk.format.value, disk.virtual_bytes)

    async def _done(self, wanted: Wanted) -> ImageFile | None:
        """The object, if this capture has written it already."""
        stored = await self._objects.stat(wanted.bucket, wanted.name)
        if stored is None:
            return None
        headers = {name.lower(): value for name, value in stored.headers.items()}
        if headers.get(CAPTURE) != wanted.capture_id:
            raise _conflict(
                f"There is an object {wanted.bucket}/{wanted.name} already.",
                "Choose another name.",
                "object-exists",
            )
        return _file(wanted, stored, headers.get(_FORMAT, ""), int(headers.get(_VIRTUAL, "0")))


async def _counted(one: _Capture, disk: CapturedDisk) -> AsyncIterator[bytes]:
    total = one.progress.total or 2 * disk.size
    sent = 0
    async for piece in disk.pieces():
        yield piece
        sent += len(piece)
        one.tell(total // 2 + total // 2 * sent // max(1, disk.size), total)


def _file(wanted: Wanted, stored: Stored, kind: str, virtual_bytes: int) -> ImageFile:
    return ImageFile(
        wanted.bucket, wanted.name, stored.version_id, stored.size, stored.etag, kind, virtual_bytes
    )


def _conflict(what: str, fix: str, code: str) -> Fault:
    return Fault(Kind.CONFLICT, what, fix=fix, code=code)
