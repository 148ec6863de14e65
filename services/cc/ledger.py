"""Everything the controller knows: its books, the scheduler's inventory that mirrors them, and what nodes last said.

Rows decide and are durable; `live` is hearsay of nodes, complete again after each of their reconnects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from mallee.cc.db import epochs, nodes, placements, reservations
from mallee.cc.db.epochs import Reign
from mallee.cc.db.nodes import NodeRow
from mallee.cc.db.placements import Placement
from mallee.cc.db.reservations import Reservation
from mallee.cc.journal import Book, Journal
from mallee.cc.scheduler.heap import Scheduler
from mallee.cc.scheduler.inventory import Host, Inventory
from mallee.cc.scheduler.policies import Score
from mallee.cc.sightings import Sightings
from mallee.domain.guest import Cause, Moment, Phase, Resources
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx


@dataclass(slots=True)
class Live:
    """What a node said last of the current copy."""

    generation: int
    phase: Phase
    cause: Cause | None = None
    moments: tuple[Moment, ...] = ()
    reboots: int = 0
    description: int = 0


def _never(tx: Tx, keys: Collection[object]) -> None:
    raise AssertionError(f"rows of this table are never deleted: {tx} {keys}")


class Ledger:
    """The books and their mirror."""

    def __init__(self, db: Database, zone: str, score: Score, clock: Clock) -> None:
        self.zone = zone
        self.clock = clock
        self.inventory = Inventory(score)
        self.scheduler = Scheduler(self.inventory)
        self.live: dict[str, Live] = {}
        self._heard: dict[str, None] = {}  # whose phase may differ from the written one
        self.sightings = Sightings()
        self.left: dict[int, dict[str, None]] = {}
        self.claimed: set[str] = set()  # whose capacity no order has bound yet
        self._quiet: set[str] = set()
        self.nodes = Book[int, NodeRow](nodes.save, _never, self._node_changed)
        self.placements = Book[str, Placement](
            placements.save, placements.forget, self._placement_changed, self._placements_written
        )
        self.reservations = Book[str, Reservation](
            reservations.save, reservations.forget, self._reservation_changed
        )
        self.db = db
        self._epoch = 0
        self.confirmed_at = clock.boot()  # when the database was last asked whether the zone is still ours
        self._listeners: list[Callable[[Collection[str]], None]] = []
        books = (self.nodes, self.reservations, self.placements)
        self.journal = Journal(db, books, self._fence)

    async def open(self, holder: str = epochs.NOBODY) -> Reign:
        """Become the zone's writer and read every row; whose it was before."""
        self.confirmed_at = self.clock.boot()
        self._epoch, before = await self.db.transact(partial(epochs.take_over, zone=self.zone, holder=holder))
        rows = await self.db.read(_everything)
        for node in rows[0]:
            self.nodes.load(node.number, node)
        for placement in rows[1]:
            self.placements.load(placement.instance_id, placement)
        for reservation in rows[2]:
            self.reservations.load(reservation.taker, reservation)
        return before

    async def beat(self) -> None:
        """Show whoever stands by that this controller lives, and hear whether the zone is still its own.

        Raises:
            Fault: STALE `superseded`; UNAVAILABLE.
        """
        asked_at = self.clock.boot()
        await self.journal.commit(partial(epochs.beat, zone=self.zone, epoch=self._epoch))
        self.confirmed_at = asked_at

    def check(self, tx: Tx) -> None:
        """Fail a transaction that is not the journal's when the zone is another's."""
        epochs.check(tx, self.zone, self._epoch)

    def listen(self, changed: Callable[[Collection[str]], None]) -> None:
        """Have `changed` called with the instances whose rows became durable."""
        self._listeners.append(changed)

    def now_ms(self) -> int:
        """The calendar in milliseconds, for displays and the age of tombstones."""
        return int(self.clock.now().timestamp() * 1000)

    def hear(self, instance_id: str, live: Live) -> None:
        """A node says this of the current copy."""
        self.live[instance_id] = live
        self._heard[instance_id] = None

    async def note_phases(self) -> None:
        """Write the phases that nodes reported since the rows were written; they are no news to anybody."""
        passing = {Phase.RUNNING, Phase.PROVISIONING}
        book = self.placements
        heard, self._heard = self._heard, {}
        for instance_id in heard:
            row, live = book.rows.get(instance_id), self.live.get(instance_id)
            if row is None or live is None or live.generation != row.generation:
                continue
            if row is not book.durable(instance_id):
                self._heard[instance_id] = None  # when it is written
                continue
            if row.phase in passing and live.phase in passing and row.phase != live.phase:
                book.put(instance_id, row._replace(phase=live.phase))
                self._quiet.add(instance_id)
        if self._quiet:
            try:
                await self.journal.commit()
            except BaseException:
                self._heard = heard | self._heard
                raise

    def _fence(self, tx: Tx) -> None:
        epochs.hold(tx, self.zone, self._epoch)

    def _node_changed(self, number: int, _old: NodeRow | None, new: NodeRow | None) -> None:
        host = self.inventory.hosts.get(number)
        if new is None:  # its registration was taken back; its next Hello brings it again
            self.inventory.hosts[number].lost = True
            self.inventory.touch(self.inventory.hosts[number])
            return
        capacity = Resources(new.vcpus, new.memory_mib)
        if host is None:
            host = self.inventory.add(Host(number, new.zone, capacity, silent=True))
        host.cpu_model, host.hypervisor = new.cpu_model, new.hypervisor
        was_lost, host.cordoned, host.lost = host.lost, new.cordoned, new.lost
        self.inventory.resize(host, capacity)
        if host.lost != was_lost:  # also when that is taken back: it may have been told meanwhile
            self._tell(list(host.takers))

    def _placement_changed(self, instance_id: str, old: Placement | None, new: Placement | None) -> None:
        self._quiet.discard(instance_id)
        if new is not None and new.claimed:
            self.claimed.add(instance_id)
        else:
            self.claimed.discard(instance_id)
        if old is not None and old.left_host >= 0:
            self.left[old.left_host].pop(instance_id, None)
        if new is None:
            self.inventory.release(instance_id)
            self.live.pop(instance_id, None)
            return
        if new.left_host >= 0:
            self.left.setdefault(new.left_host, {})[instance_id] = None
        self._book(instance_id, new.host, new.resources)
        if old is not None and old.generation != new.generation:
            self.live.pop(instance_id, None)

    def _reservation_changed(self, taker: str, _old: Reservation | None, new: Reservation | None) -> None:
        if new is None:
            self.inventory.release(taker)
        else:
            self._book(taker, new.host, new.resources)

    def _book(self, taker: str, number: int, resources: Resources) -> None:
        host = self.inventory.hosts.get(number)
        if host is None:
            self.inventory.release(taker)
        elif host.takers.get(taker) != resources:
            self.inventory.take(taker, host, resources)

    def _placements_written(self, instance_ids: Collection[str]) -> None:
        news = [instance_id for instance_id in instance_ids if instance_id not in self._quiet]
        self._quiet.difference_update(instance_ids)
        self._tell(news)

    def _tell(self, instance_ids: Collection[str]) -> None:
        for changed in self._listeners:
            changed(instance_ids)


def _everything(tx: Tx) -> tuple[Sequence[NodeRow], Sequence[Placement], Sequence[Reservation]]:
    return nodes.load(tx), placements.load(tx), reservations.load(tx)
