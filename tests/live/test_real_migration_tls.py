"""What crosses between two hosts is seen by nobody else, and comes from nobody else."""

from __future__ import annotations

import asyncio
import ctypes
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from socket import socket
from typing import TypeVar

import msgspec
import pytest

from mallee.cli.lab import Host
from mallee.domain.guest import GuestKey, Phase
from mallee.domain.migration import Limits
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault
from mallee.kernel.pki import Authority
from mallee.kernel.rpc import Identity
from mallee.nc.driver import Steering
from mallee.nc.drivers.libvirt.confidence import Confidence
from mallee.nc.drivers.libvirt.landing import Landing
from tests.live.drivers import RealNodes
from tests.unit.nc.pretend import DirectWire, a_guest, phases

T = TypeVar("T")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY, NEXT = GuestKey("i-1", 1), GuestKey("i-1", 2)
HERE, THERE = Identity("cloud", "nc", "node-1"), Identity("cloud", "nc", "node-2")
STRANGER = Identity("cloud", "nc", "node-3")  # a node of the same cloud, and not the one that was named
CLONE_NEWNET = 0x40000000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("cloud", SystemClock())


@pytest.fixture
def keys_folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
async def nodes(
    hosts: Sequence[Host], authority: Authority, tmp_path: Path, keys_folder: Path
) -> AsyncIterator[RealNodes]:
    def shows(me: Identity) -> Confidence:
        return Confidence(me, partial(authority.issue, me), keys_folder)

    made = RealNodes(hosts, tmp_path, (shows(HERE), shows(THERE)))
    await made.open()
    yield made
    await made.close()


async def sent(nodes: RealNodes, landing: str, receiver: str = THERE.name) -> str:
    """Stages 2 and 3; returns the digest."""
    wire = DirectWire(nodes.there, NEXT)
    words = nodes.here.pre_copy(KEY, "mig-1", wire, Limits(), Steering(), landing, receiver)
    async for _ in words:
        pass
    return (await nodes.here.stop_and_copy(KEY, "mig-1")).digest


async def prepared(nodes: RealNodes) -> str:
    await nodes.here.start(KEY, a_guest())
    return await nodes.there.prepare(NEXT, a_guest(), "mig-1", HERE.name)


def address_of(landing: str) -> tuple[str, int]:
    way = msgspec.json.decode(landing, type=Landing)
    return way.host, way.port


def inside(host: Host, work: Callable[[], T]) -> T:
    """Do it in the host's network; a socket that is made there stays there."""
    done: list[T] = []

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(f"/run/netns/{host.netns}", os.O_RDONLY)
        assert libc.setns(handle, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(handle)
        done.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return done[0]


@asynccontextmanager
async def listened_in(host: Host, landing: str) -> AsyncIterator[tuple[str, bytearray]]:
    """A landing with somebody in between who writes down what the sender says, and what that is."""
    heard = bytearray()
    there = address_of(landing)

    def listening() -> socket:
        door = socket()
        door.bind((host.address, 0))
        return door

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = inside(host, socket)
        onward.setblocking(False)
        await asyncio.get_running_loop().sock_connect(onward, there)
        answers, further = await asyncio.open_connection(sock=onward)
        back = asyncio.ensure_future(pass_on(answers, writer, bytearray()))
        await pass_on(reader, further, heard)
        await back

    door = inside(host, listening)
    server = await asyncio.start_server(relay, sock=door)
    async with server:
        way = msgspec.json.decode(landing, type=Landing)
        way.port = door.getsockname()[1]
        yield msgspec.json.encode(way).decode(), heard


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
    with suppress(ConnectionError):
        while some := await reader.read(1 << 20):
            heard += some
            writer.write(some)
            await writer.drain()
    writer.close()


def nothing_in(folder: Path) -> bool:
    return not any(folder.iterdir())


FIRST_WORD = b"QEVM"  # of every migration stream
FIRMWARE = b"SeaBIOS"  # in the memory of every guest


async def test_who_listens_in_learns_nothing(
    nodes: RealNodes, hosts: Sequence[Host], keys_folder: Path
) -> None:
    landing = await prepared(nodes)
    async with listened_in(hosts[1], landing) as (through, heard):
        digest = await sent(nodes, through)
        assert digest == await nodes.there.digest(NEXT) != ""
    await nodes.there.resume(NEXT)

    assert await phases(nodes.there) == {NEXT: Phase.RUNNING}
    assert len(heard) > 100_000
    assert FIRST_WORD not in heard
    assert FIRMWARE not in heard
    assert nothing_in(keys_folder), "keys are left behind"


async def test_without_encryption_he_would(hosts: Sequence[Host], tmp_path: Path) -> None:
    """The control: the same look at what crosses in the clear finds it."""
    nodes = RealNodes(hosts, tmp_path)
    await nodes.open()
    landing = await prepared(nodes)
    async with listened_in(hosts[1], landing) as (through, heard):
        await sent(nodes, through)
    await nodes.close()
    assert heard.startswith(FIRST_WORD)
    assert FIRMWARE in heard


async def test_who_shows_nothing_or_is_another_is_refused_and_the_sender_still_gets_in(
    nodes: RealNodes, hosts: Sequence[Host], authority: Authority, tmp_path: Path
) -> None:
    landing = await prepared(nodes)

    assert await refused(hosts[0], landing, None)
    for who in (STRANGER, Identity("cloud", "cc", HERE.name)):
        assert await refused(hosts[0], landing, shown(authority, who, tmp_path))
    foreign = Authority.create("cloud", SystemClock())  # of the same name, and not ours
    assert await refused(hosts[0], landing, shown(foreign, HERE, tmp_path))

    assert await sent(nodes, landing) == await nodes.there.digest(NEXT) != ""


async def test_who_is_not_the_receiver_gets_nothing(nodes: RealNodes) -> None:
    landing = await prepared(nodes)
    with pytest.raises(Fault, match="does not match the hostname") as caught:
        await sent(nodes, landing, receiver=STRANGER.name)
    assert caught.value.code == "copying-ended"
    assert await phases(nodes.here) == {KEY: Phase.RUNNING}
    # A QEMU whose sender went away in the middle is no copy any more.
    assert set((await phases(nodes.there)).values()) <= {Phase.INCOMING, Phase.STOPPED}


async def test_one_that_encrypts_and_one_that_does_not_exchange_nothing(
    hosts: Sequence[Host], authority: Authority, tmp_path: Path, keys_folder: Path
) -> None:
    shown = Confidence(HERE, partial(authority.issue, HERE), keys_folder)
    nodes = RealNodes(hosts, tmp_path, (shown, None))
    await nodes.open()
    landing = await prepared(nodes)
    with pytest.raises(Fault) as caught:
        await sent(nodes, landing)
    assert caught.value.code == "encryption-mismatch"
    assert await phases(nodes.here) == {KEY: Phase.RUNNING}
    await nodes.close()


def shown(authority: Authority, who: Identity, folder: Path) -> ssl.SSLContext:
    mine = authority.issue(who)
    file = folder / "shown.pem"
    file.write_bytes(mine.certificate + mine.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(file)
    return context


async def refused(host: Host, landing: str, context: ssl.SSLContext | None) -> bool:
    """Whether who comes with this certificate, or in the clear, is sent away: by an alert, or without a word."""
    line = inside(host, socket)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, address_of(landing))
    try:
        async with asyncio.timeout(20):
            name = {} if context is None else {"ssl": context, "server_hostname": "any"}
            reader, writer = await asyncio.open_connection(sock=line, **name)
            writer.write(FIRST_WORD + bytes(4096))
            said = await reader.read()  # a TLS alert is for the other side's library
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return True
    return not said or (context is None and FIRST_WORD not in said)
