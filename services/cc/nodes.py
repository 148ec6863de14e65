"""The nodes of the zone: who attends, who holds a lease, and the lines that orders go down.

A lease has two ends. After `lease_seconds` without a renewal the node has paused its guests, by its own
clock: it is *lost*, its capacity is withdrawn, its instances are unreachable. After `lease_margin` times that,
whatever the two clocks did, it is *fenced*: what ran there may run elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog

from mallee.cc.config import CcConfig
from mallee.cc.convergence import Convergence, GuestFact, Order, order_of, rest_of
from mallee.cc.db.nodes import NodeRow
from mallee.cc.db.placements import Placement
from mallee.cc.ledger import Ledger
from mallee.cc.scheduler.inventory import Host
from mallee.domain.guards import Guards
from mallee.domain.guest import Phase, Resources
from mallee.kernel.errors import Fault, Kind

ADOPTED_AT_ONCE = 2
SMALL_INVENTORY, BREATH_SECONDS = 25, 0.02
TURN_SECONDS = 5.0  # after which the next one has its turn as well
DEAF_SECONDS = 2.0  # between two sweeps, which come twice a second
_ALIVE = frozenset({Phase.RUNNING, Phase.PAUSED})
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hello:
    """A node says who it is, and what it has unless that follows."""

    node: str
    boot_id: str
    address: str
    hypervisor: str
    cpu_model: str
    capacity: Resources
    inventory: Sequence[GuestFact]
    inventory_follows: bool = False
    speaker: str = "nobody"  # the name in its certificate
    guards: bool = False  # whether it enforces security groups


class Heard(NamedTuple):
    """What an inventory says of a copy, as far as it matters for what it is told."""

    phase: Phase
    description: int


UNHEARD = Heard(Phase.TERMINATED, 0)


class Line:
    """What waits to be sent to one attending node: of each copy the latest order, of all grants the latest.

    No order leaves before the node's inventory is known, then all of them do, in one message.

    Attributes:
        was_lost: the lease had lapsed before this line came; it is granted with the orders, not before.
        heard: every copy that the inventory has named so far, and what it said of it.
        size: how many it has named in all.
        complete: the whole inventory is known.
        over: set when it is, or the line is closed.
    """

    def __init__(self, number: int, *, was_lost: bool = False) -> None:
        self.number = number
        self.was_lost = was_lost
        self.heard: dict[tuple[str, int], Heard] = {}
        self.size = 0
        self.complete = False
        self.over = asyncio.Event()
        self.woken = asyncio.Event()
        self.closed = False
        self.guards: Guards | None = None  # what it was told last of security groups
        self._orders: dict[tuple[str, int], Order] = {}
        self._whole = False
        self._grant: int | None = None
        self._asked = False
        self._guards: Guards | None = None

    def guard(self, guards: Guards) -> None:
        """Have the node enforce these groups for its guests."""
        if guards != self.guards:
            self.guards = self._guards = guards
            self.woken.set()

    def ask(self) -> None:
        """Have the node say what it has."""
        self._asked = True
        self.woken.set()

    def send(self, order: Order) -> None:
        self._orders[order.instance_id, order.generation] = order
        if self.complete:
            self.woken.set()

    def send_whole(self, orders: Iterable[Order]) -> None:
        """Everything the node should have, with what waits already."""
        self._orders |= {(order.instance_id, order.generation): order for order in orders}
        self._whole = self.complete = True
        self.woken.set()
        self.over.set()

    def grant(self, sequence: int) -> None:
        self._grant = sequence
        if self.complete or not self.was_lost:
            self.woken.set()

    def close(self) -> None:
        """Another line of this node has come, or the controller ends."""
        self.closed = True
        self.woken.set()
        self.over.set()

    def take(self) -> Words:
        """What is to be sent now."""
        self.woken.clear()
        asked, self._asked = self._asked, False
        guards, self._guards = self._guards, None
        if not self.complete:
            grant, self._grant = (None, self._grant) if self.was_lost else (self._grant, None)
            return Words(grant=grant, say_inventory=asked, guards=guards)
        taken = Words(list(self._orders.values()), self._whole, self._grant, guards=guards)
        self._orders, self._whole, self._grant = {}, False, None
        return taken


class Words(NamedTuple):
    """Orders, whether they are all, the renewal to grant, whether the node is asked what it has, who is guarded."""

    orders: Sequence[Order] = ()
    whole: bool = False
    grant: int | None = None
    say_inventory: bool = False
    guards: Guards | None = None


class Nodes:
    """The registry.

    Args:
        description_of: which description of its guest these bytes are.
        back: told a node that attends anew; whatever waits for it may go on.
    """

    back: Callable[[int], None]

    def __init__(
        self,
        ledger: Ledger,
        config: CcConfig,
        description_of: Callable[[bytes], int] = lambda _guest: 0,
    ) -> None:
        self._ledger = ledger
        self._description_of = description_of
        self._config = config
        self._lines: dict[int, Line] = {}
        self.guarding: dict[int, Line] = {}  # of nodes that enforce security groups
        self._renewed: dict[int, float] = {}
        self._swept = float("inf")
        self._turns = asyncio.Semaphore(ADOPTED_AT_ONCE)
        self._fenced: set[int] = set()
        self._returning: set[int] = (
            set()
        )  # attend again after their lease had lapsed, and have not said all yet
        self._by_name: dict[str, int] = {}
        self.convergence: Convergence

    def open(self, *, held_on: float = 0.0) -> None:
        """After a start each node has the whole of its lease to come back.

        Args:
            held_on: seconds for which a predecessor that may still live may have gone on renewing leases.
        """
        self._swept = self._ledger.clock.boot()
        now = self._swept + held_on
        for row in self._ledger.nodes.rows.values():
            self._by_name[row.name] = row.number
            self._renewed[row.number] = now

    # Attendance

    async def attend(self, hello: Hello, sequence: int | None = None) -> Line:
        """A node dials in: it gets its host id, and its lease goes on before anybody looks at what it has.

        Args:
            hello: unless its inventory follows, everything that the node should have waits on the line then.
            sequence: of the renewal that came with it.

        Raises:
            Fault: UNAVAILABLE, when that could not be written.
        """
        number = self._by_name.get(hello.node)
        was_lost = number is not None and self._ledger.inventory.hosts[number].lost
        row = self._registered(hello)
        if was_lost:
            self._returning.add(row.number)
        self._heard_of(row.number)
        self._fenced.discard(row.number)
        line = Line(row.number, was_lost=row.number in self._returning)
        await self._ledger.journal.commit()
        if (old := self._lines.get(row.number)) is not None:
            old.close()
        self._lines[row.number] = line
        if hello.guards:
            self.guarding[row.number] = line
        self._ledger.sightings.begin(row.number)
        if sequence is not None and self._may_grant:
            line.grant(sequence)
        if not hello.inventory_follows:
            await self.learn(line, hello.inventory)
            self.compare(line)
        return line

    async def adopt(self, line: Line) -> None:
        """Have the node say what it has, when it is its turn: while few are compared, all renew their leases."""
        async with self._turns:
            if line.complete or line.closed:
                return
            line.ask()
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await line.over.wait()
            except TimeoutError:
                _log.warning("a node is slow to say what it has", node=line.number)
            if line.size > SMALL_INVENTORY:
                # gRPC lets in one new line a turn of the loop: turns must be short while nodes dial in.
                await self._ledger.clock.sleep(BREATH_SECONDS)

    async def learn(self, line: Line, facts: Sequence[GuestFact]) -> None:
        """A node says what some of its copies are, as a part of its inventory or because they changed.

        Raises:
            Fault: as of `Convergence.learn`.
        """
        if line.closed:
            return
        if not line.complete:
            line.heard |= {
                (fact.instance_id, fact.generation): Heard(fact.phase, fact.description) for fact in facts
            }
        await self.convergence.learn(line.number, facts)

    def compare(self, line: Line) -> None:
        """The inventory has been said: everything that the node should have goes down its line."""
        if line.closed or line.complete:
            return
        host = self._ledger.inventory.hosts[line.number]
        self._lay_ghosts(host, line.heard)
        line.send_whole(self._whole_of(host, line.heard))
        line.size, line.heard = len(line.heard), {}
        host.silent = False
        self._ledger.inventory.touch(host)
        self._returning.discard(line.number)
        self.back(line.number)

    def leave(self, line: Line) -> None:
        """The line is down. The lease goes on until it lapses."""
        if self._lines.get(line.number) is line:
            del self._lines[line.number]
            self.guarding.pop(line.number, None)
            host = self._ledger.inventory.hosts[line.number]
            host.silent = True
            self._ledger.inventory.touch(host)

    def renew(self, line: Line, sequence: int) -> None:
        """Extend the lease, and let the node know."""
        if line.closed or not self._may_grant:
            return
        if line.number in self._fenced:
            line.close()  # what ran there may run elsewhere by now: it must say hello, and hear everything anew
            return
        self._heard_of(line.number)
        host = self._ledger.inventory.hosts[line.number]
        if host.lost:
            self._set_lost(host, lost=False)
        line.grant(sequence)

    def _heard_of(self, number: int) -> None:
        # Not earlier than what a predecessor may still grant: its line may be the node's next one.
        now = self._ledger.clock.boot()
        self._renewed[number] = max(self._renewed.get(number, now), now)

    def send(self, number: int, order: Order) -> None:
        """Put an order on the node's line; with none, the next Hello brings it."""
        line = self._lines.get(number)
        if line is not None:
            line.send(order)

    async def sweep(self) -> None:
        """Notice leases that ran out.

        Silence counts only while somebody listened. When this process was busy with something else, its own
        start with thousands of guests or a sleep of the whole machine, renewals wait unread, so every node has
        that time on top: counting longer than the node does is always safe.
        """
        now = self._ledger.clock.boot()
        deaf = now - self._swept
        self._swept = now
        if deaf >= DEAF_SECONDS:
            self._renewed = {number: max(at, min(now, at + deaf)) for number, at in self._renewed.items()}
        for number, renewed in self._renewed.items():
            silence = now - renewed
            host = self._ledger.inventory.hosts[number]
            if silence >= self._config.lease_seconds and not host.lost:
                self._set_lost(host, lost=True)
            if host.lost and number not in self._fenced and silence >= self._fence_after:
                self._fenced.add(number)
                self.convergence.give_up(number)
        # What finds no room now may find it at a later pass.
        saved = [
            instance_id
            for number in (self._fenced if self._config.evacuate else ())
            for instance_id in self.convergence.evacuate(number)
        ]
        await self._ledger.journal.commit()
        self.convergence.order(saved)

    @property
    def _may_grant(self) -> bool:
        """Not when another process may long be the zone's controller and count on the silence of this one."""
        unheard = self._ledger.clock.boot() - self._ledger.confirmed_at
        return not self._config.database or unheard <= self._config.hold_seconds

    @property
    def _fence_after(self) -> float:
        return self._config.lease_seconds * self._config.lease_margin

    def _set_lost(self, host: Host, *, lost: bool) -> None:
        row = self._ledger.nodes.rows[host.index]
        self._ledger.nodes.put(host.index, row._replace(lost=lost))
        _log.warning("node lost its lease" if lost else "node is back", node=row.name, host=row.host_id)

    def _registered(self, hello: Hello) -> NodeRow:
        rows = self._ledger.nodes.rows
        number = self._by_name.get(hello.node)
        known = rows.get(number) if number is not None else None
        number = known.number if known else len(rows)
        row = NodeRow(
            number=number,
            name=hello.node,
            zone=self._ledger.zone,
            vcpus=hello.capacity.vcpus,
            memory_mib=hello.capacity.memory_mib,
            cpu_model=hello.cpu_model,
            hypervisor=hello.hypervisor,
            address=hello.address,
            boot_id=hello.boot_id,
            cordoned=known.cordoned if known else False,
            lost=False,
            joined_ms=known.joined_ms if known else self._ledger.now_ms(),
            speaker=hello.speaker,
        )
        if row != known:
            self._ledger.nodes.put(number, row)
        self._by_name[hello.node] = number
        return row

    def _lay_ghosts(self, host: Host, heard: Iterable[tuple[str, int]]) -> None:
        """Copies that were to be destroyed and are no longer there take no room."""
        here = {f"ghost:{host.index}:{instance_id}:{generation}" for instance_id, generation in heard}
        for taker in [name for name in host.takers if name.startswith("ghost:") and name not in here]:
            self._ledger.inventory.release(taker)

    def _whole_of(self, host: Host, heard: Mapping[tuple[str, int], Heard]) -> Iterable[Order]:
        rows = self._ledger.placements
        for instance_id in (*host.takers, *self._ledger.left.get(host.index, ())):
            row = rows.durable(instance_id)
            if row is None or row.claimed:
                continue
            if row.host == host.index:
                order = order_of(row)
                # A node that has the guest knows what it is like: ten thousand descriptions are heavy.
                has = heard.get((instance_id, row.generation), UNHEARD)
                knows = has.phase in _ALIVE and has.description >= self._description_of(row.guest)
                yield replace(order, guest=b"") if knows else order
            elif row.host < 0 and row.left_host == host.index and row.phase == Phase.STOPPED:
                yield rest_of(row)

    # What others ask

    def attending(self) -> frozenset[int]:
        """Nodes that have said what they have, whose lines are up and whose leases are held."""
        hosts = self._ledger.inventory.hosts
        return frozenset(
            number for number, line in self._lines.items() if line.complete and not hosts[number].lost
        )

    def is_fenced(self, number: int) -> bool:
        """Whether the node's guests are paused for good unless it attends again."""
        return number in self._fenced

    def row(self, number: int) -> NodeRow:
        """A node's name, the address of its own server, and who must answer there.

        Raises:
            Fault: NOT_FOUND.
        """
        row = self._ledger.nodes.rows.get(number)
        if row is None:
            raise unknown_node(f"h-{number}")
        return row

    def state(self, host: Host) -> str:
        """ready, cordoned, silent (holds its lease, but does not attend), lost or fenced."""
        if host.index in self._fenced:
            return "fenced"
        if host.lost:
            return "lost"
        if host.cordoned:
            return "cordoned"
        return "silent" if host.silent else "ready"

    async def cordon(self, number: int, *, cordoned: bool) -> None:
        """Let no new guests come, or let them come again; those that are there stay.

        Raises:
            Fault: NOT_FOUND.
        """
        row = self._ledger.nodes.rows.get(number)
        if row is None:
            raise unknown_node(f"h-{number}")
        self._ledger.nodes.put(number, row._replace(cordoned=cordoned))
        await self._ledger.journal.commit()

    def page(self, numbers: Sequence[int], after: int, limit: int) -> list[NodeRow]:
        """Nodes in the order of their ids: those asked for, or the next `limit` after one."""
        rows = self._ledger.nodes.rows
        wanted = sorted(set(numbers)) if numbers else range(after + 1, len(rows))
        return [rows[number] for number in wanted if number in rows and number > after][:limit]

    def hosts_like(self, number: int) -> tuple[str, ...]:
        """The addresses of a node and of all others with its hypervisor: one that is away has guests all the same."""
        rows = self._ledger.nodes.rows
        like = rows[number].hypervisor
        return tuple(
            sorted({row.address.rpartition(":")[0] for row in rows.values() if row.hypervisor == like})
        )

    def guests_on(self, number: int) -> list[Placement]:
        """The placements that hold capacity on a node, by id."""
        takers = self._ledger.inventory.hosts[number].takers
        rows = self._ledger.placements.rows
        return [rows[taker] for taker in sorted(takers) if taker in rows]


def covers(peer: str, node: str) -> bool:
    """Whether a certificate in the name of `peer` may speak for `node`.

    A host that carries several nodes has one certificate, and its nodes are named `<peer>.1`, `<peer>.2` ...
    """
    return node == peer or node.startswith(f"{peer}.")


def unknown_node(host_id: str) -> Fault:
    return Fault(Kind.NOT_FOUND, f"There is no node {host_id}.", fix="List the nodes.", code="not-found")
