"""How a guest gets everything that it stands on, and loses it again."""

from __future__ import annotations

from typing import NamedTuple

from mallee.domain.guest import GuestKey
from mallee.nc.drivers.libvirt.disks import Disks, has_disk
from mallee.nc.drivers.libvirt.domain import Identity, Place, Shape, document
from mallee.nc.drivers.libvirt.domains import Domains
from mallee.nc.drivers.libvirt.network import Network
from mallee.nc.images.fetch import disk_fault


class Inheritance(NamedTuple):
    """What a guest had from its last life here, and the document of that one, '' if it was gone."""

    key: GuestKey
    text: str


class Making:
    """Guests of one host, from nothing and back.

    Args:
        domains: of the host.
        shape: of its guests.
        disks: what they boot from.
        network: where guests are plugged in.
    """

    def __init__(self, domains: Domains, shape: Shape, disks: Disks, network: Network) -> None:
        self._domains = domains
        self._shape = shape
        self._disks = disks
        self._network = network

    async def document(self, me: Identity, *, incoming: bool = False) -> str:
        """Make ready what the guest stands on, and write its domain."""
        try:
            await self._domains.make_home(me.key)
        except OSError as error:
            raise disk_fault(error) from error
        boot = await self._disks.boot(me.guest, self._domains.home(me.key))
        tap = await self._network.plug(me.key, me.guest)
        place = Place(str(self._domains.console_path(me.key)), self._network.bridge, tap)
        return document(me, self._shape, boot, place, incoming=incoming)

    async def adopt(self, me: Identity) -> None:
        """Answer for a guest that is here already; nothing that it stands on is touched."""
        await self._network.plug(me.key, me.guest)

    async def inherit(self, key: GuestKey) -> Inheritance | None:
        """Give a new life the root disk of the last one here, which is off; None when there is none."""
        home = self._domains.home(key)
        for last in self._domains.earlier_homes(key):
            # A death between two of these steps may have left the disk with either life.
            if not has_disk(self._domains.home(last)) and not has_disk(home):
                continue
            await self._domains.make_home(key)
            await self._disks.take_over(self._domains.home(last), home)
            # Two lives of an instance have one UUID, which libvirt allows once.
            text = await self._domains.forget(last)
            await self._network.unplug(last)
            return Inheritance(last, text)
        return None

    async def give_back(self, key: GuestKey, inherited: Inheritance) -> None:
        """The new life came to nothing: the last one is as it was."""
        await self._domains.end(key)
        await self._disks.take_over(self._domains.home(key), self._domains.home(inherited.key))
        if inherited.text:
            await self._domains.daemon.call(lambda c: c.defineXML(inherited.text))
        await self.unmake(key)

    async def unmake(self, key: GuestKey) -> None:
        """End the guest and take away everything of it."""
        await self._domains.remove(key)
        await self._network.unplug(key)
