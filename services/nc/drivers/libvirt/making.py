"""How a guest gets everything that it stands on, and loses it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from mallee.domain.guest import Guest, GuestKey
from mallee.nc.drivers.libvirt.domain import Boot, Identity, Place, Shape, document
from mallee.nc.drivers.libvirt.domains import Domains
from mallee.nc.drivers.libvirt.network import Network

Furnish = Callable[[Guest, Path], Awaitable[Boot]]
"""(guest, its home) -> what it boots from; what is not in the home yet is put there."""


class Making:
    """Guests of one host, from nothing and back.

    Args:
        domains: of the host.
        shape: of its guests.
        furnish: puts what a guest boots from into its home.
        network: where guests are plugged in.
    """

    def __init__(
        self,
        domains: Domains,
        shape: Shape,
        furnish: Furnish,
        network: Network,
    ) -> None:
        self._domains = domains
        self._shape = shape
        self._furnish = furnish
        self._network = network

    async def document(self, me: Identity, *, incoming: bool = False) -> str:
        """Make ready what the guest stands on, and write its domain."""
        await self._domains.make_home(me.key)
        boot = await self._furnish(me.guest, self._domains.home(me.key))
        tap = await self._network.plug(me.key, me.guest)
        place = Place(str(self._domains.console_path(me.key)), self._network.bridge, tap)
        return document(me, self._shape, boot, place, incoming=incoming)

    async def unmake(self, key: GuestKey) -> None:
        """End the guest and take away everything of it."""
        await self._domains.remove(key)
        await self._network.unplug(key)
