"""Two hosts with the real driver each, as the conformance suite wants them.

Their guests have no disk and no kernel: the firmware finds nothing to boot, and for what a driver
promises that is a guest like any other, ready in a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

from mallee.cli.lab import Host
from mallee.domain.guest import Guest, GuestImage, GuestKey
from mallee.kernel.clock import SystemClock
from mallee.nc.drivers.libvirt.confidence import Confidence
from mallee.nc.drivers.libvirt.disks import Disks
from mallee.nc.drivers.libvirt.domain import Boot, Shape
from mallee.nc.drivers.libvirt.driver import Host as HostOptions
from mallee.nc.drivers.libvirt.driver import LibvirtDriver
from mallee.nc.drivers.libvirt.images import LocalImages
from mallee.nc.drivers.libvirt.network import NoNetwork
from mallee.nc.images.cache import ImageCache
from mallee.nc.images.tool import QemuImg
from tests.unit.nc.pretend_store import PretendStore

T = TypeVar("T")
SHAPE = Shape("qemu", "pc-q35-7.2", "qemu64")


class FromNothing(LocalImages):
    """Guests without an image have neither a kernel nor a disk."""

    async def boot(self, guest: Guest) -> Boot:
        return Boot()


class RealNodes:
    """`here` and `there`, for the suite that the fakes pass."""

    here: LibvirtDriver
    there: LibvirtDriver

    def __init__(
        self, hosts: Sequence[Host], folder: Path, confidence: Sequence[Confidence | None] = (None, None)
    ) -> None:
        self._hosts = hosts
        self._folder = folder
        self.store = PretendStore()
        self._confidence = confidence

    async def open(self) -> None:
        disks = await self._disks()
        self.here, self.there = [
            LibvirtDriver(
                HostOptions(host.uri, SHAPE, host.address, self._folder / host.netns, patience=0.3),
                "cloud-of-tests",
                disks,
                NoNetwork(),
                clock=SystemClock(),
                confidence=confidence,
            )
            for host, confidence in zip(self._hosts, self._confidence, strict=True)
        ]
        await self.here.open()
        await self.there.open()

    async def _disks(self) -> Disks:
        tool, folder = QemuImg(), self._folder / "image-cache"
        self._cache = ImageCache(folder, 1 << 30, self.store, tool, SystemClock())
        await self._cache.open()
        return Disks(FromNothing(folder), self._cache, tool)

    async def close(self) -> None:
        for driver in (self.here, self.there):
            for found in await driver.inventory():
                await driver.destroy(found.key)
        await self._let_go()

    async def go(self, work: Awaitable[T]) -> T:
        return await work

    async def restart(self) -> None:
        await self._let_go()
        await self.open()

    async def end(self, key: GuestKey) -> None:
        await self.here._domains.power_off(key)

    def image(self) -> GuestImage:
        """One MiB of which only the first bytes are written, so that a copy of it is soon made."""
        content = b"a disk that nothing boots from".ljust(1 << 20, b"\0")
        return GuestImage(root=self.store.put("disk", content, "raw", 1 << 20))

    def left_over(self) -> list[str]:
        homes = self._folder / self._hosts[0].netns
        return sorted(path.name for path in homes.glob("*/capture-*"))

    async def _let_go(self) -> None:
        await self._cache.close()
        await self.here.close()
        await self.there.close()
