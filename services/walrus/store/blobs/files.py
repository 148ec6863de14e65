"""Blobs as files of this machine: the backend that needs nothing else.

    <root>/incoming/<name>       being written; swept at the start
    <root>/blobs/<time>/<name>   whole and durable

A file is written, synced, renamed, and its folder synced before the database names it. Folders go by
time, some 17 minutes each, so that what is written together shares the sync of one folder. Writing,
syncing and cold reading are done in threads: the loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from os import dup
from pathlib import Path

from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.kernel.file_system import Bytes, FileSystem, RealFiles
from mallee.kernel.threads import Threads
from mallee.walrus.front.call import FileRange
from mallee.walrus.store.blobs import BLOCK, Blob, Damaged, Missing, Piece, Sums, block_size, verify
from mallee.walrus.store.blobs.publishing import Publisher

_THREADS = 8
_SPARE = 8  # buffers that are kept for the next reader
_SPAN = 4  # blocks that are verified, then sent as one piece
_SLICE = 7  # digits of a name that name its folder
_FLUSH_EVERY = 32 << 20  # bytes that may wait in memory for the last sync
_NAME = re.compile("[0-9a-f]{32}")  # whatever else lies there is none of ours
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def unavailable(error: OSError, doing: str) -> Fault:
    """What the disk says, in three parts."""
    full = error.errno in _FULL
    fault = Fault(
        Kind.UNAVAILABLE,
        f"{doing}.",
        why="The disk is full." if full else f"The disk answers: {error.strerror or error}.",
        fix="Make room on the disk, then try again." if full else "Look at the kernel's log, then try again.",
        code=STORAGE_FULL if full else "blob-store",
    )
    fault.__cause__ = error
    return fault


class Files:
    """Blobs below `root`, which one process at a time uses."""

    def __init__(self, root: Path, files: FileSystem | None = None) -> None:
        self.files: FileSystem = files or RealFiles()
        self.flush_every = _FLUSH_EVERY
        self.incoming = root / "incoming"
        self.blobs = root / "blobs"
        self._threads = Threads(_THREADS, "blobs")
        # A sync may take seconds: who writes and reads meanwhile has threads of his own.
        self._syncers = Threads(_THREADS, "sync")
        self.run = self._threads.run
        self.sync = self._syncers.run
        self.publisher = Publisher(self.blobs, self.files, self._threads)
        self._spare: list[bytearray] = []

    @classmethod
    async def start(cls, root: Path, files: FileSystem | None = None) -> Files:
        """Make the folders, forget what was being written when the last process ended. Raises Fault UNAVAILABLE."""
        started = cls(root, files)
        try:
            await started.run(started._prepare, root)
        except OSError as error:
            await started.close()
            raise unavailable(error, f"The folder {root} cannot be used for objects") from error
        return started

    def create(self, name: bytes) -> FileIncoming:
        return FileIncoming(self, name)

    async def read(self, blob: Blob, first: int, last: int, *, sendfile: bool) -> AsyncGenerator[Piece, None]:
        descriptor = await self._open(blob)
        buffer = self._buffer()
        span = _SPAN if sendfile else 1
        try:
            for start in range(first // BLOCK, last // BLOCK + 1, span):
                end = min(start + span, last // BLOCK + 1)
                for block in range(start, end):
                    view = memoryview(buffer)[: block_size(blob, block)]
                    await self._fill(descriptor, blob, block, view)
                low, high = max(first, start * BLOCK), min(last + 1, end * BLOCK)
                if sendfile:
                    yield FileRange(dup(descriptor), low, high - low)
                else:
                    yield view[low - start * BLOCK : high - start * BLOCK]
        finally:
            self.files.close(descriptor)
            if len(self._spare) < _SPARE:
                self._spare.append(buffer)

    async def remove(self, names: Sequence[bytes]) -> None:
        try:
            await self.run(self._remove, names)
        except OSError as error:
            raise unavailable(error, "Garbage cannot be removed") from error

    async def names(self) -> AsyncIterator[list[bytes]]:
        try:
            folders = [self.blobs / name for name in sorted(await self.run(self.files.names, self.blobs))]
            for folder in (self.incoming, *folders):
                inside = await self.run(self._names_in, folder)
                yield [bytes.fromhex(name) for name in inside if _NAME.fullmatch(name)]
        except OSError as error:
            raise unavailable(error, "The blobs cannot be listed") from error

    async def close(self) -> None:
        self._syncers.close()
        self._threads.close()

    def path(self, name: bytes) -> Path:
        """Where a finished blob is."""
        text = name.hex()
        return self.blobs / text[:_SLICE] / text

    def _prepare(self, root: Path) -> None:
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        for folder in (*reversed(missing), self.incoming, self.blobs):
            self.files.make_folder(folder)
            self.files.fsync_folder(folder.parent)
        for name in self.files.names(self.incoming):
            self.files.unlink(self.incoming / name)

    async def _open(self, blob: Blob) -> int:
        try:
            return self.files.open(self.path(blob.name))
        except FileNotFoundError as error:
            raise Missing(blob.name) from error
        except OSError as error:
            raise unavailable(error, f"The content {blob.name.hex()} cannot be read") from error

    def _buffer(self) -> bytearray:
        return self._spare.pop() if self._spare else bytearray(BLOCK)

    async def _fill(self, descriptor: int, blob: Blob, block: int, view: memoryview) -> None:
        """Read a block, from memory at once or from the disk in a thread, and verify it."""
        at = block * BLOCK
        got = 0
        try:
            with suppress(BlockingIOError):
                got = self.files.read_cached(descriptor, [view], at)
            if got < len(view):
                got = await self.run(self.files.read_into, descriptor, [view], at)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise Damaged(blob.name, f"Block {block} cannot be read: {error.strerror}.") from error
            got = await self.run(self.files.read_into, descriptor, [view], at)
        verify(blob, block, view[:got])

    def _remove(self, names: Sequence[bytes]) -> None:
        for path in (path for name in names for path in (self.path(name), self.incoming / name.hex())):
            with suppress(FileNotFoundError):
                self.files.unlink(path)
        for folder in {self.path(name).parent for name in names}:
            # Whoever publishes into it just now makes it again.
            with suppress(OSError):
                self.files.remove_folder(folder)
                self.publisher.forget(folder)

    def _names_in(self, folder: Path) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return self.files.names(folder)
        return []


class FileIncoming:
    """A file that is being written."""

    def __init__(self, place: Files, name: bytes) -> None:
        self._place = place
        self._name = name
        self._path = place.incoming / name.hex()
        self._sums = Sums()
        self._descriptor: int | None = None
        self._begun = False
        self._unflushed = 0
        self._flushing: asyncio.Future[None] | None = None

    async def write(self, data: Bytes, before: Callable[[], None] | None = None) -> None:
        try:
            await self._place.run(self._write, data, before)
            self._unflushed += len(data)
            if self._unflushed >= self._place.flush_every:
                await self._flushed()
                self._flushing = asyncio.ensure_future(self._place.sync(self._flush))
        except OSError as error:
            raise unavailable(error, "The object was not written") from error

    async def finish(self) -> Blob:
        try:
            await self._flushed()
            await self._place.sync(self._sync)
            await self._place.publisher.publish(self._path, self._place.path(self._name))
        except OSError as error:
            raise unavailable(error, "The object was not written") from error
        return Blob(self._name, self._sums.size, self._sums.end())

    async def discard(self) -> None:
        if not self._begun:
            return
        # A sync under way uses the descriptor; how it ends matters to nobody any more.
        with suppress(OSError):
            await self._flushed()
        try:
            await self._place.run(self._unlink)
        except OSError as error:
            raise unavailable(error, "What was written cannot be removed") from error

    async def _flushed(self) -> None:
        """What was begun to be synced while more was written. Raises OSError: nobody else would ever hear of it."""
        flushing, self._flushing, self._unflushed = self._flushing, None, 0
        if flushing is not None:
            await flushing

    def _flush(self) -> None:
        assert self._descriptor is not None
        self._place.files.fsync(self._descriptor)

    def _write(self, data: Bytes, before: Callable[[], None] | None = None) -> None:
        if before is not None:
            before()
        if self._descriptor is None:
            self._begun = True
            self._descriptor = self._place.files.create(self._path)
        self._sums.add(data)
        self._place.files.write(self._descriptor, data)

    def _sync(self) -> None:
        if self._descriptor is None:
            self._write(b"")
        assert self._descriptor is not None
        self._place.files.fsync(self._descriptor)
        if self._sums.size >= self._place.flush_every:
            # What is so large would push out what others read; and memory that was just written is cheaper to
            # write again than memory that a hypervisor has to find first.
            self._place.files.let_go(self._descriptor)
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._place.files.close(descriptor)

    def _unlink(self) -> None:
        self._begun = False
        self._close()
        for path in (self._path, self._place.path(self._name)):
            with suppress(FileNotFoundError):
                self._place.files.unlink(path)
