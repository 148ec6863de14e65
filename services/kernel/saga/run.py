"""One saga being run: forward to its end, or back to its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Event, Order, Saga, State, Step
from mallee.kernel.saga.record import Claimed, Entry, Record

_log = structlog.get_logger()


class Rest(NamedTuple):
    """Nothing to do for now: so often in a row the same thing has failed."""

    failures: int


class _Stuck(Exception):  # noqa: N818 - the end of a saga, not of the engine
    """An assertion failed: going either way might do harm."""


class Run:
    """A saga in the hands of one engine: `claim` it, then `advance` until there is no `Rest`."""

    claimed: Claimed | None = None

    def __init__(self, saga_id: str, db: Database, record: Record, clock: Clock) -> None:
        self.id = saga_id
        self._db = db
        self._record = record
        self._clock = clock
        self._nap: asyncio.Future[None] | None = None
        self._failures = 0  # in a row
        self._context: Any = None

    async def claim(
        self, owner: str, lapsed: Collection[str], saga_of: Callable[[Claimed], Saga[Any]]
    ) -> None:
        """Make the saga ours and read how far it came. Raises Fenced if it is not to be had."""

        def work(tx: Tx) -> tuple[Claimed, Saga[Any]]:
            claimed = self._record.claim(tx, self.id, owner, lapsed, milliseconds(self._clock))
            return claimed, saga_of(claimed)

        claimed, self._saga = await self._db.transact(work)
        self.claimed = claimed
        self._state = claimed.state
        self._seq = 0
        self._begun: list[str] = []  # and not taken back, in order
        self._done: dict[str, Any] = {}
        for entry in claimed.entries:
            self._apply(entry)
        self._touched = bool(self._begun)  # whether the present step may have had an effect
        self._order = Order(self.id, claimed.input, self._done)
        if claimed.cancelled:
            self._order.cancelled.set()

    def cancel(self) -> None:
        """Somebody wants this ended: it need not rest any longer to hear so."""
        if self.claimed is not None:
            self._order.cancelled.set()
        if self._nap is not None:
            self._nap.cancel()

    def hasten(self) -> None:
        """What it waits for may be there now: rest no longer, and little again."""
        self._failures = 0
        if self._nap is not None:
            self._nap.cancel()

    async def rest(self, seconds: float) -> None:
        self._nap = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((self._nap,))
        finally:
            self._nap.cancel()
            self._nap = None

    async def advance(self) -> Rest | None:
        """Steps until the saga has ended (None) or has to rest. Faults are the database's."""
        try:
            rest = await self._enter()
            if self._context is not None:
                while self._state in {State.RUNNING, State.UNWINDING} and (rest is None or self._turns()):
                    rest = await (self._forward() if self._state is State.RUNNING else self._back())
        except _Stuck as stuck:
            _log.critical("saga stuck", saga=self.id, exc_info=stuck.__cause__)
            await self._write((), state=State.STUCK, error=described(stuck.__cause__ or stuck))
            return None
        return rest

    async def _enter(self) -> Rest | None:
        if self._context is not None:
            return None
        try:
            self._context = await self._saga.context(self._order)
        except Exception as error:  # noqa: BLE001 - recorded, and tried again
            if self._begun or passing(error):
                return await self._failed_again(error)
            await self._write((), state=State.UNDONE, error=described(error))
        return None

    async def _forward(self) -> Rest | None:
        step = self._saga.steps[len(self._begun) - 1 if self._begun else 0]
        if not self._begun:
            await self._write((Entry(step.name, Event.STARTED),))
        if self._turns():
            await self._turn(step, _cancelled(self.id))
            return None
        self._touched = True
        try:
            output = await step.do(self._context)
        except Exception as error:  # noqa: BLE001 - the saga's course is decided by it
            return await self._failed(step, error)
        self._failures = 0
        gave = Entry(step.name, Event.SUCCEEDED, _encoded(output))
        following = self._saga.steps[len(self._begun) :]
        if following:
            await self._write((gave, Entry(following[0].name, Event.STARTED)))
            self._touched = False
        else:
            await self._write((gave,), state=State.DONE)
        return None

    async def _failed(self, step: Step[Any], error: Exception) -> Rest | None:
        if isinstance(error, AssertionError):
            raise _Stuck from error
        if step.final and not isinstance(error, Fault):
            # Whether it had its effect nobody knows. Only a Fault that is not a passing one refuses.
            return await self._failed_again(error, step.name)
        patient = step.final or (self._failures < step.retries and not self._order.cancelled.is_set())
        if not self._may_turn() or (passing(error) and patient):
            return await self._failed_again(error, step.name)
        await self._turn(step, error)
        return None

    async def _turn(self, step: Step[Any], error: Exception) -> None:
        """Before the point of no return: from here the saga goes back."""
        self._failures = 0
        entries = Entry(step.name, Event.FAILED), Entry(step.name, Event.UNDO_STARTED)
        await self._write(entries, state=State.UNWINDING, error=described(error, step.name))

    async def _back(self) -> Rest | None:
        step = self._saga.steps[len(self._begun) - 1]
        try:
            await step.undo(self._context, self._done.get(step.name))
        except AssertionError as error:
            raise _Stuck from error
        except Exception as error:  # noqa: BLE001 - there is no other way than to try again
            return await self._failed_again(error, step.name)
        self._failures = 0
        undone = Entry(step.name, Event.UNDO_FINISHED)
        if len(self._begun) > 1:
            await self._write((undone, Entry(self._begun[-2], Event.UNDO_STARTED)))
        else:
            await self._write((undone,), state=State.UNDONE)
        return None

    async def _failed_again(self, error: Exception, step: str = "") -> Rest:
        """Count it; the error shows why the saga waits, unless it holds why the saga turned."""
        self._failures += 1
        _log.warning("saga step failed", saga=self.id, step=step, times=self._failures, reason=str(error))
        shown = described(error, step) if self._state is State.RUNNING else None
        await self._write((), error=shown, failed=True)
        return Rest(self._failures)

    def _may_turn(self) -> bool:
        return not any(step.final and step.name in self._done for step in self._saga.steps)

    def _turns(self) -> bool:
        """Whether a wish to cancel counts now: not where a final step may have had its effect."""
        final = self._saga.steps[max(len(self._begun) - 1, 0)].final
        wanted = self._state is State.RUNNING and self._order.cancelled.is_set()
        return wanted and self._may_turn() and not (final and self._touched)

    async def _write(
        self,
        entries: Sequence[Entry],
        *,
        state: State | None = None,
        error: Mapping[str, Any] | None = None,
        failed: bool = False,
    ) -> None:
        assert self.claimed is not None
        epoch = self.claimed.epoch
        changes: dict[str, Any] = {"updated": milliseconds(self._clock)}
        if state is not None:
            changes["state"] = state.value
        if state is State.DONE:
            changes["error"] = None
        elif error is not None:
            changes["error"] = _encoded(error)
        cancelled = await self._db.transact(
            lambda tx: self._record.write(tx, self.id, epoch, self._seq, entries, changes, failed=failed)
        )
        if cancelled:
            self._order.cancelled.set()
        for entry in entries:
            self._apply(entry)
        self._state = state or self._state

    def _apply(self, entry: Entry) -> None:
        self._seq += 1
        match entry.event:
            case Event.STARTED:
                assert self._saga.steps[len(self._begun)].name == entry.step, f"{self.id}: steps have changed"
                self._begun.append(entry.step)
            case Event.SUCCEEDED:
                self._done[entry.step] = msgspec.json.decode(entry.output or "null")
            case Event.UNDO_FINISHED:
                self._begun.pop()


def milliseconds(clock: Clock) -> int:
    """The calendar as the tables hold it."""
    return int(clock.now().timestamp() * 1000)


def passing(error: BaseException) -> bool:
    """Whether the same thing may work in a moment."""
    if isinstance(error, Fault):
        return error.kind is Kind.UNAVAILABLE
    return isinstance(error, ConnectionError | TimeoutError)


def described(error: BaseException, step: str = "") -> dict[str, Any]:
    """An exception as a saga's row keeps it: a Fault's parts, and the step."""
    if not isinstance(error, Fault):
        kind = Kind.UNAVAILABLE if passing(error) else Kind.INTERNAL
        error = Fault(kind, str(error) or type(error).__name__, why=type(error).__name__)
    parts = {"kind": error.kind.value, "what": error.what, "why": error.why, "fix": error.fix}
    return {**parts, "code": error.code, "step": step}


def _encoded(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except TypeError as error:
        raise _Stuck from error


def _cancelled(saga_id: str) -> Fault:
    return Fault(
        Kind.CONFLICT,
        f"The saga {saga_id} was cancelled.",
        why="Somebody asked for it before its point of no return.",
        code="saga-cancelled",
    )
