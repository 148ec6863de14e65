"""The DHCP server of a host's flat network: each guest gets its own address, and nobody else one."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mallee.nc.drivers.libvirt.network.plugs import Plug
from mallee.nc.metadata.server import ADDRESS

MTU: Final = 1450  # what a VXLAN leaves of 1,500
_PID_FILE: Final = "dnsmasq.pid"


class Dhcp:
    """A dnsmasq for the guests of one bridge; `serve` has it run.

    Args:
        bridge: where it listens.
        folder: for its files; another user reads them.
    """

    def __init__(self, bridge: str, folder: Path) -> None:
        self._bridge = bridge
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._subnets: frozenset[ipaddress.IPv4Network] = frozenset()

    async def serve(self, plugs: Iterable[Plug]) -> None:
        """Give exactly these guests their addresses."""
        there = list(plugs)
        await asyncio.to_thread(self._write_hosts, there)
        subnets = frozenset(plug.subnet for plug in there)
        if subnets == self._subnets and self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)  # files that are gone are only noticed so
            return
        await self.end()
        await self._start(subnets)
        self._subnets = subnets

    async def end(self) -> None:
        """Answer nobody any more; said again it is nothing."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    @property
    def _hosts(self) -> Path:
        return self._folder / "dhcp"

    def _write_hosts(self, plugs: list[Plug]) -> None:
        self._hosts.mkdir(parents=True, exist_ok=True)
        wanted = {plug.tap: f"{plug.mac},{plug.address},infinite\n" for plug in plugs}
        for path in self._hosts.iterdir():
            if path.name not in wanted:
                path.unlink()
        for name, line in wanted.items():
            (self._hosts / name).write_text(line)

    async def _start(self, subnets: frozenset[ipaddress.IPv4Network]) -> None:
        end_orphan(self._folder)
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
        self._process = await asyncio.create_subprocess_exec(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            f"--pid-file={self._folder / _PID_FILE}",
            "--port=0",
            "--leasefile-ro",
            "--dhcp-authoritative",
            f"--interface={self._bridge}",
            "--bind-dynamic",
            f"--dhcp-hostsdir={self._hosts}",
            f"--dhcp-option=option:mtu,{MTU}",
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )


def end_orphan(folder: Path) -> None:
    """The DHCP server of a node controller that was killed goes on, and holds the port."""
    pid_file = folder / _PID_FILE
    try:
        pid = int(pid_file.read_text())
        if str(pid_file) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return
