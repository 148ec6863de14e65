"""The engine: runs the sagas of one database, and goes on with them after any crash.

Two small transactions a step at most: one records what a step gave together with the beginning
of the next one. What may fail by chance (the database itself) makes the engine drop a saga, never
end it: the poller finds it again. Wake-ups are hints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.reconcile import Reconciler
from mallee.kernel.saga import ENDED, Outcome, Saga
from mallee.kernel.saga.record import Claimed, Fence, Fenced, Record, SagaTables
from mallee.kernel.saga.run import Rest, Run, milliseconds

_log = structlog.get_logger()


class Engine:
    """Runs the sagas it knows; `run` until it is cancelled.

    Args:
        owner: this engine's name; the same after a restart, and nobody else's. Sagas it left
            behind go on at once, those of other owners when their lease has lapsed.
        concurrency: how many steps run at the same time; a saga that rests holds no place.
        poll: seconds between looks at the table, which is the truth; also the beat.
        lease: seconds without a beat after which another engine's sagas are taken over.
        fence: raises, inside a transaction, when this process may run no sagas any more: for owners
            that follow each other under one name.
    """

    def __init__(
        self,
        db: Database,
        tables: SagaTables,
        sagas: Sequence[Saga[Any]],
        *,
        owner: str,
        clock: Clock,
        entropy: Entropy,
        concurrency: int = 64,
        poll: float = 5.0,
        lease: float = 20.0,
        fence: Fence = lambda _tx: None,
    ) -> None:
        self._db = db
        self._record = Record(tables, fence)
        self._sagas = {(saga.kind, saga.version): saga for saga in sagas}
        self._newest = {saga.kind: saga for saga in sorted(sagas, key=lambda saga: saga.version)}
        self._owner = owner
        self._clock = clock
        self._entropy = entropy
        self._places = asyncio.Semaphore(concurrency)
        self._lease = lease
        self._seen: dict[str, tuple[int, float]] = {}  # beat and since when, by owner
        self._lapsed: frozenset[str] = frozenset()
        self._tasks: asyncio.TaskGroup | None = None
        self._runs: dict[str, Run] = {}
        self._waiters: dict[str, list[asyncio.Event]] = {}
        self._poller = Reconciler("sagas", self._look, every=poll, clock=clock)

    def enqueue(self, tx: Tx, kind: str, saga_id: str, content: Any, *, subject: str | None = None) -> None:
        """Begin a saga with the commit of `tx`; a second time with the same id changes nothing.

        `content`, anything JSON can hold, is the saga's input; the newest version known of `kind`
        runs it. A `subject` has one living saga at a time, a second one is a Fault CONFLICT.
        """
        row = {"id": saga_id, "kind": kind, "version": self._newest[kind].version, "subject": subject}
        row["input"] = msgspec.json.encode(content).decode()
        row["created"] = row["updated"] = milliseconds(self._clock)
        if self._record.enqueue(tx, row):
            tx.on_commit(lambda: self._begin(saga_id))

    async def run(self) -> None:
        """Run what there is to run until cancelled; nothing is lost by that."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._poller.run()
            finally:
                self._tasks = None

    def wake(self) -> None:
        """A hint that the table has changed."""
        self._poller.wake()

    async def wait(self, saga_id: str) -> Outcome:
        """How the saga ended, once it has. Fault NOT_FOUND if there is none of that id."""
        woken = asyncio.Event()
        self._waiters.setdefault(saga_id, []).append(woken)
        try:
            while True:
                woken.clear()
                outcome = await self.look_up(saga_id)
                if outcome.state in ENDED:
                    return outcome
                await woken.wait()
        finally:
            self._waiters[saga_id].remove(woken)
            if not self._waiters[saga_id]:
                del self._waiters[saga_id]

    async def look_up(self, saga_id: str) -> Outcome:
        """Where the saga is now. Fault NOT_FOUND if there is none of that id."""
        found = await self._db.read(lambda tx: self._record.state(tx, saga_id))
        if found is None:
            raise Fault(
                Kind.NOT_FOUND,
                f"There is no saga {saga_id}.",
                why="It was never begun, or it ended so long ago that it was forgotten.",
                fix="Look at what it was to do instead.",
                code="saga-unknown",
            )
        state, error = found
        return Outcome(state, msgspec.json.decode(error) if error else None)

    async def cancel(self, saga_id: str) -> bool:
        """Ask that the saga be taken back; False if it has ended.

        It unwinds before its next step. Past its point of no return the wish has no effect:
        `wait` tells which it was.
        """
        wanted = await self._db.transact(lambda tx: self._record.want_cancel(tx, saga_id))
        if wanted and saga_id in self._runs:
            self._runs[saga_id].cancel()
        return wanted

    def hasten(self, saga_id: str) -> None:
        """A hint that what the saga waits for may be there now."""
        if saga_id in self._runs:
            self._runs[saga_id].hasten()

    async def unstick(self, saga_id: str) -> bool:
        """Let a stuck saga go on; False if it is not stuck. For an operator who mended the cause."""
        unstuck = await self._db.transact(lambda tx: self._record.unstick(tx, saga_id))
        self._begin(saga_id)
        return unstuck

    async def _look(self) -> None:
        """One pass over the truth: show that we live, see who does not, begin what is ours."""
        beats = await self._db.transact(lambda tx: self._record.beat(tx, self._owner))
        active = await self._db.read(self._record.active)
        now = self._clock.monotonic()
        silent = {owner: 0 for _, owner, _ in active if owner is not None}
        for other, beat in {**silent, **beats}.items():
            if self._seen.get(other, (None,))[0] != beat:
                self._seen[other] = beat, now
        lapsed = {other for other, (_, since) in self._seen.items() if now - since >= self._lease}
        self._lapsed = frozenset(lapsed - {self._owner})
        for saga_id, owner, cancelled in active:
            if owner is None or owner == self._owner or owner in self._lapsed:
                self._begin(saga_id)
            if cancelled and saga_id in self._runs:
                self._runs[saga_id].cancel()
        for waiting in self._waiters.values():  # for sagas that another engine runs
            for woken in waiting:
                woken.set()

    def _begin(self, saga_id: str) -> None:
        if self._tasks is not None and saga_id not in self._runs:
            self._runs[saga_id] = run = Run(saga_id, self._db, self._record, self._clock)
            self._tasks.create_task(self._drive(run), name=f"saga {saga_id}")

    async def _drive(self, run: Run) -> None:
        """Claim a saga and run it to its end, resting without holding a place."""
        rest: Rest | None = Rest(0)
        try:
            while rest is not None:
                async with self._places:
                    if run.claimed is None:
                        await run.claim(self._owner, self._lapsed, self._saga_of)
                    rest = await run.advance()
                if rest is not None:
                    await run.rest(self._pause(rest))
        except Fenced:
            _log.debug("saga left to another engine", saga=run.id)
        except Fault as fault:
            _log.warning("saga dropped until the next look", saga=run.id, reason=str(fault))
        except Exception:  # noqa: BLE001 - it stops one saga, not the service
            _log.exception("saga dropped by a mistake of ours", saga=run.id)
        finally:
            self._runs.pop(run.id, None)
            for woken in self._waiters.get(run.id, ()):
                woken.set()

    def _saga_of(self, claimed: Claimed) -> Saga[Any]:
        """Before the claim is written: a kind of a newer version is left to whoever knows it."""
        saga = self._sagas.get((claimed.kind, claimed.version))
        if saga is None:
            _log.error(
                "saga of an unknown version", saga=claimed.id, kind=claimed.kind, version=claimed.version
            )
            raise Fenced(claimed.id)
        return saga

    def _pause(self, rest: Rest) -> float:
        """Seconds: doubling to a minute, spread so that a crowd does not come back at once."""
        return min(60.0, 0.5 * 2.0 ** min(rest.failures, 10)) * self._entropy.uniform(0.5, 1.0)
