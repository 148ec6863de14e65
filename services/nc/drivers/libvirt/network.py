"""The flat network of a cluster: one segment on which guests of all its nodes and their hosts meet.

A bridge on each host, joined by VXLAN tunnels to the hosts that are named. A guest's card is led to the
metadata service by its own port, gets its address by DHCP and can use no other; what it sends that
is not its own is dropped before it reaches anybody. The bridge, its rules and its DHCP server are
there while a guest is, and gone with the last.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.errors import Fault, Kind
from mallee.nc.metadata.server import ADDRESS

VNI: Final = 4201
_MTU: Final = 1450  # what a VXLAN leaves of 1,500
_TABLE: Final = "mallee"
_is_mac = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII).fullmatch


class Network(Protocol):
    """Where guests are plugged in."""

    bridge: str

    async def plug(self, key: GuestKey, guest: Guest) -> str:
        """Make everything ready for the guest's card; returns the name that its host side must have."""

    async def unplug(self, key: GuestKey) -> None:
        """Take everything of it away. One that was never plugged in is unplugged already."""


class Metadata(Protocol):
    """What opens a port for each guest."""

    async def open(self, key: GuestKey, guest: Guest) -> int: ...

    async def close(self, key: GuestKey) -> None: ...


class NoNetwork:
    """Guests without a card, or on a bridge that somebody else looks after."""

    def __init__(self, bridge: str = "") -> None:
        self.bridge = bridge

    async def plug(self, key: GuestKey, guest: Guest) -> str:  # noqa: ARG002 - the Protocol's shape
        return ""

    async def unplug(self, key: GuestKey) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Plug:
    """One guest's place on the bridge."""

    tap: str
    mac: str
    address: str
    subnet: ipaddress.IPv4Network
    port: int  # of its metadata, on the host


@dataclass(slots=True)
class FlatNetwork:
    """The network of one host.

    Args:
        bridge: its name; made when the first guest comes.
        local: the host's address for tunnels.
        peers: the addresses of the other hosts.
        folder: for the DHCP server's files.
        metadata: of the guests.
    """

    bridge: str
    local: str
    peers: tuple[str, ...]
    folder: Path
    metadata: Metadata
    _plugs: dict[GuestKey, Plug] = field(default_factory=dict)
    _dhcp: asyncio.subprocess.Process | None = None
    _subnets: frozenset[ipaddress.IPv4Network] = frozenset()
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def _tunnel(self) -> str:
        return f"{self.bridge[:12]}-vx"

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

    async def let_go(self) -> None:
        """The node controller goes; guests keep their network, but for what it alone answers."""
        await self._end_dhcp()

    async def _make_bridge(self) -> None:
        """All in one call of each tool: starting one costs more than what it does."""
        bridge, tunnel = self.bridge, self._tunnel
        lines = [f"addr replace {ADDRESS}/32 dev {bridge}"]
        if not _is_there(bridge):
            # The address never changes with the ports, so that no guest's memory of it goes stale.
            made = f"link add {bridge} address {_mac_of(self.local)} type bridge"
            lines = [made, f"link set {bridge} mtu {_MTU} up", *lines]
        if _is_there(tunnel):
            await _run("ip", "-batch", "-", stdin="\n".join(lines))
            return
        lines += [
            f"link add {tunnel} type vxlan id {VNI} local {self.local} dstport 4789",
            f"link set {tunnel} master {bridge} up",
        ]
        await _run("ip", "-batch", "-", stdin="\n".join(lines))
        flood = [f"fdb append 00:00:00:00:00:00 dev {tunnel} dst {peer}" for peer in self.peers]
        await _run("bridge", "-batch", "-", stdin="\n".join(flood))

    async def _apply(self) -> None:
        subnets = frozenset(plug.subnet for plug in self._plugs.values())
        if subnets - self._subnets:
            lines = [f"addr replace {subnet[1]}/{subnet.prefixlen} dev {self.bridge}" for subnet in subnets]
            await _run("ip", "-batch", "-", stdin="\n".join(lines))
        rules = "\n".join(
            rules_of(self.bridge, self._tunnel, _mac_of(self.local), list(self._plugs.values()))
        )
        await _run("nft", "-f", "-", stdin=rules)
        self._write_hosts()
        if subnets != self._subnets or self._dhcp is None or self._dhcp.returncode is not None:
            await self._end_dhcp()
            await self._start_dhcp(subnets)
            self._subnets = subnets

    def _write_hosts(self) -> None:
        hosts = self.folder / "dhcp"
        hosts.mkdir(parents=True, exist_ok=True)
        wanted = {plug.tap: f"{plug.mac},{plug.address},infinite\n" for plug in self._plugs.values()}
        for path in hosts.iterdir():
            if path.name not in wanted:
                path.unlink()
        for name, line in wanted.items():
            (hosts / name).write_text(line)
        if self._dhcp is not None and self._dhcp.returncode is None:
            self._dhcp.send_signal(signal.SIGHUP)  # files that are gone are only noticed so

    @property
    def _pid_file(self) -> Path:
        return self.folder / "dnsmasq.pid"

    async def _start_dhcp(self, subnets: frozenset[ipaddress.IPv4Network]) -> None:
        _end_orphan(self._pid_file)
        options = [
            word
            for subnet in subnets
            for word in (
                f"--dhcp-range=set:{subnet.network_address},{subnet.network_address},static,{subnet.netmask}",
                f"--dhcp-option=tag:{subnet.network_address},option:router,{subnet[1]}",
                (
                    f"--dhcp-option=tag:{subnet.network_address},option:classless-static-route,"
                    f"{ADDRESS}/32,0.0.0.0,0.0.0.0/0,{subnet[1]}"
                ),
            )
        ]
        self._dhcp = await asyncio.create_subprocess_exec(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            f"--pid-file={self._pid_file}",
            "--port=0",
            "--leasefile-ro",
            "--dhcp-authoritative",
            f"--interface={self.bridge}",
            "--bind-dynamic",
            f"--dhcp-hostsdir={self.folder / 'dhcp'}",
            f"--dhcp-option=option:mtu,{_MTU}",
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def _end_dhcp(self) -> None:
        process, self._dhcp = self._dhcp, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    async def _remove(self) -> None:
        await self._end_dhcp()
        self._subnets = frozenset()
        for family in ("bridge", "ip", "inet"):
            await _run("nft", "delete", "table", family, _TABLE, check=False)
        for link in (self._tunnel, self.bridge):
            await _run("ip", "link", "del", link, check=False)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)


def rules_of(bridge: str, tunnel: str, bridge_mac: str, plugs: list[Plug]) -> Iterator[str]:
    """The whole of our rules, in nft's words, to be put in place of what was there in one step.

    Every word is ours or was checked to be an address; none is a name that a user chose.
    """
    for family in ("bridge", "ip", "inet"):
        yield f"table {family} {_TABLE} {{}}"
        yield f"delete table {family} {_TABLE}"
    yield f"table bridge {_TABLE} {{ chain arriving {{ type filter hook prerouting priority -300;"
    for plug in plugs:
        own = f'iifname "{plug.tap}"'
        yield f"{own} ether saddr != {plug.mac} drop"
        yield f"{own} ether type != {{ ip, arp }} drop"
        yield f"{own} ether type ip ip saddr != {{ {plug.address}, 0.0.0.0 }} drop"
        yield f"{own} ether type arp arp saddr ether != {plug.mac} drop"
        yield f"{own} ether type arp arp saddr ip != {{ {plug.address}, 0.0.0.0 }} drop"
        yield f"{own} ether type ip udp sport 67 drop"
        # To this host's service, whoever's address the guest still remembers from the host it came from.
        yield f"{own} ip daddr {ADDRESS} tcp dport 80 ether daddr set {bridge_mac} meta mark set {plug.port} accept"
        yield f"{own} ip daddr {ADDRESS} drop"
    # Each host answers for the gateway and the metadata itself, and serves DHCP to its own guests alone.
    gateways = sorted({str(plug.subnet[1]) for plug in plugs} | {ADDRESS})
    yield f'iifname "{tunnel}" ether type arp arp daddr ip {{ {", ".join(gateways)} }} drop'
    yield f'iifname "{tunnel}" ether type ip udp dport {{ 67, 68 }} drop'
    yield from ("}", "}")
    yield f"table ip {_TABLE} {{ chain arriving {{ type nat hook prerouting priority -100;"
    for plug in plugs:
        yield f'iifname "{bridge}" meta mark {plug.port} ip daddr {ADDRESS} tcp dport 80 dnat to {ADDRESS}:{plug.port}'
    yield from ("}", "}")
    # Of the host itself a guest reaches what is meant for it, and nothing else that happens to listen.
    yield f"table inet {_TABLE} {{ chain host {{ type filter hook input priority 0;"
    yield f'iifname != "{bridge}" accept'
    yield "ct state established,related accept"
    yield "meta mark != 0 accept"
    yield "udp dport 67 accept"
    yield "ip protocol icmp accept"
    yield "drop"
    yield from ("}", "}")


def _plug_of(key: GuestKey, guest: Guest, port: int) -> Plug:
    if not _is_mac(guest.mac_address):
        raise Fault(Kind.INVALID, f"{guest.mac_address!r} is no address of a card.", code="bad-guest")
    try:
        address = ipaddress.IPv4Address(guest.private_address)
        subnet = ipaddress.IPv4Network(guest.subnet_cidr)
    except ValueError as error:
        raise Fault(Kind.INVALID, "The guest has no address.", why=str(error), code="bad-guest") from error
    return Plug(tap_of(key), guest.mac_address, str(address), subnet, port)


def tap_of(key: GuestKey) -> str:
    """The host side of a guest's card: a name of at most 15 characters."""
    return "mt" + sha256(f"{key.instance_id}.{key.generation}".encode()).hexdigest()[:12]


def _is_there(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


def _mac_of(address: str) -> str:
    """A locally administered address, one for each host."""
    digits = sha256(f"bridge {address}".encode()).hexdigest()
    return "02:" + ":".join(digits[at : at + 2] for at in range(0, 10, 2))


def _end_orphan(pid_file: Path) -> None:
    """The DHCP server of a node controller that was killed goes on, and holds the port."""
    try:
        pid = int(pid_file.read_text())
        if str(pid_file) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return


async def _run(*command: str, stdin: str = "", check: bool = True) -> None:
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise Fault(
            Kind.UNAVAILABLE,
            f"{command[0]} is not installed.",
            fix="apt install iproute2 nftables dnsmasq-base",
            code="missing-tools",
        ) from error
    if check and done.returncode:
        raise Fault(
            Kind.UNAVAILABLE,
            "The host's network could not be changed.",
            why=f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()[:500]}",
            fix="The node controller must run as root; run: mallee doctor",
            code="network-failed",
        )
