"""What is asked of qemu-img, with formats that are said and never guessed.

https://www.qemu.org/docs/master/tools/qemu-img.html
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from mallee.domain.disk_image import Format
from mallee.kernel.errors import Fault, Kind
from mallee.nc.images.fetch import remove
from mallee.nc.images.sandbox import Bounds, Sandbox, run

_NOBODY: Final = 65534  # who a tool runs as that reads what a stranger wrote
_SOUND: Final = {0, 3}  # what `qemu-img check` ends with: all is well, or room is wasted
_CPU_SECONDS, _CPU_SECONDS_A_GIB = 30, 20  # for any image, and for each GiB that is written


class DiskTool(Protocol):
    """Makes disks out of disks."""

    async def flatten(
        self, source: Path, kind: Format, target: Path, *, most_bytes: int, compress: bool = False
    ) -> None:
        """Write the disk in `source` as a qcow2 file `target` that stands alone; it is removed when that fails.

        Args:
            source: read with the right of its owner; may stand on `source.parent / BASE`.
            kind: what `source` is.
            target: a new file, of whoever runs this.
            most_bytes: that the new file may have.
            compress: whether it should be small rather than quick.
        """

    async def overlay(self, base: Path, target: Path, virtual_bytes: int) -> None:
        """An empty disk of that size upon `base`, which lies beside it."""

    async def copy(self, source: Path, target: Path) -> None:
        """The same file again, shared where the file system can."""


BASE: Final = "base.qcow2"


class QemuImg:
    """The real one; implements `DiskTool`."""

    def __init__(self) -> None:
        self._sandbox = Sandbox()

    async def flatten(
        self, source: Path, kind: Format, target: Path, *, most_bytes: int, compress: bool = False
    ) -> None:
        stands_on = source.parent / BASE
        trusted = stands_on.exists()  # only our own disks have a base beside them, and keep their owner
        reads = [source, stands_on] if trusted else [source]
        bounds = Bounds(_CPU_SECONDS + _CPU_SECONDS_A_GIB * (1 + (most_bytes >> 30)), most_bytes)
        await asyncio.to_thread(_make, source, target, trusted=trusted)
        words = ("qemu-img", "convert", "-q", *(("-c",) if compress else ()), "-f", kind.value, "-O", "qcow2")
        try:
            if kind is Format.QCOW2 and not trusted:
                await self._check(source, bounds)
            await self._sandbox.run([*words, source, target], bounds, reads=reads, writes=[target])
            await asyncio.to_thread(_settle, target)
        except BaseException:
            remove(target)
            raise

    async def _check(self, source: Path, bounds: Bounds) -> None:
        """A converter takes what is missing for zeros; a checker tells. Raises Fault INVALID `bad-image`."""
        words = ("qemu-img", "check", "-q", "-f", "qcow2")
        try:
            await self._sandbox.run([*words, source], bounds, reads=[source], accepts=_SOUND)
        except Fault as fault:
            if fault.code != "tool-refused":
                raise
            raise Fault(
                Kind.INVALID,
                "The disk image is corrupt, or a part of it is missing.",
                why=fault.why,
                fix="Look at it with `qemu-img check`, and upload it again.",
                code="bad-image",
            ) from fault

    async def overlay(self, base: Path, target: Path, virtual_bytes: int) -> None:
        bounds = Bounds(_CPU_SECONDS, 1 << 30)
        # `-u` opens no base: its size is not asked for, and a name without a folder is beside whoever has it.
        words = ("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base.name)
        await asyncio.to_thread(target.touch, 0o600)
        await self._sandbox.run([*words, target, str(virtual_bytes)], bounds, writes=[target])

    async def copy(self, source: Path, target: Path) -> None:
        await run(["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)])


def _make(source: Path, target: Path, *, trusted: bool) -> None:
    target.touch(0o600, exist_ok=False)
    owner = source.stat() if trusted else None
    with suppress(PermissionError):  # who is not root shuts nothing in, and stays the owner
        if owner is not None:
            os.chown(target, owner.st_uid, owner.st_gid)
        else:
            os.chown(source, _NOBODY, _NOBODY)
            os.chown(target, _NOBODY, _NOBODY)


def _settle(target: Path) -> None:
    """Ours again, and on the disk."""
    with suppress(PermissionError):
        os.chown(target, os.geteuid(), os.getegid())
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
