"""The calls a program makes to keep bytes in files, as the only thing that may make them.

What a disk does - it fills, it fails, power is cut between two calls - happens at one of these
calls; so a test that stands in for them can make each of it happen at each place. They block:
whoever uses them on an event loop does so in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Bytes = bytes | bytearray | memoryview


class FileSystem(Protocol):
    """A file system; every method raises OSError as the call of that name does."""

    def create(self, path: Path) -> int:
        """A new file for writing, its owner's alone; a descriptor."""

    def open(self, path: Path) -> int:
        """A file for reading; a descriptor."""

    def write(self, descriptor: int, data: Bytes) -> None:
        """All of `data`, behind what was written before."""

    def read_into(self, descriptor: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        """Fill the buffers from `offset`; how many bytes there were."""

    def read_cached(self, descriptor: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        """As `read_into`, of what is in memory. BlockingIOError instead of waiting for the disk."""

    def fsync(self, descriptor: int) -> None:
        """What was written is durable. After a failure it must be written anew, never synced again."""

    def let_go(self, descriptor: int) -> None:
        """What is synced need not stay in memory."""

    def close(self, descriptor: int) -> None: ...

    def rename(self, old: Path, new: Path) -> None:
        """Durable after `fsync_folder` of both folders."""

    def unlink(self, path: Path) -> None: ...

    def make_folder(self, path: Path) -> None:
        """Durable after `fsync_folder` of its parent. Nothing happens if it is there."""

    def remove_folder(self, path: Path) -> None: ...

    def fsync_folder(self, path: Path) -> None: ...

    def names(self, path: Path) -> list[str]:
        """What is in a folder, in no order."""


class RealFiles:
    """The machine's."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def write(self, descriptor: int, data: Bytes) -> None:
        written = os.write(descriptor, data)
        while written < len(data):
            data = memoryview(data)[written:]
            written = os.write(descriptor, data)

    def read_into(self, descriptor: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        return os.preadv(descriptor, buffers, offset)

    def read_cached(self, descriptor: int, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        return os.preadv(descriptor, buffers, offset, os.RWF_NOWAIT)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def let_go(self, descriptor: int) -> None:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        path.rmdir()

    def fsync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, path: Path) -> list[str]:
        return [entry.name for entry in path.iterdir()]
