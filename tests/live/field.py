"""Where migrations of real guests are killed and measured: two hosts, a cluster controller, two node controllers.

The controllers live in the test's own process, so that they can be held at a verb; the guests are
QEMU's, on hosts of their own, and what is asked about them is asked of libvirt and not of us.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mallee.cc.app import ClusterController
from mallee.cc.config import CcConfig
from mallee.cc.convergence import Wish
from mallee.cc.db import METADATA
from mallee.cc.migration.record import Asked, Migration
from mallee.cc.placing import Ask
from mallee.cli.composition import RENEW_SHARE
from mallee.cli.lab import Host
from mallee.domain.guest import GuestKey, Phase, Power, Resources
from mallee.domain.migration import Limits
from mallee.kernel.clock import SystemClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault
from mallee.kernel.pki import Authority, IssuedKeys
from mallee.kernel.rpc import GrpcTransport, Identity, MemoryTransport
from mallee.kernel.rpc.memory_pipe import ARRIVES, Fate, Message
from mallee.nc.app import NodeController
from mallee.nc.config import NcConfig
from mallee.nc.drivers.libvirt.connection import Daemon
from mallee.nc.drivers.libvirt.domains import Domains
from tests.conformance.migration_field import CLOUD, HERE, INSTANCE, THERE
from tests.live import dirty_guest
from tests.live.dirty_guest import Work
from tests.unit.nc.pretend import a_guest, as_message

SIZE: Final = Resources(1, 32)
LEASE: Final = 4.0  # seconds
WORK: Final = Work(touched_mib=8, set_mib=4)
SLOW: Final = Limits(bandwidth_mbps=60.0)  # so that a test can be in time
_GLANCE: Final = 0.05


class RealField:
    """Implements `tests.conformance.migration_field.Field` with QEMU and libvirt.

    Args:
        hosts: two.
        folder: for databases and guests.
        work: what the guest does.
        size: of the guest.
        limits: of every migration.
        tls: between services too, over real gRPC; else their lines can be cut, and QEMU's alone are encrypted.
    """

    cc: ClusterController
    lease = LEASE
    dead = Phase.STOPPED

    def __init__(
        self,
        hosts: Sequence[Host],
        folder: Path,
        *,
        work: Work = WORK,
        size: Resources = SIZE,
        limits: Limits = SLOW,
        grpc: bool = False,
        tls: bool = True,
    ) -> None:
        self.size = size
        self._hosts = dict(zip((HERE, THERE), hosts, strict=True))
        self._folder = folder
        self._limits = limits
        self._tls = tls
        self._clock = SystemClock()
        self._keys = IssuedKeys(Authority.create(CLOUD, self._clock).issue, self._clock)
        self._transport: Any = GrpcTransport(self._keys) if grpc else MemoryTransport(self._clock, self._fate)
        self._listen = "127.0.0.1:0" if grpc else ""
        self._location = dirty_guest.put(folder / "images", "dirty", work)
        self._daemons: dict[str, NodeController] = {}
        self._looks = {
            name: Domains(Daemon(host.uri, _nobody, _nobody), CLOUD, folder)
            for name, host in self._hosts.items()
        }
        self._seen: dict[tuple[str, GuestKey], Phase] = {}
        self._apart: set[str] = set()
        self._held: dict[tuple[str, str], asyncio.Event] = {}
        self._db: Database

    async def open(self) -> None:
        for look in self._looks.values():
            await look.daemon.open()
        await self._open_cluster()
        for name in self._hosts:
            await self.start_daemon(name)
        assert await self.until(self._ready, 30)

    async def _ready(self) -> bool:
        return self.cc.watch.zone().nodes_ready == 2

    async def close(self) -> None:
        self.let_go()
        self.mend()
        for daemon in self._daemons.values():
            await daemon.stop()
        await self.cc.stop()
        await self._db.close()
        for look in self._looks.values():
            for seen in await look.all():
                await look.remove(seen.me.key)
            await look.daemon.close()

    async def run(self) -> None:
        host = next(row.host_id for row in self.cc.ledger.nodes.rows.values() if row.name == HERE)
        await self.cc.placing.place([Ask("r-1", 1, [INSTANCE], self.size, host_id=host)])
        await self.wish(1, Power.RUNNING)
        assert await self.until(self._runs, 30)
        assert await self.until(self._works, 30)

    async def wish(self, revision: int, power: Power) -> None:
        guest = a_guest(INSTANCE, memory_mib=self.size.memory_mib, image_location=self._location)
        wish = Wish(INSTANCE, revision, power, False, 0, self.size, as_message(guest))
        await self.cc.convergence.converge([wish])

    async def _runs(self) -> bool:
        fact = self.cc.watch.fact(INSTANCE)
        return fact is not None and fact.phase is Phase.RUNNING

    async def _works(self) -> bool:
        """It has touched all that it touches."""
        logs = list((self._folder / HERE).rglob("console.log"))
        return any(log.read_bytes().endswith(b"R") for log in logs)

    async def migrate(self, name: str = "m-1") -> Migration | None:
        return (await self.cc.desk.migrate(Asked(name, INSTANCE, limits=self._limits))).migration

    async def guests(self) -> Mapping[tuple[str, GuestKey], Phase]:
        """As they are; of a host whose libvirt does not answer just now, as they last were."""
        for name, look in self._looks.items():
            with suppress(Fault):
                found = {(name, seen.me.key): seen.phase for seen in await look.all()}
                gone = {each for each in self._seen if each[0] == name} - set(found)
                self._seen = {each: phase for each, phase in self._seen.items() if each not in gone} | found
        return dict(self._seen)

    async def until(self, so: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        end = self._clock.monotonic() + seconds
        while not await so():
            if self._clock.monotonic() > end:
                return False
            await self._clock.sleep(_GLANCE)
        return True

    def hold(self, node: str, verb: str) -> None:
        driver: Any = self._daemons[node].nodes[node].driver
        free = self._held[node, verb] = asyncio.Event()
        done = getattr(driver, verb)

        async def waits(*words: Any, **named: Any) -> Any:
            await free.wait()
            return await done(*words, **named)

        setattr(driver, verb, waits)

    def let_go(self) -> None:
        for free in self._held.values():
            free.set()
        self._held.clear()

    async def kill_guest(self, node: str) -> None:
        """With all its QEMUs: SIGKILL, which libvirt hears of by itself."""
        for file in (self._hosts[node].folder / "run" / "qemu").glob(f"{INSTANCE}.*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)

    async def kill_hypervisor(self, node: str) -> None:
        """The host's libvirt daemon dies, and is started again; its guests live on."""
        await asyncio.to_thread(self._hosts[node].kill_daemon)
        await asyncio.to_thread(self._hosts[node].start_daemon)

    async def kill_daemon(self, node: str) -> None:
        await self._daemons[node].stop()

    async def start_daemon(self, node: str) -> None:
        host = self._hosts[node]
        config = NcConfig(
            zone="z",
            address=self._listen or f"{node}:1",
            cluster=self.cc.address if self._listen else "cc:1",
            hypervisor="libvirt",
            libvirt_uri=host.uri,
            guest_folder=str(self._folder / node),
            image_folder=str(self._folder / "images"),
            accelerator="qemu",
            machine="pc-q35-7.2",
            host_vcpus=4,
            migration_host=host.address,
            migration_tls=self._tls,
            migration_keys=str(self._folder / "keys"),
            lease_seconds=LEASE,
        )
        daemon = NodeController(
            config,
            Identity(CLOUD, "nc", node),
            database=f"sqlite:///{self._folder}/{node}.db",
            clock=self._clock,
            entropy=SeededEntropy(sum(node.encode())),
            transport=self._transport,
            leases=self._folder / f"{node}.leases",
            keys=self._keys,
        )
        self._daemons[node] = daemon
        await daemon.start()

    async def _open_cluster(self) -> None:
        self._db = await Database.open(f"sqlite:///{self._folder}/cc.db", metadata=METADATA)
        self.cc = ClusterController(
            CcConfig(zone="z", lease_seconds=LEASE, renew_seconds=LEASE * RENEW_SHARE),
            self._db,
            self._transport,
            Identity(CLOUD, "cc", "z"),
            listen=self._listen or "cc:1",
            clock=self._clock,
            entropy=SeededEntropy(1),
        )
        await self.cc.start()

    async def restart_cluster(self) -> None:
        await self.cc.stop()
        await self._db.close()
        await self._open_cluster()

    def cut(self, *roles: str) -> None:
        self._apart = set(roles)
        if {HERE, THERE} <= self._apart:
            self._hosts[THERE].said("ip", "link", "set", _card_of(self._hosts[THERE]), "down")

    def mend(self) -> None:
        if {HERE, THERE} <= self._apart:
            self._hosts[THERE].said("ip", "link", "set", _card_of(self._hosts[THERE]), "up")
        self._apart.clear()

    def _fate(self, message: Message) -> Fate:
        ends = {each.name if each.role == "nc" else each.role for each in (message.source, message.target)}
        return Fate(lost=True) if ends <= self._apart else ARRIVES


def _card_of(host: Host) -> str:
    """The host's end of its line to the others."""
    lines = host.said("ip", "-br", "link").splitlines()
    return next(line.split("@")[0] for line in lines if not line.startswith("lo "))


def _nobody(*_: object) -> None:
    """We ask, and are told nothing."""
