"""The flat network of a cluster: one segment on which guests of all its nodes and their hosts meet.

A bridge on each host, joined by VXLAN tunnels to the hosts that are named. A guest's card is led to the
metadata service by its own port, gets its address by DHCP and can use no other; what its security
groups do not let through reaches nobody (`rules`). The bridge, its rules and its DHCP server are there
while a guest is, and gone with the last.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec

from mallee.domain.guards import Guards
from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.state_folder import replace
from mallee.nc.drivers.libvirt.commands import run
from mallee.nc.drivers.libvirt.dhcp import MTU, Dhcp, end_orphan
from mallee.nc.drivers.libvirt.rules import FAMILIES, Plug, Segment, is_mac, rules_of
from mallee.nc.metadata.server import ADDRESS

VNI: Final = 4201
_BRIDGED: Final = Path("/proc/sys/net/bridge")


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


@dataclass(slots=True)
class FlatNetwork:
    """The network of one host.

    Args:
        bridge: its name; made when the first guest comes.
        local: the host's address for tunnels.
        peers: the addresses of the other hosts; empty for those that the cluster controller names.
        folder: for the DHCP server's files, and the groups that were enforced last.
        metadata: of the guests.
    """

    bridge: str
    local: str
    peers: tuple[str, ...]
    folder: Path
    metadata: Metadata
    _plugs: dict[GuestKey, Plug] = field(default_factory=dict)
    _guards: Guards | None = None  # until they are known: what the folder says, else that nobody may anything
    _dhcp: Dhcp = field(init=False)
    _subnets: frozenset[ipaddress.IPv4Network] = frozenset()
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._dhcp = Dhcp(self.bridge, self.folder)

    @property
    def guards(self) -> bool:
        return True

    @property
    def _tunnel(self) -> str:
        return tunnel_of(self.bridge)

    async def plug(self, key: GuestKey, guest: Guest) -> str:
        async with self._turn:
            if key not in self._plugs:
                await self._make_bridge()
                port = await self.metadata.open(key, guest)
                self._plugs[key] = _plug_of(key, guest, port)
                await self._apply()
            return self._plugs[key].tap

    async def unplug(self, key: GuestKey) -> None:
        async with self._turn:
            if self._plugs.pop(key, None) is None:
                return
            if self._plugs:
                await self._apply()
            else:
                await self._remove()
            await self.metadata.close(key)

    async def describe(self, key: GuestKey, guest: Guest) -> None:
        self.metadata.describe(key, guest)

    async def guard(self, guards: Guards) -> None:
        async with self._turn:
            before = self._known_guards()
            if guards == before:
                return
            self._guards = guards
            if self._plugs:
                try:
                    await self._reach(guards.hosts, before.hosts)
                    await self._enforce()
                except BaseException:
                    self._guards = before  # whoever says it again is heard again
                    raise

    def _known_guards(self) -> Guards:
        """What was said last, or what a node controller before this one had heard."""
        if self._guards is None:
            try:
                self._guards = msgspec.json.decode(self._guards_file.read_bytes(), type=Guards)
            except (FileNotFoundError, msgspec.MsgspecError):
                self._guards = Guards()
        return self._guards

    @property
    def _guards_file(self) -> Path:
        return self.folder / "guards.json"

    async def _enforce(self) -> None:
        guards = self._known_guards()
        others = sorted(_mac_of(each) for each in {*self.peers, *guards.hosts} - {self.local})
        routed = _mac_of(f"routed {self.local}")
        segment = Segment(self.bridge, self._tunnel, _mac_of(self.local), tuple(others), routed)
        rules = "\n".join(rules_of(segment, list(self._plugs.values()), guards))
        await run("nft", "-f", "-", stdin=rules)
        await asyncio.to_thread(self._keep, guards)

    def _keep(self, guards: Guards) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self._guards_file, msgspec.json.encode(guards))

    async def let_go(self) -> None:
        """The node controller goes; guests keep their network, but for what it alone answers."""
        await self._dhcp.end()

    async def _make_bridge(self) -> None:
        """All in one call of each tool: starting one costs more than what it does."""
        bridge, tunnel = self.bridge, self._tunnel
        await lead_bridged_through_ip()
        lines = [
            f"link set {bridge} type bridge nf_call_iptables 1",
            f"addr replace {ADDRESS}/32 dev {bridge}",
        ]
        if not _is_there(bridge):
            # The address never changes with the ports, so that no guest's memory of it goes stale.
            made = f"link add {bridge} address {_mac_of(self.local)} type bridge"
            lines = [made, f"link set {bridge} mtu {MTU} up", *lines]
        if _is_there(tunnel):
            await run("ip", "-batch", "-", stdin="\n".join(lines))
            return
        lines += [
            f"link add {tunnel} type vxlan id {VNI} local {self.local} dstport 4789",
            f"link set {tunnel} master {bridge} up",
        ]
        await run("ip", "-batch", "-", stdin="\n".join(lines))
        await self._reach(self.peers or self._known_guards().hosts)

    async def _reach(self, hosts: Collection[str], before: Collection[str] = ()) -> None:
        """Have what is for everybody, and for whose place nobody knows yet, sent to these hosts."""
        if self.peers:
            hosts, before = self.peers, ()
        others = set(hosts) - {self.local}
        entry = f"00:00:00:00:00:00 dev {self._tunnel} dst"
        lines = [f"fdb del {entry} {gone}" for gone in sorted(set(before) - others - {self.local})]
        lines += [f"fdb append {entry} {peer}" for peer in sorted(others - set(before))]
        if lines:
            # A tunnel that a node controller before this one has made may know them: that is no mistake.
            await run("bridge", "-force", "-batch", "-", stdin="\n".join(lines), check=False)

    async def _apply(self) -> None:
        subnets = frozenset(plug.subnet for plug in self._plugs.values())
        if subnets - self._subnets:
            lines = [f"addr replace {subnet[1]}/{subnet.prefixlen} dev {self.bridge}" for subnet in subnets]
            await run("ip", "-batch", "-", stdin="\n".join(lines))
        self._subnets = subnets
        await self._enforce()
        await self._dhcp.serve(self._plugs.values())

    async def _remove(self) -> None:
        await self._dhcp.end()
        self._subnets = frozenset()
        await sweep_away(self.bridge, self.folder)


def _plug_of(key: GuestKey, guest: Guest, port: int) -> Plug:
    if not is_mac(guest.mac_address):
        raise Fault(Kind.INVALID, f"{guest.mac_address!r} is no address of a card.", code="bad-guest")
    try:
        address = ipaddress.IPv4Address(guest.private_address)
        subnet = ipaddress.IPv4Network(guest.subnet_cidr)
    except ValueError as error:
        raise Fault(Kind.INVALID, "The guest has no address.", why=str(error), code="bad-guest") from error
    return Plug(key.instance_id, tap_of(key), guest.mac_address, str(address), subnet, port)


def tap_of(key: GuestKey) -> str:
    """The host side of a guest's card: a name of at most 15 characters."""
    return "mt" + sha256(f"{key.instance_id}.{key.generation}".encode()).hexdigest()[:12]


def _is_there(link: str) -> bool:
    try:
        socket.if_nametoindex(link)
    except OSError:
        return False
    return True


def _mac_of(address: str) -> str:
    """A locally administered address, one for each host."""
    digits = sha256(f"bridge {address}".encode()).hexdigest()
    return "02:" + ":".join(digits[at : at + 2] for at in range(0, 10, 2))


def tunnel_of(bridge: str) -> str:
    return f"{bridge[:12]}-vx"


async def sweep_away(bridge: str, folder: Path) -> bool:
    """Take a host's flat network away, whoever made it; whether there was any of it."""
    there = _is_there(bridge) or await asyncio.to_thread(folder.exists)
    end_orphan(folder)
    for family in FAMILIES:
        await run("nft", "delete", "table", family, bridge, check=False)
    for link in (tunnel_of(bridge), bridge):
        await run("ip", "link", "del", link, check=False)
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return there


async def lead_bridged_through_ip() -> None:
    """Have the kernel know the connections of what is bridged, on our bridge alone.

    The module begins with that switched on for every bridge of the host: those are not ours to change.

    Raises:
        Fault: UNAVAILABLE `no-br-netfilter`: without it no security group could be kept.
    """
    if _BRIDGED.exists():
        return
    if not await run("modprobe", "br_netfilter", check=False) or not _BRIDGED.exists():
        raise Fault(
            Kind.UNAVAILABLE,
            "Guests cannot be guarded on this host.",
            why="The kernel has no br_netfilter, by which it knows the connections of what is bridged.",
            fix="Install the kernel's modules and run: modprobe br_netfilter",
            code="no-br-netfilter",
        )
    for name in ("iptables", "ip6tables", "arptables"):
        (_BRIDGED / f"bridge-nf-call-{name}").write_text("0")
