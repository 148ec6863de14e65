"""Hosts and guests that are network namespaces: everything of a real network, and no machine in it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SystemEntropy
from mallee.nc.drivers.libvirt.network.flat import FlatNetwork
from mallee.nc.metadata.server import MetadataServer
from tests.unit.nc.pretend import a_guest

T = TypeVar("T")
SUBNET: Final = "172.31.0.0/20"
PATIENCE: Final = 30.0
SOON: Final = 0.7  # seconds after which a packet that has not come was dropped
_CLONE_NEWNET: Final = 0x40000000
_names = count(100)
_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Why there can be none here; '' when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "bridge", "nft", "dnsmasq"):
        if subprocess.run(["which", tool], capture_output=True, check=False).returncode:
            return f"{tool} is not installed: apt install iproute2 nftables dnsmasq-base"
    if not Path("/proc/sys/net/bridge").exists():
        return "the kernel has no br_netfilter"
    return ""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _enter(name: str) -> None:
    with Path(f"/run/netns/{name}").open("rb") as namespace:
        if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")


def inside(name: str, work: Callable[[], T]) -> T:
    """Run `work` in a thread that is in that namespace; sockets that it makes stay there."""
    with ThreadPoolExecutor(1, initializer=_enter, initargs=(name,)) as pool:
        return pool.submit(work).result()


@dataclass(eq=False)
class NetHost:
    """One host: a thread with an event loop in the host's namespace, where its network lives."""

    netns: str
    address: str
    folder: Path
    peers: tuple[str, ...]
    guests: dict[str, NetGuest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self.begin()

    def _live(self) -> None:
        _enter(self.netns)
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def begin(self) -> None:
        """What a node controller has when it starts."""
        self.metadata = MetadataServer(SystemClock(), SystemEntropy(), head_seconds=1.0)
        self.network = FlatNetwork("mallee0", self.address, self.peers, self.folder / "net", self.metadata)

    def do(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(PATIENCE)

    def restart(self) -> None:
        """The node controller ends and another one begins; guests are plugged in as they were."""
        self.do(self.network.let_go())
        self.do(self.metadata.close_all())
        self.begin()
        for guest in self.guests.values():
            self.do(self.network.plug(guest.key, guest.guest))

    def add(self, number: int, **described: Any) -> NetGuest:
        """A guest with the address of this number, plugged in and configured as by DHCP."""
        instance_id = f"i-{number}"
        guest = a_guest(
            instance_id,
            mac_address=f"02:00:00:00:00:{number:02x}",
            private_address=f"172.31.0.{number}",
            subnet_cidr=SUBNET,
            **described,
        )
        made = NetGuest(self, f"{self.netns}g{number}", GuestKey(instance_id, 1), guest)
        self.guests[instance_id] = made
        made.begin()
        return made

    def said(self, *command: str) -> str:
        words = ["ip", "netns", "exec", self.netns, *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        for guest in list(self.guests.values()):
            guest.end()
        with suppress(Exception):
            self.do(self.network.let_go())
        self.do(self.metadata.close_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


@dataclass(eq=False)
class NetGuest:
    """A guest: a namespace whose only card is plugged into its host's bridge."""

    host: NetHost
    netns: str
    key: GuestKey
    guest: Guest

    @property
    def address(self) -> str:
        return self.guest.private_address

    def begin(self) -> None:
        ip("netns", "add", self.netns)
        tap = self.host.do(self.host.network.plug(self.key, self.guest))
        mac = self.guest.mac_address
        veth = ("type", "veth", "peer", "name", "eth0", "netns", self.netns)
        ip("link", "add", tap, "netns", self.host.netns, *veth)
        ip("-n", self.host.netns, "link", "set", tap, "master", "mallee0", "up")
        ip("-n", self.netns, "link", "set", "eth0", "address", mac, "mtu", "1450", "up")
        ip("-n", self.netns, "link", "set", "lo", "up")
        ip("-n", self.netns, "addr", "add", f"{self.address}/20", "dev", "eth0")
        ip("-n", self.netns, "route", "add", "169.254.169.254/32", "dev", "eth0")

    def end(self) -> None:
        self.host.guests.pop(self.key.instance_id, None)
        ip("netns", "del", self.netns)
        self.host.do(self.host.network.unplug(self.key))

    # What a guest does.

    def run(self, *command: str) -> str:
        words = ["ip", "netns", "exec", self.netns, *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def open(self, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A socket of the guest."""
        made = inside(self.netns, lambda: socket.socket(socket.AF_INET, kind, protocol))
        made.settimeout(SOON)
        return made

    def listen(self, port: int) -> socket.socket:
        server = self.open()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen()
        return server

    def connect(self, address: str, port: int) -> socket.socket:
        """Raises TimeoutError where packets are dropped."""
        line = self.open()
        try:
            line.connect((address, port))
        except OSError:
            line.close()
            raise
        return line

    def reaches(self, other: NetGuest, port: int) -> bool:
        """Whether a TCP connection can be made; somebody listens."""
        with other.listen(port):
            try:
                self.connect(other.address, port).close()
            except TimeoutError:
                return False
        return True

    def tells(self, other: NetGuest, port: int) -> bool:
        """Whether a UDP packet arrives."""
        with other.open(socket.SOCK_DGRAM) as ear, self.open(socket.SOCK_DGRAM) as mouth:
            ear.bind(("0.0.0.0", port))
            mouth.sendto(b"hello", (other.address, port))
            try:
                return ear.recv(16) == b"hello"
            except TimeoutError:
                return False

    def pings(self, address: str) -> bool:
        """Whether an echo is answered. RFC 792."""
        with self.open(socket.SOCK_RAW, socket.IPPROTO_ICMP) as line:
            name = next(_names)  # another one each time: an exchange that was let begin goes on for a while
            total = 0x0800 + name + 1
            line.sendto(struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, name, 1), (address, 0))
            until = SystemClock().monotonic() + SOON
            try:
                while SystemClock().monotonic() < until:
                    if line.recv(1500)[20] == 0:
                        return True
            except TimeoutError:
                pass
        return False

    def asks(self, request: bytes) -> bytes:
        """What its metadata service answers."""
        with self.connect("169.254.169.254", 80) as line:
            line.settimeout(PATIENCE)
            line.sendall(request)
            said = b""
            while some := line.recv(65536):
                said += some
        return said


@contextmanager
def net_hosts(folder: Path) -> Iterator[tuple[NetHost, NetHost]]:
    """Two hosts that reach each other; nothing of them is left."""
    prefix = f"mn{os.getpid() % 100_000}"
    names, addresses = (f"{prefix}a", f"{prefix}b"), ("10.92.0.1", "10.92.0.2")
    with ExitStack() as stack:
        for name in names:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        veth = ("type", "veth", "peer", "name", "wire", "netns", names[1])
        ip("link", "add", "wire", "netns", names[0], *veth)
        for name, address in zip(names, addresses, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
        made = []
        for number, name in enumerate(names):
            host = NetHost(name, addresses[number], folder / name, (addresses[1 - number],))
            stack.callback(host.end)
            made.append(host)
        yield made[0], made[1]
