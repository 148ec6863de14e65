"""The tests that every saga gets.

A test gives `fresh`, which makes a world and a saga bound to it, and `clean`, which asserts that
nothing of the saga is left in that world. Then:

- `assert_unwinds_from_everywhere`: each step before the point of no return does its work and then
  fails; nothing may be left. `assert_unwinds_undoing_twice` runs each undo twice.
- `assert_steps_repeat`: each step is done twice; the saga must end as if it had been once.
- `assert_survives_crash_everywhere`: the engine is killed at each of its writes, before it and
  after it - which is before an effect, after it and after its record - and a new engine on the
  same database must finish, forward and backward.

Each answers how many cases it tried, for the test to compare: none tried is a test that cannot fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database, T, Work
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.saga import Outcome, Saga, State, Step
from mallee.kernel.saga.engine import Engine
from mallee.kernel.saga.record import SagaTables, saga_tables


@dataclass
class Scene:
    """One world with one saga to run in it.

    `db` and `tables` are the service's own if the steps write to its database; else the helper
    opens one. `clock` is the world's, if it has one: the helper moves it.
    """

    saga: Saga[Any]
    input: Any
    world: Any = None
    db: Database | None = None
    tables: SagaTables | None = None
    clock: ManualClock = field(default_factory=ManualClock)


Fresh = Callable[[], Awaitable[Scene]]
Check = Callable[[Scene], Awaitable[None]]


class Killed(BaseException):
    """The engine's process ends here."""


class BrokenError(Exception):
    """What an injected failure raises: not passing, so nobody tries again."""


class _Around(Step[Any]):
    """A step with something wrong around it."""

    def __init__(self, real: Step[Any], *, fails: bool = False, does: int = 1, undoes: int = 1) -> None:
        self._real = real
        self._fails = fails
        self._does = does
        self._undoes = undoes
        self.name = real.name  # type: ignore[misc]
        self.final = real.final  # type: ignore[misc]
        self.retries = real.retries  # type: ignore[misc]

    async def do(self, ctx: Any, /) -> Any:
        for _ in range(self._does):
            done = await self._real.do(ctx)
        if self._fails:  # the worst moment: everything has been done
            raise BrokenError(self.name)
        return done

    async def undo(self, ctx: Any, done: Any, /) -> None:
        for _ in range(self._undoes):
            await self._real.undo(ctx, done)


class _Dying(Database):
    """A database whose process dies at its n-th write: just before it, or just after."""

    def __init__(self, real: Database, dies_at: int, *, after: bool) -> None:
        self._real = real
        self._left = dies_at
        self._after = after

    async def transact(self, work: Work[T]) -> T:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        result = await self._real.transact(work)
        if self._left == 0:
            raise Killed
        return result

    async def read(self, work: Work[T]) -> T:
        return await self._real.read(work)

    async def close(self) -> None:
        """The process is gone, its database stays."""


async def assert_unwinds_from_everywhere(fresh: Fresh, clean: Check, *, undoes: int = 1) -> int:
    """Fail each step in turn before the final one; how many were tried."""
    tried = 0
    for number in range(_steps_before_no_return(await fresh())):
        scene = await fresh()
        scene.saga = _with(scene.saga, number, undoes=undoes)
        outcome = await run_to_end(scene)
        name = scene.saga.steps[number].name
        assert outcome.state is State.UNDONE, f"failed at {name}: {outcome}"
        assert outcome.error is not None
        assert outcome.error["step"] == name
        await clean(scene)
        tried += 1
    return tried


async def assert_unwinds_undoing_twice(fresh: Fresh, clean: Check) -> int:
    """The same, every undo run twice: a crash in the middle of an undo repeats it."""
    return await assert_unwinds_from_everywhere(fresh, clean, undoes=2)


async def assert_steps_repeat(fresh: Fresh, finished: Check) -> int:
    """Each step done twice in a row gives what doing it once gives; how many steps."""
    scene = await fresh()
    scene.saga = dataclasses.replace(
        scene.saga, steps=tuple(_Around(step, does=2) for step in scene.saga.steps)
    )
    outcome = await run_to_end(scene)
    assert outcome.state is State.DONE, outcome
    await finished(scene)
    return len(scene.saga.steps)


async def assert_survives_crash_everywhere(fresh: Fresh, finished: Check, clean: Check) -> int:
    """Kill the engine at every write of a run that succeeds and of one that unwinds; how many kills."""
    last = _steps_before_no_return(await fresh()) - 1
    kills = await _killed_everywhere(fresh, None, finished)
    return kills + await _killed_everywhere(fresh, last, clean) if last >= 0 else kills


async def _killed_everywhere(fresh: Fresh, failing: int | None, check: Check) -> int:
    kills = 0
    for after in (False, True):
        died, dies_at = True, 0
        while died:
            scene = await fresh()
            if failing is not None:
                scene.saga = _with(scene.saga, failing, undoes=1)
            dies_at += 1
            async with _database(scene) as (db, tables):
                died = await _run_until_killed(scene, _Dying(db, dies_at, after=after), tables, db)
                outcome = await _finish(scene, db, tables)
            where = f"killed {'after' if after else 'before'} write {dies_at}"
            assert outcome.state is (State.DONE if failing is None else State.UNDONE), f"{where}: {outcome}"
            await check(scene)
            kills += died
    return kills


async def run_to_end(scene: Scene) -> Outcome:
    """Enqueue the scene's saga and run it, moving the clock as long as it rests."""
    async with _database(scene) as (db, tables):
        engine = an_engine(scene, db, tables)
        await db.transact(lambda tx: engine.enqueue(tx, scene.saga.kind, "saga-1", scene.input))
        return await _finish(scene, db, tables)


def an_engine(scene: Scene, db: Database, tables: SagaTables, owner: str = "engine") -> Engine:
    return Engine(db, tables, [scene.saga], owner=owner, clock=scene.clock, entropy=SeededEntropy(1))


async def _run_until_killed(scene: Scene, dying: Database, tables: SagaTables, db: Database) -> bool:
    """Whether the engine was killed before the saga had ended."""
    engine = an_engine(scene, dying, tables)
    await db.transact(lambda tx: engine.enqueue(tx, scene.saga.kind, "saga-1", scene.input))
    running = asyncio.create_task(_until_killed(engine))
    waiting = asyncio.create_task(engine.wait("saga-1"))
    await _move(scene.clock, lambda: running.done() or waiting.done())
    killed = running.done() and not waiting.done()
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    return killed


async def _until_killed(engine: Engine) -> None:
    try:
        await engine.run()
    except BaseExceptionGroup as group:
        _, others = group.split(Killed)
        if others is not None:
            raise others from None


async def _finish(scene: Scene, db: Database, tables: SagaTables) -> Outcome:
    engine = an_engine(scene, db, tables)
    running = asyncio.create_task(engine.run())
    waiting = asyncio.create_task(engine.wait("saga-1"))
    try:
        await _move(scene.clock, lambda: running.done() or waiting.done())
        if running.done():
            running.result()
        return await waiting
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)


async def _move(clock: ManualClock, over: Callable[[], bool]) -> None:
    """Time passes until it is `over`; a saga that needs hours of it will never end."""
    for _ in range(1000):
        if over():
            return
        await clock.advance(7)
    raise AssertionError("the saga did not end in two hours")


def _with(saga: Saga[Any], failing: int, *, undoes: int) -> Saga[Any]:
    steps = tuple(
        _Around(step, fails=number == failing, undoes=undoes) for number, step in enumerate(saga.steps)
    )
    return dataclasses.replace(saga, steps=steps)


def _steps_before_no_return(scene: Scene) -> int:
    names = [number for number, step in enumerate(scene.saga.steps) if step.final]
    return names[0] if names else len(scene.saga.steps)


@contextlib.asynccontextmanager
async def _database(scene: Scene) -> AsyncIterator[tuple[Database, SagaTables]]:
    if scene.db is not None:
        assert scene.tables is not None, "a scene with a database tells its saga tables"
        yield scene.db, scene.tables
        return
    metadata = sa.MetaData()
    tables = saga_tables(metadata)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/sagas.db"
        async with await Database.open(url, metadata=metadata, durable=False) as db:
            yield db, tables
