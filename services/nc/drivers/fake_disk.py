"""What a pretend guest has on its root disk: computed from who it is, never stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from mallee.domain.disk_image import Format
from mallee.domain.guest import Guest
from mallee.nc.driver import CapturedDisk

DISK_BYTES: Final = 1 << 20


def captured(guest: Guest) -> CapturedDisk:
    """Its root disk: a raw image of one mebibyte, the same for the same guest, that nothing boots from."""
    words = f"A pretend disk of {guest.instance_id}, made of {guest.image_id}.\n".encode()
    content = words.ljust(DISK_BYTES, b"\0")

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    return CapturedDisk(Format.RAW, DISK_BYTES, DISK_BYTES, pieces)
