"""Image files on a node, made ready once and shared by hard links.

Whoever boots from a file gets a link of his own to it, so a file that a guest stands on is never in
danger: what the cache drops is a name. Files are named by what they were made from; a name that ends
in `.part` is of work under way, and swept at the next start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from mallee.domain.boot_files import LARGEST_RAMDISK
from mallee.domain.disk_image import HEAD_BYTES, Format, inspect
from mallee.domain.guest import ImageFile
from mallee.kernel.clock import Clock
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.images.fetch import disk_fault, fetch, remove
from mallee.nc.images.objects import Objects
from mallee.nc.images.tool import DiskTool

TABLES: Final = 4 << 20  # bytes that a qcow2 file may have beside one in a thousand of its data
RESERVE: Final = 16 << 20  # bytes of the disk that are left to others
_LOOKS: Final = 3  # for a file that is dropped between its making and its use
_PART: Final = ".part"
_log = structlog.get_logger()


class _Kept(NamedTuple):
    used_ns: int
    path: Path
    blocks: int  # bytes on the disk


class ImageCache:
    """The image files of one node.

    Args:
        folder: its own, on the same file system as the guests' homes.
        bound: bytes that it may take together; what guests stand on stays, whatever the bound says.
        objects: where files come from.
        tool: makes disks ready.
        clock: dates use, waits.
    """

    def __init__(self, folder: Path, bound: int, objects: Objects, tool: DiskTool, clock: Clock) -> None:
        self._folder = folder
        self._bound = bound
        self._objects = objects
        self._tool = tool
        self._clock = clock
        self._making: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()  # one file at a time is made room for and converted

    async def open(self) -> None:
        """Make the folder; what an earlier process was at when it died is removed."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._folder.glob(f"*{_PART}"):
            left.unlink()

    async def close(self) -> None:
        """Stop fetching; what is ready stays."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def link(self, file: ImageFile, target: Path) -> None:
        """Give `target` the ready file: a disk as a plain qcow2, anything else as it is.

        Many who want one file wait for one fetch; it goes on when they have gone, for who asks next.

        Raises:
            Fault: the reason why there is none: CONFLICT `image-changed`, NOT_FOUND `no-such-image`, INVALID
                `bad-image` or `over-bounds`, NO_CAPACITY `storage-full` or `image-too-large`, UNAVAILABLE.
        """
        name = name_of(file)
        for _ in range(_LOOKS):
            if await asyncio.to_thread(self._link, name, target):
                return
            task = self._making.get(name)
            if task is None:
                task = self._making[name] = asyncio.ensure_future(self._make(file, self._folder / name))
                task.add_done_callback(lambda done: self._made(name, done))
            await asyncio.shield(task)
        # Made ready and not to be had: the place where it was wanted is gone, or the cache is far too small.
        raise Fault(
            Kind.CONFLICT,
            f"The image file {file.bucket}/{file.key} was made ready for nobody.",
            why=f"{target.parent} is gone, or other images drove it out at once.",
            fix="Try again; raise image_cache_mib in [nc] if it comes again.",
            code="image-lost",
        )

    def _made(self, name: str, task: asyncio.Task[None]) -> None:
        self._making.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("an image could not be made ready", image=name, why=str(error))

    def _link(self, name: str, target: Path) -> bool:
        ready = self._folder / name
        now = int(self._clock.now().timestamp() * 1e9)
        try:
            target.unlink(missing_ok=True)
            os.link(ready, target)
            os.utime(ready, ns=(now, now))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_fault(error) from error
        return True

    async def _make(self, file: ImageFile, ready: Path) -> None:
        if not file.format and file.size > LARGEST_RAMDISK:
            raise _too_large(file, LARGEST_RAMDISK, "a kernel or a ramdisk")
        if file.size > self._bound:
            raise _too_large(file, self._bound, "an image on this node")
        came = ready.with_name(ready.name + _PART)
        try:
            await self._need(file.size)
            await fetch(self._objects, file, came, self._clock)
            if file.format:
                async with self._turn:
                    came = await self._flattened(file, came)
            await asyncio.to_thread(_publish, came, ready)
        except OSError as error:
            raise disk_fault(error) from error
        finally:
            remove(came)

    async def _flattened(self, file: ImageFile, came: Path) -> Path:
        """The disk as a qcow2 file of our own; what came is gone."""
        flat = came.with_name(f"flat-{came.name}")
        try:
            found = await asyncio.to_thread(_inspected, came, Format(file.format))
            if file.virtual_bytes and found != file.virtual_bytes:
                raise _other_size(file, found)
            room = await self._need(min(file.size, found))
            most = min(room, found + found // 1000 + TABLES)
            await self._tool.flatten(came, Format(file.format), flat, most_bytes=most)
            # Our own tool wrote it, from what a stranger wrote: the same look as before.
            try:
                await asyncio.to_thread(_inspected, flat, Format.QCOW2)
            except BaseException:
                remove(flat)
                raise
        except ValueError as error:
            raise Fault(Kind.INVALID, f"{file.format!r} is no format of a disk.", code="bad-image") from error
        except Fault as fault:
            raise _named(file, fault) from fault
        finally:
            remove(came)
        return flat

    async def _need(self, size: int) -> int:
        """Make room for so many bytes; how many there are. Raises Fault NO_CAPACITY `storage-full`."""
        return await asyncio.to_thread(self._make_room, size)

    def _make_room(self, size: int) -> int:
        kept = sorted(self._unused())
        taken = sum(each.blocks for each in _measured(self._folder.iterdir()))
        for oldest in kept:
            if taken + size <= self._bound and free_bytes(self._folder) >= size:
                break
            oldest.path.unlink(missing_ok=True)
            taken -= oldest.blocks
            _log.info("an image that no guest uses was dropped", image=oldest.path.name, bytes=oldest.blocks)
        free = free_bytes(self._folder)
        if free < size:
            raise Fault(
                Kind.NO_CAPACITY,
                "The node has no room for the image.",
                why=f"It needs {size} bytes in {self._folder}, and {max(0, free)} are free.",
                fix="Make room on the node, or start the instance on another.",
                code=STORAGE_FULL,
            )
        return free

    def _unused(self) -> Iterable[_Kept]:
        """Files that nobody has a link to but the cache."""
        for path in self._folder.iterdir():
            if path.suffix != _PART and path.name not in self._making and path.stat().st_nlink == 1:
                yield from _measured([path])


def free_bytes(folder: Path) -> int:
    """What may be written there, beside what is left to others; below 0 for a full disk."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize - RESERVE


def name_of(file: ImageFile) -> str:
    """The cache's name of a file: the same for the same pinned object, and for nothing else."""
    pin = "\0".join(
        (
            file.bucket,
            file.key,
            file.version_id,
            str(file.size),
            file.etag,
            file.format,
            str(file.virtual_bytes),
        )
    )
    return sha256(pin.encode()).hexdigest()[:40]


def _measured(paths: Iterable[Path]) -> Iterable[_Kept]:
    for path in paths:
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        yield _Kept(found.st_mtime_ns, path, found.st_blocks * 512)


def _inspected(path: Path, declared: Format) -> int:
    """The size of the disk as a guest sees it. Raises Fault INVALID `bad-image`."""
    with path.open("rb") as file:
        return inspect(file.read(HEAD_BYTES), path.stat().st_size, declared).virtual_bytes


def _publish(made: Path, ready: Path) -> None:
    made.chmod(0o444)  # many stand on it, and QEMU reads it as whoever it is
    made.rename(ready)
    folder = os.open(ready.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _named(file: ImageFile, fault: Fault) -> Fault:
    what = f"The image file {file.bucket}/{file.key} cannot be used: {fault.what}"
    code = "bad-image" if fault.code == "tool-refused" else fault.code
    return Fault(fault.kind, what, why=fault.why, fix=fault.fix, code=code)


def _too_large(file: ImageFile, most: int, what: str) -> Fault:
    return Fault(
        Kind.NO_CAPACITY,
        f"The image file {file.bucket}/{file.key} is too large.",
        why=f"It has {file.size} bytes; {what} may have {most}.",
        fix="Make it smaller, or raise image_cache_mib in [nc].",
        code="image-too-large",
    )


def _other_size(file: ImageFile, found: int) -> Fault:
    return Fault(
        Kind.INVALID,
        "Its disk has another size.",
        why=f"{file.virtual_bytes} bytes were registered, {found} are found.",
        fix="Register the image again.",
        code="bad-image",
    )
