"""A zone for tests: the controller whole, on a database of its own, and nodes that are a dictionary each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from mallee.cc.app import ClusterController
from mallee.cc.config import CcConfig
from mallee.cc.convergence import GuestFact, Order, Wish
from mallee.cc.db import METADATA
from mallee.cc.nodes import Hello, Line
from mallee.cc.peers import Captured, Goal, HandedOver, Progress, Route, Subject, Ticket
from mallee.cc.placing import Ask, Outcome
from mallee.domain.guest import ImageFile, Phase, Power, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity, MemoryTransport

SMALL = Resources(1, 1024)
FOUR = Resources(4, 4096)
ROUND = Round(1, 256, 1 << 20, 8, 10.0, 840.0)
Key = tuple[str, int]


class ANode:
    """A node that keeps its guests in a dictionary, says what it is told to, and fails where it is told to.

    `fail` holds what a verb raises; `gate` what it waits for, before anything happens.
    """

    def __init__(self, name: str, network: dict[str, ANode], capacity: Resources) -> None:
        self.name, self.network, self.capacity = name, network, capacity
        self.guests: dict[Key, Phase] = {}
        self.copies: dict[Key, str] = {}  # incoming ones, with the digest once they are whole
        self.called_off: set[str] = set()
        self.orders: list[Order] = []
        self.fail: dict[str, Exception] = {}
        self.gate: dict[str, asyncio.Event] = {}
        self.line: Line | None = None
        self.routes: dict[Key, Route] = {}
        self.finished = 0
        self.captured: list[tuple[Subject, Goal]] = []
        self.model = "m1"
        network[f"{name}:1"] = self

    async def _verb(self, verb: str) -> None:
        if verb in self.gate:
            await self.gate[verb].wait()
        if verb in self.fail:
            raise self.fail[verb]

    def _refuse(self, subject: Subject) -> None:
        if subject.migration_id in self.called_off:
            raise Fault(Kind.STALE, "This migration is over here.")

    async def prepare(self, subject: Subject, guest: bytes, source_node: str) -> Ticket:
        await self._verb("prepare")
        self._refuse(subject)
        self.guests.setdefault((subject.instance_id, subject.generation), Phase.INCOMING)
        self.copies.setdefault((subject.instance_id, subject.generation), "")
        return Ticket(f"{self.name}:1", "ticket")

    async def pre_copy(self, subject: Subject, route: Route, limits: Limits) -> AsyncIterator[Progress]:
        self._refuse(subject)
        self.routes[subject.instance_id, subject.generation] = route
        yield Progress(ROUND, 1 << 30, 1 << 16, 20.0)
        await self._verb("pre_copy")
        yield Progress(Round(2, 8, 1 << 15, 1, 1.0, 840.0), 1 << 30, 4096, 1.0)
        yield Progress(Round(0, 0, 0, 0, 0.0, 0.0), 0, 0, 0.0, "fits-budget")

    async def stop_and_copy(self, subject: Subject) -> HandedOver:
        await self._verb("stop_and_copy")
        self._refuse(subject)
        key = subject.instance_id, subject.generation
        self.guests[key] = Phase.PAUSED
        route = self.routes[key]
        there = self.network[route.ticket.address]
        there.copies[subject.instance_id, route.destination_generation] = f"digest of {subject.instance_id}"
        return HandedOver(1, 4096, 2.5, f"digest of {subject.instance_id}")

    async def verify(self, subject: Subject) -> str:
        await self._verb("verify")
        self._refuse(subject)
        return self.copies.get((subject.instance_id, subject.generation), "")

    async def activate(self, subject: Subject) -> None:
        await self._verb("activate")
        key = subject.instance_id, subject.generation
        if key not in self.guests:
            raise Fault(Kind.NOT_FOUND, "No such copy.")
        self.guests[key] = Phase.RUNNING
        self.copies.pop(key, None)

    async def discard(self, subject: Subject) -> None:
        await self._verb("discard")
        self.guests.pop((subject.instance_id, subject.generation), None)

    async def abandon(self, subject: Subject) -> None:
        await self._verb("abandon")
        self.called_off.add(subject.migration_id)
        self.guests.pop((subject.instance_id, subject.generation), None)
        self.copies.pop((subject.instance_id, subject.generation), None)

    async def resume(self, subject: Subject) -> None:
        await self._verb("resume")
        self.called_off.add(subject.migration_id)
        key = subject.instance_id, subject.generation
        if key not in self.guests:
            raise Fault(Kind.NOT_FOUND, "No such guest.")
        self.guests[key] = Phase.RUNNING

    async def finish(self, subject: Subject) -> None:
        self.finished += 1

    async def capture(self, subject: Subject, goal: Goal) -> AsyncGenerator[Captured, None]:
        await self._verb("capture")
        self.captured.append((subject, goal))
        yield Captured(1, 2)
        yield Captured(2, 2, ImageFile(goal.bucket, goal.key, "null", 7, "etag", "qcow2", 8192))

    async def console(self, node: str, instance_id: str) -> tuple[bytes, int]:
        return f"{node} says {instance_id}".encode(), 7

    def inventory(self) -> list[GuestFact]:
        return [GuestFact(i, generation, 0, phase, SMALL) for (i, generation), phase in self.guests.items()]


@dataclass
class AZone:
    """The controller and its nodes; nothing serves but the rooms themselves."""

    url: str
    clock: ManualClock = field(default_factory=ManualClock)
    config: CcConfig = field(default_factory=lambda: CcConfig(zone="z", policy="SPREAD"))
    network: dict[str, ANode] = field(default_factory=dict)
    nodes: list[ANode] = field(default_factory=list)
    cc: ClusterController = field(init=False)
    db: Database = field(init=False)
    transport: MemoryTransport = field(init=False)
    holder: str = "me"

    async def start(self, *, own_connect: bool = True, transport: MemoryTransport | None = None) -> AZone:
        """The controller as a new process finds it, with nodes in `network` or behind `transport`."""
        self.db = await Database.open(self.url, metadata=METADATA, durable=False)
        self.transport = transport or MemoryTransport(self.clock)
        self.cc = ClusterController(
            self.config,
            self.db,
            self.transport,
            Identity("cloud", "cc", "z"),
            listen="cc:1",
            clock=self.clock,
            entropy=SeededEntropy(1),
            connect=(lambda node: self.network[node.address]) if own_connect else None,
            holder=self.holder,
        )
        await self.cc.start()
        return self

    async def stop(self) -> None:
        await self.cc.stop()
        await self.db.close()

    async def restart(self) -> None:
        """A new process on the same database; nodes have to dial in again."""
        await self.stop()
        for node in self.nodes:
            node.line = None
        await self.start()

    async def join(self, name: str, capacity: Resources = FOUR) -> ANode:
        node = ANode(name, self.network, capacity)
        self.nodes.append(node)
        await self.dial(node)
        return node

    async def dial(self, node: ANode) -> None:
        """The node opens its line and says everything."""
        hello = Hello(
            node.name, "boot", f"{node.name}:1", "fake", node.model, node.capacity, node.inventory()
        )
        node.line = await self.cc.nodes.attend(hello)

    async def renew(self, *nodes: ANode) -> None:
        for node in nodes:
            assert node.line is not None
            self.cc.nodes.renew(node.line, 1)

    async def pass_time(self, seconds: float, *nodes: ANode) -> None:
        """Time goes on, these nodes renewing."""
        for _ in range(int(seconds)):
            await self.renew(*nodes)
            await self.clock.advance(1)

    async def obey(self) -> None:
        """Every node carries its orders out and says so, until there are none."""
        busy = True
        while busy:
            busy = False
            for node in self.nodes:
                if node.line is None or node.line.closed:
                    continue
                orders = node.line.take().orders
                node.orders += orders
                facts = [fact for order in orders for fact in _carry_out(node, order)]
                if facts:
                    busy = True
                    await self.cc.convergence.learn(node.line.number, facts)

    async def place(self, *instance_ids: str, **rules: object) -> Outcome:
        ask = Ask("group", len(instance_ids), instance_ids, SMALL)
        ask = Ask(**{name: rules.get(name, getattr(ask, name)) for name in Ask.__slots__})  # type: ignore[arg-type]
        return (await self.cc.placing.place([ask]))[0]

    async def wish(
        self, instance_id: str, revision: int, power: Power = Power.RUNNING, **more: object
    ) -> None:
        wish = Wish(instance_id, revision, power, False, 0, SMALL, b"guest")
        named = {name: more.get(name, getattr(wish, name)) for name in Wish.__slots__}
        await self.cc.convergence.converge([Wish(**named)])  # type: ignore[arg-type]

    async def run(self, instance_id: str, **rules: object) -> None:
        """The instance runs."""
        outcome = await self.place(instance_id, **rules)
        assert outcome.refusal is None, outcome
        await self.wish(instance_id, 1)
        await self.obey()

    def free(self) -> list[Resources]:
        return [host.free for host in self.cc.ledger.inventory]

    def phase(self, instance_id: str) -> Phase:
        fact = self.cc.watch.fact(instance_id)
        assert fact is not None
        return fact.phase

    async def until(self, true: Callable[[], bool], step: float = 1.0) -> None:
        """Move time until it is so."""
        for _ in range(300):
            if true():
                return
            await self.clock.advance(step)
        raise AssertionError("it never came to be")


def _carry_out(node: ANode, order: Order) -> Iterator[GuestFact]:
    key = order.instance_id, order.generation
    for older in [each for each in node.guests if each[0] == key[0] and each[1] < key[1]]:
        del node.guests[older]
        yield GuestFact(*older, 0, Phase.TERMINATED, SMALL)
    was = node.guests.get(key)
    if order.power is Power.TERMINATED:
        node.guests.pop(key, None)
        yield GuestFact(*key, order.revision, Phase.TERMINATED, SMALL)
    elif order.power is Power.STOPPED:
        node.guests[key] = Phase.STOPPED
        yield GuestFact(*key, order.revision, Phase.STOPPED, SMALL)
    elif was not in {Phase.INCOMING, Phase.PAUSED}:
        node.guests[key] = Phase.RUNNING
        yield GuestFact(*key, order.revision, Phase.RUNNING, SMALL)
