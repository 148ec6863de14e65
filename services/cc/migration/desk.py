"""Where migrations are asked for, wait for their turn, are steered and looked up.

At most `per_node` go out of a node and as many come in at once; the rest wait in the order in which
they were asked for. Whether one has ended is what its saga says.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from mallee.cc.convergence import Convergence
from mallee.cc.db import transfers
from mallee.cc.db.nodes import NodeRow
from mallee.cc.db.reservations import Reservation
from mallee.cc.ledger import Ledger, Live
from mallee.cc.migration.live import cancelled, live_migration
from mallee.cc.migration.preflight import Plan, plan
from mallee.cc.migration.record import Asked, Migration, read
from mallee.cc.nodes import Nodes
from mallee.cc.peers import Peer, Subject
from mallee.domain.guest import Cause, Phase, Power
from mallee.domain.migration import Stage
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Saga, State
from mallee.kernel.saga.engine import Engine

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """A migration, or why there is none, and what else could be."""

    migration: Migration | None
    plan: Plan


class Desk:
    """All open migrations of the zone, and the world their steps move in.

    Args:
        connect: the server of a node.
        touch: instances whose migration began or ended.
        per_node: how many migrations a node sends at once, and how many it receives.
    """

    convergence: Convergence
    engine: Engine

    def __init__(
        self,
        ledger: Ledger,
        nodes: Nodes,
        *,
        connect: Callable[[NodeRow], Peer],
        touch: Callable[[Sequence[str]], None],
        per_node: int,
    ) -> None:
        self.ledger = ledger
        self._nodes = nodes
        self._connect = connect
        self._touch = touch
        self._per_node = per_node
        self._open: dict[str, Migration] = {}
        self.of_instances: dict[str, Migration] = {}  # the open one of each
        self._tasks: set[asyncio.Task[None]] = set()

    def saga(self) -> Saga[Any]:
        """The kind of saga that the engine must know."""
        return live_migration(self, self._find)

    async def open(self) -> None:
        """Take up what was open when the controller ended."""
        for row in await self.ledger.db.read(transfers.load_open):
            migration = read(row)
            self._admit(migration)
            if migration.state == "running":
                self._spawn(self._follow(migration))

    async def close(self) -> None:
        """Let go; everything goes on at the next start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Asking

    async def migrate(self, asked: Asked, *, plan_only: bool = False) -> Answer:
        """Begin, or say why not; the same id again is the same migration. Durable when answered."""
        known = await self.look_up(asked.migration_id)
        if known is not None and not plan_only:
            return Answer(known, Plan())
        found = plan(self.ledger, asked, open_migration=self.migration_of(asked.instance_id))
        if plan_only or not found.candidates:
            return Answer(None, found)
        row = self.ledger.placements.rows[asked.instance_id]
        migration = Migration(asked, row.host, row.generation, self.ledger.now_ms())
        migration.memory_bytes = row.memory_mib * 1024 * 1024
        self._admit(migration)
        beginning = asyncio.create_task(self._begin(migration))
        self._tasks.add(beginning)
        beginning.add_done_callback(self._tasks.discard)
        # Whole, even if the caller gives up meanwhile: nobody would follow to its end what has begun all the same.
        await asyncio.shield(beginning)
        return Answer(migration, found)

    async def _begin(self, migration: Migration) -> None:
        try:
            if not await self._start(migration):
                await self.save(migration)
        except Fault:
            self._dismiss(migration)
            self._spawn(self._take_back(migration))
            raise

    async def steer(self, migration_id: str, *, cancel: bool, force_complete: bool) -> Migration:
        """Cancel before the commit point, or end the pre-copy now.

        Raises:
            Fault: NOT_FOUND; CONFLICT `past-commit-point` or `migration-ended`.
        """
        migration = await self.look_up(migration_id)
        if migration is None:
            raise Fault(Kind.NOT_FOUND, f"There is no migration {migration_id}.", code="not-found")
        if not migration.open:
            raise Fault(
                Kind.CONFLICT, f"Migration {migration_id} is {migration.state}.", code="migration-ended"
            )
        if cancel and self.moved(migration):
            raise Fault(
                Kind.CONFLICT,
                f"Migration {migration_id} cannot be cancelled.",
                why="The instance belongs to its destination already.",
                fix="Migrate it back.",
                code="past-commit-point",
            )
        if cancel:
            await asyncio.shield(self._cancel(migration))
        elif force_complete:
            await self._force(migration)
        return migration

    async def look_up(self, migration_id: str) -> Migration | None:
        """A migration, live if it is open."""
        if migration_id in self._open:
            return self._open[migration_id]
        row = await self.ledger.db.read(partial(transfers.find, migration_id=migration_id))
        return None if row is None else read(row)

    async def page(
        self,
        *,
        migration_ids: Collection[str],
        instance_ids: Collection[str],
        states: Collection[str],
        after: str,
        limit: int,
    ) -> list[Migration]:
        """A page by id, the open ones as they are at this moment."""

        def work(tx: Tx) -> list[transfers.Transfer]:
            return transfers.page(
                tx,
                migration_ids=migration_ids,
                instance_ids=instance_ids,
                states=states,
                after=after,
                limit=limit,
            )

        rows = await self.ledger.db.read(work)
        return [self._open.get(row.migration_id) or read(row) for row in rows]

    def migration_of(self, instance_id: str) -> str:
        """The id of the instance's open migration, or ''."""
        migration = self.of_instances.get(instance_id)
        return migration.id if migration else ""

    def wants_out(self, instance_id: str) -> None:
        """A later wish ends the instance's migration, or frees it from waiting for a dead node."""
        migration = self.of_instances.get(instance_id)
        if migration is None:
            return
        if self.moved(migration):
            self.engine.hasten(migration.id)
        else:
            self._spawn(self._cancel(migration))

    def in_transit(self, instance_id: str, host: int, generation: int) -> str | None:
        """Under which name room is booked for this copy on this node, if it belongs to an open migration."""
        m = self.of_instances.get(instance_id)
        if m is None:
            return None
        booked = {(m.source, m.generation): m.outgoing, (m.destination, m.destination_generation): m.incoming}
        return booked.get((host, generation))

    def node_is_back(self, number: int) -> None:
        """Migrations that rest because the node did not answer go on: a guest may be paused until then."""
        for migration in self._open.values():
            if number in {migration.source, migration.destination}:
                self.engine.hasten(migration.id)

    # Turns

    async def pump(self) -> None:
        """Begin what waits, as far as nodes have a place for it."""
        for migration in [m for m in self._open.values() if m.state == "pending"]:
            try:
                await self._start(migration)
            except Fault as fault:
                _log.warning("migration stays pending", migration=migration.id, reason=str(fault))

    async def _start(self, migration: Migration) -> bool:
        """Begin the saga if both nodes have a place; choosing and counting are one moment."""
        going, coming = Counter[int](), Counter[int]()
        for other in self._open.values():
            if other.state == "running":
                going[other.source] += 1
                coming[other.destination] += 1
        if migration.state != "pending" or going[migration.source] >= self._per_node:
            return False
        candidates = plan(self.ledger, migration.asked).candidates
        free = [host for host in candidates if coming[host.index] < self._per_node]
        if candidates and not free:
            return False
        migration.state = "running"
        migration.destination = free[0].index if free else -1
        try:
            await self.save(migration, also=partial(self._enqueue, migration))
        except Fault:
            migration.state, migration.destination = "pending", -1
            raise
        self._touch([migration.instance_id])
        self._spawn(self._follow(migration))
        return True

    def _enqueue(self, migration: Migration, tx: Tx) -> None:
        self.engine.enqueue(tx, "live-migration", migration.id, {}, subject=migration.instance_id)

    async def _follow(self, migration: Migration) -> None:
        """Close the matter when the saga has ended, then let the next one begin."""
        outcome = await self.engine.wait(migration.id)
        if outcome.state is State.DONE:
            migration.state, migration.cause = "completed", None
        else:
            error = outcome.error or {}
            code = str(error.get("code") or "failed")
            if code == "saga-cancelled":
                code = "cancelled"
            migration.cause = Cause(code, " ".join(p for p in (error.get("what"), error.get("why")) if p))
            migration.state = "cancelled" if code == "cancelled" else "failed"
        await self._end(migration)

    async def _end(self, migration: Migration) -> None:
        migration.ended_ms = self.ledger.now_ms()
        await self._save_for_certain(migration)
        self._dismiss(migration)
        self._touch([migration.instance_id])
        # Whatever was wished meanwhile goes to the place where the instance is now.
        self.convergence.order([migration.instance_id])
        # Completed, the source has answered that it has nothing; away, it will say everything anew.
        if migration.state != "completed" and migration.source in self._nodes.attending():
            self.convergence.left_running(migration.instance_id, migration.source, migration.generation)
        await self.pump()

    async def _take_back(self, migration: Migration) -> None:
        """A commit whose answer was lost may have been made: what was refused must not stand open for ever."""
        migration.state, migration.ended_ms = "failed", self.ledger.now_ms()
        migration.cause = Cause("not-begun", "Its beginning could not be written for certain.")

        def work(tx: Tx) -> None:
            if transfers.find(tx, migration.id) is not None:
                transfers.save(tx, [migration.row()])

        while True:
            try:
                await self.engine.cancel(migration.id)
                return await self.ledger.journal.commit(work)
            except Fault as fault:
                _log.warning("migration not taken back yet", migration=migration.id, reason=str(fault))
                await self.ledger.clock.sleep(1.0)

    async def _save_for_certain(self, migration: Migration) -> None:
        while True:
            try:
                return await self.save(migration)
            except Fault as fault:
                _log.warning("end of migration not written yet", migration=migration.id, reason=str(fault))
                await self.ledger.clock.sleep(1.0)

    async def _cancel(self, migration: Migration) -> None:
        if migration.state == "pending":
            migration.state, migration.cause = "cancelled", Cause("cancelled", cancelled(migration).what)
            await self._end(migration)
        else:
            await self.ledger.journal.commit()  # its saga may be in the transaction that is under way
            await self.engine.cancel(migration.id)

    async def _force(self, migration: Migration) -> None:
        migration.force = True
        if migration.stage is not Stage.ITERATIVE_PRE_COPY:
            return  # too early: the first round will tell the source; too late: it is over
        subject = Subject(
            self.node_name(migration.source), migration.instance_id, migration.generation, migration.id
        )
        try:
            await self.peer(migration.source).finish(subject)
        except Fault as fault:
            if fault.kind not in {Kind.NOT_FOUND, Kind.STALE}:
                raise

    def _admit(self, migration: Migration) -> None:
        self._open[migration.id] = migration
        self.of_instances[migration.instance_id] = migration

    def _dismiss(self, migration: Migration) -> None:
        self._open.pop(migration.id, None)
        if self.of_instances.get(migration.instance_id) is migration:
            del self.of_instances[migration.instance_id]

    def _find(self, migration_id: str) -> Migration:
        return self._open[migration_id]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a migration is no longer followed until the next start", exc_info=error)

    # The world of the steps

    def peer(self, number: int) -> Peer:
        return self._connect(self._nodes.row(number))

    def service_of(self, number: int) -> str:
        return self._nodes.row(number).speaker

    def node_name(self, number: int) -> str:
        return self._nodes.row(number).name

    def is_lost(self, number: int) -> bool:
        return self.ledger.inventory.hosts[number].lost

    def is_fenced(self, number: int) -> bool:
        return self._nodes.is_fenced(number)

    def check(self, migration: Migration) -> None:
        found = plan(self.ledger, migration.asked)
        row = self.ledger.placements.rows.get(migration.instance_id)
        if not found.candidates:
            raise _refused(migration, found)
        if row is None or (row.host, row.generation) != (migration.source, migration.generation):
            raise Fault(
                Kind.CONFLICT, f"{migration.instance_id} is not where it was.", code="moved-meanwhile"
            )

    def reserve(self, migration: Migration) -> None:
        book = self.ledger.reservations
        if migration.incoming in book.rows:
            return
        found = plan(self.ledger, migration.asked)
        if not found.candidates:
            raise _refused(migration, found)
        able = [host.index for host in found.candidates]
        if migration.destination not in able:
            migration.destination = able[0]
        row = self.ledger.placements.rows[migration.instance_id]
        migration.destination_generation = row.issued + 1
        self.ledger.placements.put(row.instance_id, row._replace(issued=row.issued + 1))
        book.put(
            migration.incoming,
            Reservation(migration.incoming, migration.destination, row.vcpus, row.memory_mib),
        )

    def moved(self, migration: Migration) -> bool:
        row = self.ledger.placements.rows.get(migration.instance_id)
        return (
            row is not None
            and migration.destination_generation > 0
            and (row.generation >= migration.destination_generation)
        )

    def stands(self, instance_id: str, host: int, generation: int) -> bool:
        row = self.ledger.placements.rows.get(instance_id)
        return row is not None and (row.host, row.generation) == (host, generation)

    def move(self, migration: Migration) -> None:
        row = self.ledger.placements.rows.get(migration.instance_id)
        here = row is not None and (row.host, row.generation) == (migration.source, migration.generation)
        if row is None or not here or row.power != Power.RUNNING:
            raise Fault(
                Kind.CONFLICT,
                f"{migration.instance_id} is not what it was when its migration began.",
                why="A later wish or a fact of its node has changed it.",
                code="cancelled" if here else "moved-meanwhile",
            )
        book = self.ledger.reservations
        book.drop(migration.incoming)
        there = row._replace(host=migration.destination, generation=migration.destination_generation)
        self.ledger.placements.put(row.instance_id, there)
        book.put(
            migration.outgoing, Reservation(migration.outgoing, migration.source, row.vcpus, row.memory_mib)
        )
        self.ledger.hear(row.instance_id, Live(there.generation, Phase.RUNNING, reboots=row.reboots))

    async def save(self, migration: Migration, also: Callable[[Tx], None] | None = None) -> None:
        row = migration.row()

        def work(tx: Tx) -> None:
            transfers.save(tx, [row])
            if also is not None:
                also(tx)

        await self.ledger.journal.commit(work)


def _refused(migration: Migration, found: Plan) -> Fault:
    first = found.refusals[0].cause if found.refusals else Cause("no-capacity", "There is no other node.")
    return Fault(
        Kind.NO_CAPACITY if first.code == "no-capacity" else Kind.CONFLICT,
        f"Migration {migration.id} has no destination.",
        why=first.message,
        code=first.code,
    )
