"""The links of a host's flat network: how they are called, whether they are there, and how they go."""

from __future__ import annotations

import asyncio
import shutil
import socket
from hashlib import sha256
from pathlib import Path
from typing import Final

from mallee.kernel.errors import Fault, Kind
from mallee.nc.drivers.libvirt.network.commands import run
from mallee.nc.drivers.libvirt.network.dhcp import end_orphan
from mallee.nc.drivers.libvirt.network.rules import FAMILIES

_BRIDGED: Final = Path("/proc/sys/net/bridge")


def is_there(link: str) -> bool:
    """Whether this network namespace has a link of that name."""
    try:
        socket.if_nametoindex(link)
    except OSError:
        return False
    return True


def mac_of(address: str) -> str:
    """A locally administered address, one for each host."""
    digits = sha256(f"bridge {address}".encode()).hexdigest()
    return "02:" + ":".join(digits[at : at + 2] for at in range(0, 10, 2))


def tunnel_of(bridge: str) -> str:
    return f"{bridge[:12]}-vx"


async def sweep_away(bridge: str, folder: Path) -> bool:
    """Take a host's flat network away, whoever made it; whether there was any of it."""
    there = is_there(bridge) or await asyncio.to_thread(folder.exists)
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
