"""Where migrations are killed: a cluster controller and two node controllers whole, and what is under them.

A hypervisor joins by a field of its own, which can kill a guest behind its controller's back, and hold its nodes at a
verb. `FakeField` has a clock that is moved; a field of real guests lets time pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mallee.cc.app import ClusterController
from mallee.cc.config import CcConfig
from mallee.cc.convergence import Wish
from mallee.cc.db import METADATA
from mallee.cc.migration.record import Asked, Migration
from mallee.cc.placing import Ask
from mallee.domain.guest import GuestKey, Phase, Power, Resources
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.rpc import Identity, MemoryTransport
from mallee.kernel.rpc.memory_pipe import ARRIVES, Fate, Message
from mallee.nc.app import NodeController
from mallee.nc.config import NcConfig
from mallee.nc.drivers.fake import FakeDriver
from tests.unit.nc.pretend import a_guest, as_message, driven

INSTANCE, HERE, THERE = "i-1", "a", "b"  # it runs on `a`, and `b` is where it is to go
SIZE = Resources(1, 16)
CLOUD = "test"
LEASE = 10.0  # seconds
STEP = 0.05


class Field(Protocol):
    """What a test of the matrix needs; `cc` is the controller of the moment."""

    cc: ClusterController
    lease: float
    """Of its nodes, in seconds."""
    dead: Phase
    """What a guest is said to be that was killed where it was the guest."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self) -> None:
        """The instance runs on `a`."""

    async def guests(self) -> Mapping[tuple[str, GuestKey], Phase]:
        """What is really there, by node; asked of the hypervisors and not of their controllers."""

    async def until(self, so: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        """Let time pass until it is so; whether it came to be."""

    def hold(self, node: str, verb: str) -> None:
        """Let the hypervisor of a node not return from this verb."""

    def let_go(self) -> None:
        """Let all verbs return."""

    async def kill_guest(self, node: str) -> None:
        """The guest or copy of this node dies, and nobody is told."""

    async def kill_daemon(self, node: str) -> None:
        """The node controller is gone; its guests live on."""

    async def start_daemon(self, node: str) -> None: ...

    async def restart_cluster(self) -> None: ...

    def cut(self, *roles: str) -> None:
        """Nothing crosses any more between two of these: `cc`, `a`, `b`."""

    def mend(self) -> None: ...


class FakeField:
    """Pretend hypervisors under a clock that stands still."""

    lease = LEASE
    dead = Phase.FAILED

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clock = ManualClock()
        self._transport = MemoryTransport(self._clock, self._fate)
        self._daemons: dict[str, NodeController] = {}
        self._apart: set[str] = set()
        self._held: set[tuple[str, str]] = set()
        self._db: Database
        self.cc: ClusterController

    async def open(self) -> None:
        await self._open_cluster()
        for name in (HERE, THERE):
            await self.start_daemon(name)
        await self.until(self._ready, 10)

    async def _ready(self) -> bool:
        return self.cc.watch.zone().nodes_ready == 2

    async def close(self) -> None:
        for daemon in self._daemons.values():
            await daemon.stop()
        await self.cc.stop()
        await self._db.close()

    async def run(self) -> None:
        host = next(row.host_id for row in self.cc.ledger.nodes.rows.values() if row.name == HERE)
        await self._go(self.cc.placing.place([Ask("r-1", 1, [INSTANCE], SIZE, host_id=host)]))
        await self.wish(1, Power.RUNNING)
        assert await self.until(self._runs, 30)

    async def wish(self, revision: int, power: Power) -> None:
        # Slow to write, so that the rounds are few; large enough for several pieces.
        guest = as_message(a_guest(INSTANCE, memory_mib=SIZE.memory_mib, tags={"mallee:workload": "web"}))
        await self._go(self.cc.convergence.converge([Wish(INSTANCE, revision, power, False, 0, SIZE, guest)]))

    async def _runs(self) -> bool:
        return self.cc.watch.fact(INSTANCE).phase is Phase.RUNNING  # type: ignore[union-attr]

    async def migrate(self, name: str = "m-1") -> Migration | None:
        return (await self._go(self.cc.desk.migrate(Asked(name, INSTANCE)))).migration

    async def guests(self) -> Mapping[tuple[str, GuestKey], Phase]:
        return {
            (name, found.key): found.phase
            for name in self._daemons
            for found in await self._driver(name).inventory()
        }

    def _driver(self, name: str) -> FakeDriver:
        driver = self._daemons[name].nodes[name].driver
        assert isinstance(driver, FakeDriver)
        return driver

    async def until(self, so: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        end = self._clock.monotonic() + seconds
        await self._clock.settle()
        while not await so():
            if self._clock.monotonic() > end:
                return False
            await self._clock.advance(STEP)
        return True

    async def _go(self, work: Awaitable[Any]) -> Any:
        return await driven(self._clock, work, step=STEP)

    def hold(self, node: str, verb: str) -> None:
        self._held.add((node, verb))
        self._daemons[node].knobs[node].hang.add(verb)

    def let_go(self) -> None:
        for node, verb in self._held:
            self._daemons[node].knobs[node].hang.discard(verb)
        self._held.clear()

    async def kill_guest(self, node: str) -> None:
        for found in await self._driver(node).inventory():
            await self._driver(node).lose(found.key)

    async def kill_daemon(self, node: str) -> None:
        await self._daemons[node].stop()

    async def start_daemon(self, node: str) -> None:
        daemon = NodeController(
            NcConfig(
                zone="z",
                address=f"{node}:1",
                cluster="cc:1",
                start_seconds=0.2,
                bandwidth_mbps=100.0,
                lease_seconds=LEASE,
            ),
            Identity(CLOUD, "nc", node),
            database=f"sqlite:///{self._folder}/{node}.db",
            clock=self._clock,
            entropy=SeededEntropy(sum(node.encode())),
            transport=self._transport,
            durable=False,
            leases=self._folder / f"{node}.leases",
        )
        self._daemons[node] = daemon
        await daemon.start()

    async def _open_cluster(self) -> None:
        url = f"sqlite:///{self._folder}/cc.db"
        self._db = await Database.open(url, metadata=METADATA, durable=False)
        self.cc = ClusterController(
            CcConfig(zone="z", lease_seconds=LEASE),
            self._db,
            self._transport,
            Identity(CLOUD, "cc", "z"),
            listen="cc:1",
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

    def mend(self) -> None:
        self._apart.clear()

    def _fate(self, message: Message) -> Fate:
        ends = {each.name if each.role == "nc" else each.role for each in (message.source, message.target)}
        return Fate(lost=True) if ends <= self._apart else ARRIVES


async def settled(work: asyncio.Future[Any]) -> None:
    """A call that may fail, because somebody was killed under it."""
    await asyncio.wait((work,))
