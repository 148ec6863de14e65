"""Live migration: the six stages of Clark et al. (NSDI 2005, section 3.2), in order, each with its way back.

    0 pre-migration      both nodes fit, the guest runs
    1 reservation        room on B, an empty paused guest, a ticket        undo: drop B's copy, give the room back
    2 iterative pre-copy all pages, then what was dirtied, round by round  undo: drop B's copy, A at full speed
    3 stop-and-copy      A pauses, the rest and the CPU state cross        undo: drop B's copy, A resumes
    4 commitment         B is whole; the placement moves to B              the point of no return
    5 activation         B resumes, A forgets                              only forward

Until stage 4 the copy on A is the guest; after it the copy on B is. Nobody resumes on a time-out: A resumes
when this saga says so, after B's copy was dropped (or its node lost its lease, and its return will drop it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import structlog

from mallee.cc.ledger import Ledger
from mallee.cc.migration.record import Migration
from mallee.cc.peers import HandedOver, Peer, Route, Subject, Ticket
from mallee.domain.migration import Stage
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Order, Saga, Step

_log = structlog.get_logger()


class World(Protocol):
    """What a migration needs of the controller."""

    ledger: Ledger

    def peer(self, number: int) -> Peer:
        """The server of a node."""

    def node_name(self, number: int) -> str: ...

    def service_of(self, number: int) -> str:
        """Whose certificate answers for a node."""

    def is_lost(self, number: int) -> bool: ...

    def is_fenced(self, number: int) -> bool: ...

    def check(self, migration: Migration) -> None:
        """Raise the Fault that says why it cannot begin (any more)."""

    def reserve(self, migration: Migration) -> None:
        """Choose the destination, book its capacity and give the copy its generation, once."""

    def move(self, migration: Migration) -> None:
        """Compare and swap of the placement; Fault CONFLICT when it is not what it was."""

    def moved(self, migration: Migration) -> bool:
        """Whether the placement is the destination's."""

    def stands(self, instance_id: str, host: int, generation: int) -> bool:
        """Whether this copy on this node is still the guest."""

    async def save(self, migration: Migration) -> None:
        """Make everything that was decided durable, the migration as it stands with it."""


@dataclass
class Move:
    """The context of the steps: one migration in its world, made anew after every restart."""

    world: World
    migration: Migration
    order: Order
    paused_since: float | None = None  # on the monotonic clock of this process

    def enter(self, stage: Stage) -> None:
        self.migration.enter(stage, self.world.ledger.now_ms())

    @property
    def source(self) -> Peer:
        return self.world.peer(self.migration.source)

    @property
    def destination(self) -> Peer:
        return self.world.peer(self.migration.destination)

    @property
    def guest(self) -> Subject:
        """The copy on A."""
        m = self.migration
        return Subject(self.world.node_name(m.source), m.instance_id, m.generation, m.id)

    @property
    def copy(self) -> Subject:
        """The copy on B."""
        m = self.migration
        return Subject(self.world.node_name(m.destination), m.instance_id, m.destination_generation, m.id)

    async def drop_copy(self) -> None:
        """B forgets its copy. A node without a lease runs nothing, and its return drops what is superseded."""
        if self.migration.destination < 0:
            return
        try:
            await self.destination.abandon(self.copy)
        except Fault as fault:
            if not (_passing(fault) and self.world.is_lost(self.migration.destination)):
                raise
            _log.warning("copy left behind on a lost node", migration=self.migration.id)

    async def go_on_at_source(self, *, paused: bool) -> None:
        """A runs its guest again, at full speed. One that has ended meanwhile has nothing to resume.

        A guest that this migration paused is resumed by it and nobody else, however long its node is away.
        """
        m = self.migration
        try:
            await self.source.resume(self.guest)
        except Fault as fault:
            owed = paused and self.world.stands(m.instance_id, m.source, m.generation)
            if not _gone(fault) and not (_passing(fault) and self.world.is_fenced(m.source) and not owed):
                raise

    def measure_downtime(self, handed: HandedOver) -> float:
        """Milliseconds for which nothing ran: A's own measure, and the controller's from A's answer on."""
        if self.paused_since is None:  # this process did not see A's answer
            answered: int = self.order.done[StopAndCopy.name]["at_ms"]
            since_answer = float(self.world.ledger.now_ms() - answered)
        else:
            since_answer = (self.world.ledger.clock.monotonic() - self.paused_since) * 1000
        return handed.paused_ms + since_answer


class PreMigration(Step[Move]):
    """Stage 0. Whatever held when it was asked for must still hold."""

    name: ClassVar[str] = Stage.PRE_MIGRATION.title
    retries: ClassVar[int] = 0

    async def do(self, m: Move, /) -> None:
        m.enter(Stage.PRE_MIGRATION)
        m.world.check(m.migration)


class Reservation(Step[Move]):
    """Stage 1. Room on B for certain, and an empty paused guest there."""

    name: ClassVar[str] = Stage.RESERVATION.title
    retries: ClassVar[int] = 0

    async def do(self, m: Move, /) -> Ticket:
        m.enter(Stage.RESERVATION)
        m.world.reserve(m.migration)
        await m.world.save(m.migration)
        row = m.world.ledger.placements.rows[m.migration.instance_id]
        return await m.destination.prepare(m.copy, row.guest, m.guest.node)

    async def undo(self, m: Move, _done: Any, /) -> None:
        # B first: room that is given back while a copy still stands in it would be promised twice.
        await m.drop_copy()
        m.world.ledger.reservations.drop(m.migration.incoming)
        await m.world.save(m.migration)


class IterativePreCopy(Step[Move]):
    """Stage 2. The guest runs while its pages cross, until what is left is small or no round helps."""

    name: ClassVar[str] = Stage.ITERATIVE_PRE_COPY.title
    retries: ClassVar[int] = 0

    async def do(self, m: Move, /) -> str:
        m.enter(Stage.ITERATIVE_PRE_COPY)
        await m.world.save(m.migration)
        copying = asyncio.ensure_future(self._copy(m))
        wanted = asyncio.ensure_future(m.order.cancelled.wait())
        try:
            await asyncio.wait((copying, wanted), return_when=asyncio.FIRST_COMPLETED)
            if not copying.done():
                raise cancelled(m.migration)
            copying.result()
        finally:
            wanted.cancel()
            copying.cancel()
            await asyncio.wait((copying,))
        return m.migration.stop_reason

    async def _copy(self, m: Move) -> None:
        ticket = Ticket(*m.order.done[Reservation.name])
        answers = m.world.service_of(m.migration.destination)
        route = Route(m.copy.node, m.copy.generation, ticket, answers)
        async for progress in m.source.pre_copy(m.guest, route, m.migration.asked.limits):
            m.migration.saw(progress)
            if m.migration.force and not progress.stop_reason:
                await m.source.finish(m.guest)

    async def undo(self, m: Move, _done: Any, /) -> None:
        await m.drop_copy()
        await m.go_on_at_source(paused=False)


class StopAndCopy(Step[Move]):
    """Stage 3. The guest stops; the last pages cross. Both copies are now whole, and A's is primary."""

    name: ClassVar[str] = Stage.STOP_AND_COPY.title
    retries: ClassVar[int] = 0

    async def do(self, m: Move, /) -> dict[str, Any]:
        m.enter(Stage.STOP_AND_COPY)
        await m.world.save(m.migration)
        handed = await m.source.stop_and_copy(m.guest)
        m.paused_since = m.world.ledger.clock.monotonic()
        m.migration.bytes_sent = sum(r.bytes_sent for r in m.migration.rounds) + handed.bytes_sent
        m.migration.bytes_remaining = 0
        return handed._asdict() | {"at_ms": m.world.ledger.now_ms()}

    async def undo(self, m: Move, _done: Any, /) -> None:
        await m.drop_copy()
        m.world.ledger.reservations.drop(m.migration.incoming)  # A may be long in coming back
        await m.world.save(m.migration)
        await m.go_on_at_source(paused=True)


class Commitment(Step[Move]):
    """Stage 4. B proves that its image is A's; then the record moves, and with it the guest."""

    name: ClassVar[str] = Stage.COMMITMENT.title
    final: ClassVar[bool] = True

    async def do(self, m: Move, /) -> None:
        m.enter(Stage.COMMITMENT)
        if m.world.moved(m.migration):
            return
        await self._prove(m)
        if m.order.cancelled.is_set():
            raise cancelled(m.migration)
        # From the comparison to the swap nothing is awaited.
        m.world.move(m.migration)
        await m.world.save(m.migration)

    async def _prove(self, m: Move) -> None:
        try:
            digest = await m.destination.verify(m.copy)
        except Fault as fault:
            # Nothing has moved yet: a destination that cannot be asked is a reason to go back, not to wait.
            raise Fault(
                Kind.CONFLICT,
                "The destination could not confirm its image.",
                why=str(fault),
                fix="Migrate again.",
                code="not-confirmed",
            ) from fault
        if not digest or digest != m.order.done[StopAndCopy.name]["digest"]:
            raise Fault(
                Kind.CONFLICT,
                "The image at the destination is not the guest's.",
                why="It is incomplete." if not digest else "Its digest differs from the source's.",
                fix="Migrate again, and look at the nodes' logs.",
                code="image-mismatch",
            )


class Activation(Step[Move]):
    """Stage 5. B runs; then A forgets, and its room is free."""

    name: ClassVar[str] = Stage.ACTIVATION.title

    async def do(self, m: Move, /) -> None:
        m.enter(Stage.ACTIVATION)
        await self._run_at_destination(m)
        await self._forget_at_source(m)
        m.world.ledger.reservations.drop(m.migration.outgoing)
        await m.world.save(m.migration)

    async def _run_at_destination(self, m: Move) -> None:
        """A copy that is gone again was ended by a later wish, or died with its node: convergence has it.

        One that is still the guest is woken by nobody else, however long its node is away.
        """
        to = m.migration
        try:
            await m.destination.activate(m.copy)
        except Fault as fault:
            owed = m.world.stands(to.instance_id, to.destination, to.destination_generation)
            if not _gone(fault) and not (_passing(fault) and m.world.is_fenced(to.destination) and not owed):
                raise
            return
        if not m.migration.downtime_ms:
            handed = m.order.done[StopAndCopy.name]
            names = HandedOver._fields
            m.migration.downtime_ms = m.measure_downtime(HandedOver(**{name: handed[name] for name in names}))

    async def _forget_at_source(self, m: Move) -> None:
        """A lost node runs nothing; when it returns it is told to destroy what is superseded."""
        try:
            await m.source.discard(m.guest)
        except Fault as fault:
            if not _gone(fault) and not (_passing(fault) and m.world.is_lost(m.migration.source)):
                raise


def cancelled(migration: Migration) -> Fault:
    """What ends a migration that somebody wants ended."""
    return Fault(Kind.CONFLICT, f"Migration {migration.id} was cancelled.", code="cancelled")


def _passing(fault: Fault) -> bool:
    return fault.kind is Kind.UNAVAILABLE


def _gone(fault: Fault) -> bool:
    return fault.kind in {Kind.NOT_FOUND, Kind.STALE} and fault.code != "no-such-node"


STAGES: tuple[Step[Move], ...] = (
    PreMigration(),
    Reservation(),
    IterativePreCopy(),
    StopAndCopy(),
    Commitment(),
    Activation(),
)


def live_migration(world: World, find: Callable[[str], Migration]) -> Saga[Move]:
    """The saga; `find` gives the migration of an id."""

    async def context(order: Order) -> Move:
        return Move(world, find(order.id), order)

    return Saga("live-migration", 1, STAGES, context)
