"""Images that lie on the host: what a guest boots from."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from mallee.domain.guest import Guest
from mallee.kernel.errors import Fault, Kind
from mallee.nc.drivers.libvirt.domain import Boot

KERNEL: Final = "vmlinuz"
RAMDISK: Final = "initrd"
_BUILT_IN: Final = "builtin:"


class LocalImages:
    """The folder of a host's images; one called `tiny` is what `mallee image build-tiny` made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def boot(self, guest: Guest) -> Boot:
        """Kernel and ramdisk of the guest's image.

        Raises:
            Fault: NOT_FOUND `no-such-image`.
        """
        return await asyncio.to_thread(self._boot, guest)

    def _boot(self, guest: Guest) -> Boot:
        # Only built-in images are files of the host: no name that a user chose is ever a path.
        name = guest.image_location.removeprefix(_BUILT_IN)
        home = self._folder / name
        known = guest.image_location.startswith(_BUILT_IN) and name.isalnum()
        if not known or not (home / KERNEL).exists():
            raise Fault(
                Kind.NOT_FOUND,
                f"This node cannot boot {guest.image_id}.",
                why=f"Its image, {guest.image_location}, is not in {self._folder}.",
                fix=f"Make it there with: mallee image build-tiny --to {self._folder}/tiny",
                code="no-such-image",
            )
        return Boot(kernel=str(home / KERNEL), ramdisk=str(home / RAMDISK))
