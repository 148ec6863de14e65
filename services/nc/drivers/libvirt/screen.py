"""What a guest shows: the picture on its screen, and what it writes on its serial line while it is followed."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

from mallee.domain.guest import GuestKey
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.nc.drivers.libvirt.domains import Domains

LARGEST_PICTURE: Final = 128 * 1024 * 1024  # bytes; 4K in three colours is 25 MB
LOOK_SECONDS: Final = 0.2
_AT_ONCE: Final = 64 * 1024


async def screenshot(domains: Domains, key: GuestKey) -> bytes:
    """The first screen of a running guest, as a JPEG.

    Raises:
        Fault: UNAVAILABLE `no-pillow`, `no-picture`.
    """
    points = await domains.on(key, _points)
    return await asyncio.to_thread(_jpeg, points)


def _points(domain: Any) -> bytes:
    """The screen as QEMU gives it, a portable pixmap."""
    stream = domain.connect().newStream(0)
    pieces: list[bytes] = []
    length = 0

    def take(_stream: Any, piece: bytes, _nothing: object) -> int:
        nonlocal length
        length += len(piece)
        pieces.append(piece)
        return -1 if length > LARGEST_PICTURE else 0

    domain.screenshot(stream, 0, 0)
    stream.recvAll(take, None)
    stream.finish()
    return b"".join(pieces)


def _jpeg(points: bytes) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise Fault(
            Kind.UNAVAILABLE,
            "This node cannot make pictures of screens.",
            why="The Python library Pillow is not installed.",
            fix="pip install 'mallee[libvirt]' on the node.",
            code="no-pillow",
        ) from error
    picture = io.BytesIO()
    try:
        with Image.open(io.BytesIO(points), formats=["PPM", "PNG"]) as screen:
            screen.convert("RGB").save(picture, "JPEG", quality=80)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise Fault(
            Kind.UNAVAILABLE, "The guest's screen has no picture.", why=str(error), code="no-picture"
        ) from error
    return picture.getvalue()


async def follow_console(domains: Domains, key: GuestKey, clock: Clock) -> AsyncGenerator[bytes, None]:
    """The last 64 KiB, then what is added; ends when the guest is not here any more."""
    path = domains.console_path(key)
    at = _Place(path)
    yield await domains.read_console(key)
    while path.parent.exists():
        if some := await asyncio.to_thread(at.read):
            yield some
        else:
            await clock.sleep(LOOK_SECONDS)


class _Place:
    """How far a file was read that grows, and that is moved away when it has become too long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._offset = self._look()

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def read(self) -> bytes:
        file, size = self._look()
        if file != self._file or size < self._offset:
            self._file, self._offset = file, 0
        try:
            with self._path.open("rb") as log:
                some = os.pread(log.fileno(), _AT_ONCE, self._offset)
        except FileNotFoundError:
            return b""
        self._offset += len(some)
        return some
