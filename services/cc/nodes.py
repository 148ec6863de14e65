"""The nodes of the zone: who attends, who holds a lease, and the lines that orders go down.

A lease has two ends. After `lease_seconds` without a renewal the node has paused its guests, by its own
clock: it is *lost*, its capacity is withdrawn, its instances are unreachable. After `lease_margin` times that,
whatever the two clocks did, it is *fenced*: what ran there may run elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from mallee.cc.config import CcConfig
from mallee.cc.convergence import Convergence, GuestFact, Order, order_of
from mallee.cc.db.nodes import NodeRow
from mallee.cc.db.placements import Placement
from mallee.cc.ledger import Ledger
from mallee.cc.scheduler.inventory import Host
from mallee.domain.guest import Phase, Power, Resources
from mallee.kernel.errors import Fault, Kind

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hello:
    """A node says who it is and what it has."""

    node: str
    boot_id: str
    address: str
    hypervisor: str
    cpu_model: str
    capacity: Resources
    inventory: Sequence[GuestFact]


class Line:
    """What waits to be sent to one attending node: of each copy the latest order, of all grants the latest."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.woken = asyncio.Event()
        self.closed = False
        self._orders: dict[tuple[str, int], Order] = {}
        self._whole = False
        self._grant: int | None = None

    def send(self, order: Order) -> None:
        self._orders[order.instance_id, order.generation] = order
        self.woken.set()

    def send_whole(self, orders: Iterable[Order]) -> None:
        """Everything the node should have; replaces what waits."""
        self._orders = {(order.instance_id, order.generation): order for order in orders}
        self._whole = True
        self.woken.set()

    def grant(self, sequence: int) -> None:
        self._grant = sequence
        self.woken.set()

    def close(self) -> None:
        """Another line of this node has come, or the controller ends."""
        self.closed = True
        self.woken.set()

    def take(self) -> tuple[list[Order], bool, int | None]:
        """Orders, whether they are all, and the renewal to grant: what is to be sent now."""
        taken = list(self._orders.values()), self._whole, self._grant
        self._orders, self._whole, self._grant = {}, False, None
        self.woken.clear()
        return taken


class Nodes:
    """The registry.

    Args:
        touch: an instance's reachability changed.
        back: told a node that attends anew; whatever waits for it may go on.
    """

    back: Callable[[int], None]

    def __init__(self, ledger: Ledger, config: CcConfig, touch: Callable[[Sequence[str]], None]) -> None:
        self._ledger = ledger
        self._config = config
        self._touch = touch
        self._lines: dict[int, Line] = {}
        self._renewed: dict[int, float] = {}
        self._fenced: set[int] = set()
        self._by_name: dict[str, int] = {}
        self.convergence: Convergence

    def open(self, *, held_on: float = 0.0) -> None:
        """After a start each node has the whole of its lease to come back.

        Args:
            held_on: seconds for which a predecessor that may still live may have gone on renewing leases.
        """
        now = self._ledger.clock.boot() + held_on
        for row in self._ledger.nodes.rows.values():
            self._by_name[row.name] = row.number
            self._renewed[row.number] = now

    # Attendance

    async def attend(self, hello: Hello) -> Line:
        """A node dials in: it gets its host id, and everything that it should have waits on its line.

        Raises:
            Fault: UNAVAILABLE, when that could not be written.
        """
        row = self._registered(hello)
        host = self._ledger.inventory.hosts[row.number]
        host.silent = False
        self._heard_of(row.number)
        self._fenced.discard(row.number)
        self._ledger.inventory.touch(host)
        line = Line(row.number)
        await self._ledger.journal.commit()
        if (old := self._lines.get(row.number)) is not None:
            old.close()
        self._lines[row.number] = line
        self._lay_ghosts(host, hello.inventory)
        self._ledger.sightings.begin(row.number)
        await self.convergence.learn(row.number, hello.inventory)
        line.send_whole((*line.take()[0], *self._whole_of(host)))
        self._touch(list(host.takers))
        self.back(row.number)
        return line

    def leave(self, line: Line) -> None:
        """The line is down. The lease goes on until it lapses."""
        if self._lines.get(line.number) is line:
            del self._lines[line.number]
            host = self._ledger.inventory.hosts[line.number]
            host.silent = True
            self._ledger.inventory.touch(host)

    def renew(self, line: Line, sequence: int) -> None:
        """Extend the lease, and let the node know."""
        if line.closed or not self._may_grant:
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
        """Notice leases that ran out."""
        now = self._ledger.clock.boot()
        for number, renewed in self._renewed.items():
            silence = now - renewed
            host = self._ledger.inventory.hosts[number]
            if silence >= self._config.lease_seconds and not host.lost:
                self._set_lost(host, lost=True)
            if host.lost and number not in self._fenced and silence >= self._fence_after:
                self._fenced.add(number)
                self.convergence.give_up(number)
        await self._ledger.journal.commit()

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
        self._touch(list(host.takers))
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
        )
        if row != known:
            self._ledger.nodes.put(number, row)
        self._by_name[hello.node] = number
        return row

    def _lay_ghosts(self, host: Host, inventory: Sequence[GuestFact]) -> None:
        """Copies that were to be destroyed and are no longer there take no room."""
        here = {f"ghost:{host.index}:{fact.instance_id}:{fact.generation}" for fact in inventory}
        for taker in [name for name in host.takers if name.startswith("ghost:") and name not in here]:
            self._ledger.inventory.release(taker)

    def _whole_of(self, host: Host) -> Iterable[Order]:
        rows = self._ledger.placements
        for instance_id in (*host.takers, *self._ledger.left.get(host.index, ())):
            row = rows.durable(instance_id)
            if row is None or row.claimed:
                continue
            if row.host == host.index:
                yield order_of(row)
            elif row.host < 0 and row.left_host == host.index and row.phase == Phase.STOPPED:
                yield Order(instance_id, row.left_generation, row.revision, Power.STOPPED, guest=row.guest)

    # What others ask

    def attending(self) -> frozenset[int]:
        """Nodes whose lines are up and whose leases are held."""
        hosts = self._ledger.inventory.hosts
        return frozenset(number for number in self._lines if not hosts[number].lost)

    def is_fenced(self, number: int) -> bool:
        """Whether the node's guests are paused for good unless it attends again."""
        return number in self._fenced

    def address(self, number: int) -> tuple[str, str]:
        """A node's name, and the address of its own server.

        Raises:
            Fault: NOT_FOUND.
        """
        row = self._ledger.nodes.rows.get(number)
        if row is None:
            raise unknown_node(f"h-{number}")
        return row.name, row.address

    def state(self, host: Host) -> str:
        """ready, cordoned, lost or fenced."""
        if host.index in self._fenced:
            return "fenced"
        if host.lost:
            return "lost"
        return "cordoned" if host.cordoned else "ready"

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
