"""What real guests boot from, in their homes: a root disk upon a shared base, a kernel, a ramdisk.

A guest's home is of one (instance, generation), and so is its root disk: on a folder that two hosts
share, neither copy of a guest that moves can lose the other's. Base, kernel and ramdisk are hard
links, so nothing that a guest stands on can be taken away under it.

A migration's destination begins with `boot` too: the same base, fetched where it is missing, under an
empty disk of the same size as the source's, for the source to fill by NBD.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from mallee.domain.disk_image import HEAD_BYTES, Format, inspect
from mallee.domain.guest import Guest, GuestImage
from mallee.kernel.errors import Fault, Kind
from mallee.nc.drivers.libvirt.domain import Boot
from mallee.nc.drivers.libvirt.images import KERNEL, RAMDISK, LocalImages
from mallee.nc.images.cache import ImageCache
from mallee.nc.images.fetch import disk_fault
from mallee.nc.images.tool import BASE, DiskTool

ROOT: Final = "root.qcow2"
_NEW: Final = "root.new"  # of a disk that is being made


class Disks:
    """The disks of one host's guests.

    Args:
        local: images that are files of the host.
        cache: images out of the object store.
        tool: makes disks.
    """

    def __init__(self, local: LocalImages, cache: ImageCache, tool: DiskTool) -> None:
        self.tool = tool
        self._local = local
        self._cache = cache

    async def boot(self, guest: Guest, home: Path) -> Boot:
        """What the guest boots from; whatever of it is not in its home yet is put there, the rest is left.

        Raises:
            Fault: why it cannot boot; see `ImageCache.link`. NOT_FOUND `no-such-image`; INVALID `root-too-small`.
        """
        if guest.image is None:
            return await self._local.boot(guest)
        if not has_disk(home):
            await self._furnish(guest.image, guest.root_gib, home)
        return _boot_of(home)

    async def _furnish(self, image: GuestImage, root_gib: int, home: Path) -> None:
        files = ((image.root, BASE), (image.kernel, KERNEL), (image.ramdisk, RAMDISK))
        for file, name in files:
            if file is not None and not (home / name).exists():
                await self._cache.link(file, home / name)
        if image.root is None:
            return
        size = await asyncio.to_thread(_size_upon, home / BASE, root_gib)
        new = home / _NEW
        try:
            new.unlink(missing_ok=True)
            await self.tool.overlay(home / BASE, new, size)
            new.rename(home / ROOT)
        except OSError as error:
            raise disk_fault(error) from error

    async def take_over(self, old: Path, new: Path) -> None:
        """Move what a stopped guest has into the home of its next generation; nothing to move is success."""
        await asyncio.to_thread(_take_over, old, new)


def has_disk(home: Path) -> bool:
    return (home / ROOT).exists()


def _boot_of(home: Path) -> Boot:
    here = {name: str(home / name) for name in (KERNEL, RAMDISK, ROOT, BASE) if (home / name).exists()}
    return Boot(here.get(KERNEL, ""), here.get(RAMDISK, ""), here.get(ROOT, ""), base=here.get(BASE, ""))


def _size_upon(base: Path, root_gib: int) -> int:
    with base.open("rb") as file:
        least = inspect(file.read(HEAD_BYTES), base.stat().st_size, Format.QCOW2).virtual_bytes
    asked = root_gib << 30
    if asked and asked < least:
        raise Fault(
            Kind.INVALID,
            f"A root disk of {root_gib} GiB is smaller than its image.",
            why=f"The image has {least} bytes.",
            fix="Ask for a larger one, or for none: it is then as large as the image.",
            code="root-too-small",
        )
    return asked or least


def _take_over(old: Path, new: Path) -> None:
    for name in (BASE, KERNEL, RAMDISK):
        if (old / name).exists() and not (new / name).exists():
            os.link(old / name, new / name)
    # Last: a home with a disk has everything that the disk stands on.
    if has_disk(old) and not has_disk(new):
        (old / ROOT).rename(new / ROOT)
