"""One file out of the store, over a line that may break: what has come is kept, and the rest is asked for."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import aclosing
from pathlib import Path
from typing import Final

import structlog

from mallee.domain.guest import ImageFile
from mallee.kernel.clock import Clock
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.images.objects import Objects

TRIES: Final = 12  # in a row that bring nothing: together longer than a restart of the store takes
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0  # seconds between them
_log = structlog.get_logger()


async def fetch(objects: Objects, file: ImageFile, target: Path, clock: Clock) -> None:
    """Write the file into `target`, which is new; it is on the disk when this returns.

    Raises:
        Fault: CONFLICT `image-changed`, NOT_FOUND `no-such-image`, NO_CAPACITY `storage-full`; UNAVAILABLE
            when the store cannot be reached for long.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        await _fill(objects, file, descriptor, clock)
        await asyncio.to_thread(os.fsync, descriptor)
    except OSError as error:
        raise disk_fault(error) from error
    finally:
        os.close(descriptor)


async def _fill(objects: Objects, file: ImageFile, descriptor: int, clock: Clock) -> None:
    have = tries = 0
    wait = _FIRST_WAIT
    # An empty file is asked for too: whether it is the pinned one only the store can say.
    while have < file.size or not tries:
        before = have
        try:
            async with aclosing(objects.read(file, have)) as pieces:
                async for piece in pieces:
                    if have + len(piece) > file.size:
                        raise _too_long(file)
                    await asyncio.to_thread(_write, descriptor, piece)
                    have += len(piece)
            if have == file.size:
                return
            raise _broken(file, have)
        except Fault as fault:
            tries, wait = (1, _FIRST_WAIT) if have > before else (tries + 1, wait)
            if fault.kind is not Kind.UNAVAILABLE or tries >= TRIES:
                raise
            _log.info(
                "an image is asked for again", bucket=file.bucket, key=file.key, have=have, why=str(fault)
            )
        await clock.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


def _write(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def remove(path: Path) -> None:
    """A file that need not be there."""
    path.unlink(missing_ok=True)


def disk_fault(error: OSError) -> Fault:
    """What a call to the file system means for an instance."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Fault(
            Kind.NO_CAPACITY,
            "The node's disk is full.",
            why=str(error),
            fix="Make room on it, or start the instance on another node.",
            code=STORAGE_FULL,
        )
    return Fault(
        Kind.UNAVAILABLE,
        "The node's disk failed.",
        why=str(error),
        fix="Look at the node's kernel log.",
        code="disk-failed",
    )


def _too_long(file: ImageFile) -> Fault:
    return Fault(
        Kind.CONFLICT,
        f"The store sent more of {file.bucket}/{file.key} than it has.",
        why=f"It has {file.size} bytes.",
        code="image-changed",
    )


def _broken(file: ImageFile, have: int) -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        f"The store ended {file.bucket}/{file.key} too early.",
        why=f"{have} of {file.size} bytes came.",
        fix="It is asked for again.",
        code="cut-off",
    )
