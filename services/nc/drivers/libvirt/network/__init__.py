"""The flat network of a cluster: one segment on which guests of all its nodes and their hosts meet.

A bridge on each host, joined by VXLAN tunnels to the hosts that are named. A guest's card is led to the
metadata service by its own port, gets its address by DHCP and can use no other; what its security
groups do not let through reaches nobody (`rules`). The bridge, its rules and its DHCP server are there
while a guest is, and gone with the last.
"""

from __future__ import annotations

from typing import Protocol

from mallee.domain.guards import Guards
from mallee.domain.guest import Guest, GuestKey


class Network(Protocol):
    """Where guests are plugged in."""

    bridge: str

    @property
    def guards(self) -> bool:
        """Whether it enforces security groups."""

    async def plug(self, key: GuestKey, guest: Guest) -> str:
        """Make everything ready for the guest's card; returns the name that its host side must have."""

    async def unplug(self, key: GuestKey) -> None:
        """Take everything of it away. One that was never plugged in is unplugged already."""

    async def describe(self, key: GuestKey, guest: Guest) -> None:
        """Another description of a guest is in force."""

    async def guard(self, guards: Guards) -> None:
        """Enforce these groups for all guests, in place of what was enforced."""


class Metadata(Protocol):
    """What opens a port for each guest."""

    async def open(self, key: GuestKey, guest: Guest) -> int: ...

    def describe(self, key: GuestKey, guest: Guest) -> None: ...

    async def close(self, key: GuestKey) -> None: ...


class NoNetwork:
    """Guests without a card, or on a bridge that somebody else looks after."""

    guards = False

    def __init__(self, bridge: str = "") -> None:
        self.bridge = bridge

    async def plug(self, key: GuestKey, guest: Guest) -> str:  # noqa: ARG002 - the Protocol's shape
        return ""

    async def unplug(self, key: GuestKey) -> None:
        pass

    async def describe(self, key: GuestKey, guest: Guest) -> None:
        pass

    async def guard(self, guards: Guards) -> None:
        pass
