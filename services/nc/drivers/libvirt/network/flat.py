"""The flat network of one host: made for the first guest, gone with the last."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from mallee.domain.guards import Guards
from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.state_folder import replace
from mallee.nc.drivers.libvirt.network import Metadata
from mallee.nc.drivers.libvirt.network.commands import run
from mallee.nc.drivers.libvirt.network.dhcp import MTU, Dhcp
from mallee.nc.drivers.libvirt.network.links import (
    is_there,
    lead_bridged_through_ip,
    mac_of,
    sweep_away,
    tunnel_of,
)
from mallee.nc.drivers.libvirt.network.plugs import Plug, Segment, plug_of
from mallee.nc.drivers.libvirt.network.rules import rules_of
from mallee.nc.metadata.server import ADDRESS

VNI: Final = 4201


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
                self._plugs[key] = plug_of(key, guest, port)
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
        others = sorted(mac_of(each) for each in {*self.peers, *guards.hosts} - {self.local})
        routed = mac_of(f"routed {self.local}")
        segment = Segment(self.bridge, self._tunnel, mac_of(self.local), tuple(others), routed)
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
        if not is_there(bridge):
            # The address never changes with the ports, so that no guest's memory of it goes stale.
            made = f"link add {bridge} address {mac_of(self.local)} type bridge"
            lines = [made, f"link set {bridge} mtu {MTU} up", *lines]
        if is_there(tunnel):
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
