"""A guest's root disk as it is at one moment, whole and alone, in a file that can go into the store.

Of a running guest QEMU itself makes the copy, by a backup job that libvirt keeps for us: what the guest
writes meanwhile goes to its disk and not into the copy. Of a guest that is off the disk is copied before
it may start again. Either copy is then flattened and compressed. All files lie in the guest's home, by
names that are swept when the node controller starts.
https://libvirt.org/formatbackup.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary
from xml.etree.ElementTree import Element, SubElement, tostring

import libvirt

from mallee.domain.disk_image import HEAD_BYTES, Format, inspect
from mallee.domain.guest import GuestKey, Phase
from mallee.kernel.clock import Clock
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.driver import CapturedDisk, CaptureProgress, no_root_disk
from mallee.nc.drivers.libvirt.disks import ROOT, has_disk
from mallee.nc.drivers.libvirt.domains import Domains, Seen
from mallee.nc.images.cache import TABLES, free_bytes
from mallee.nc.images.fetch import disk_fault, remove
from mallee.nc.images.objects import CHUNK_BYTES
from mallee.nc.images.tool import BASE, DiskTool

_PREFIX: Final = "capture-"
_GLANCE_SECONDS: Final = 0.2


class Capturing:
    """Captures of the guests of one host.

    Args:
        domains: of the host.
        tool: flattens.
        clock: paces looks at a job.
    """

    def __init__(self, domains: Domains, tool: DiskTool, clock: Clock) -> None:
        self._domains = domains
        self._tool = tool
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def at_rest(self, instance_id: str) -> AsyncIterator[None]:
        """Nobody copies the disk of a guest that is off while this is held; whoever starts it holds it."""
        lock = self._locks.setdefault(instance_id, asyncio.Lock())
        async with lock:
            yield

    async def sweep(self, key: GuestKey) -> None:
        """End and remove what an earlier process was at with this guest."""
        left = await asyncio.to_thread(lambda: list(self._domains.home(key).glob(f"{_PREFIX}*")))
        if left:
            await self._end_job(key)
            for path in left:
                remove(path)

    async def capture(
        self, key: GuestKey, capture_id: str
    ) -> AsyncGenerator[CaptureProgress | CapturedDisk, None]:
        home = self._domains.home(key)
        name = _PREFIX + sha256(capture_id.encode()).hexdigest()[:16]
        copy, made = home / f"{name}.copy", home / f"{name}.qcow2"
        try:
            size = await self._need_room(key, home)
            yield CaptureProgress(0, size)
            async for done in self._copied(key, copy):
                yield CaptureProgress(min(done, size) // 2, size)
            yield CaptureProgress(size // 2, size)
            await self._tool.flatten(copy, Format.QCOW2, made, most_bytes=size + TABLES, compress=True)
            remove(copy)
            yield await asyncio.to_thread(_captured, made)
        except FileNotFoundError as error:
            raise Fault(
                Kind.CONFLICT,
                f"{key.instance_id} ended while its disk was captured.",
                fix="Nothing is left of it to be captured.",
                code="ended",
            ) from error
        except OSError as error:
            raise disk_fault(error) from error
        finally:
            remove(copy)
            remove(made)

    async def _need_room(self, key: GuestKey, home: Path) -> int:
        """How many bytes the disk has at most when it stands alone."""
        await self._domains.need(key)
        if not has_disk(home):
            raise no_root_disk(key)
        size = await asyncio.to_thread(_size_of, home)
        if (free := free_bytes(home)) < 2 * size:
            raise Fault(
                Kind.NO_CAPACITY,
                f"The node has no room to capture {key.instance_id}.",
                why=f"Its disk has {size} bytes, a copy is made and flattened, and {max(0, free)} are free.",
                fix="Make room on the node.",
                code=STORAGE_FULL,
            )
        return size

    async def _copied(self, key: GuestKey, copy: Path) -> AsyncGenerator[int, None]:
        """Make the copy; yields how many bytes of it there are, from time to time."""
        async with self.at_rest(key.instance_id):
            seen = await self._domains.need(key)
            if seen.phase is Phase.STOPPED:
                await self._tool.copy(self._domains.home(key) / ROOT, copy)
                return
            _refuse_in_transit(seen)
            await self._domains.on(key, lambda domain: domain.backupBegin(_order(copy), None, 0))
        complete = False
        try:
            while (done := await self._domains.on(key, _progress)) is not None:
                yield done
                await self._clock.sleep(_GLANCE_SECONDS)
            await self._domains.on(key, _check_job)
            complete = True
        finally:
            if not complete:
                await self._end_job(key)

    async def _end_job(self, key: GuestKey) -> None:
        with suppress(Fault):  # there may be none, and no guest
            await self._domains.on(key, lambda domain: domain.abortJob())


def _refuse_in_transit(seen: Seen) -> None:
    if seen.me.incoming or seen.me.outgoing:
        raise Fault(
            Kind.CONFLICT,
            f"{seen.me.key.instance_id} is being moved.",
            why="Its disk belongs to a migration until that has ended.",
            fix="Capture it again afterwards.",
            code="in-transit",
        )


def _order(target: Path) -> str:
    root = Element("domainbackup", {"mode": "push"})
    disk = SubElement(SubElement(root, "disks"), "disk", {"name": "vda", "backup": "yes", "type": "file"})
    SubElement(disk, "driver", {"type": "qcow2"})
    SubElement(disk, "target", {"file": str(target)})
    return tostring(root, encoding="unicode")


def _progress(domain: Any) -> int | None:
    """How many bytes are copied; None when no job runs."""
    now = domain.jobStats(0)
    if not now.get("type", 0):
        return None
    return int(now.get("disk_processed", 0))


def _check_job(domain: Any) -> None:
    """Raises Fault when the last job did not end well."""
    ended = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if ended.get("success"):
        return
    words = str(ended.get("errmsg") or "The hypervisor gives no reason.")
    full = "No space left" in words
    raise Fault(
        Kind.NO_CAPACITY if full else Kind.UNAVAILABLE,
        "The disk of the running guest could not be copied.",
        why=words,
        fix="Make room on the node." if full else "Try again, or stop the instance first.",
        code=STORAGE_FULL if full else "copy-failed",
    )


def _size_of(home: Path) -> int:
    return sum((home / name).stat().st_blocks * 512 for name in (ROOT, BASE) if (home / name).exists())


def _captured(made: Path) -> CapturedDisk:
    size = made.stat().st_size
    with made.open("rb") as file:
        found = inspect(file.read(HEAD_BYTES), size, Format.QCOW2)
    return CapturedDisk(Format.QCOW2, found.virtual_bytes, size, lambda: _pieces(made))


async def _pieces(made: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(made.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield piece
    finally:
        file.close()
