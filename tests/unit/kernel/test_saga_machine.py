"""Any order of sagas, failures, cancellations, kills and take-overs: every saga ends whole or not at all."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Order, Saga, State, Step
from mallee.kernel.saga.engine import Engine
from mallee.kernel.saga.record import saga_tables

METADATA = sa.MetaData()
TABLES = saga_tables(METADATA)
NAMES = ("claim", "copy", "commit", "release")
FINAL = 2
FAILURES = {
    "passing": Fault(Kind.UNAVAILABLE, "out"),
    "refused": Fault(Kind.NO_CAPACITY, "full"),
    "bug": LookupError("?"),
}


class World:
    """What the steps have done to it, and how each next attempt at a step shall end."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.effects: dict[str, set[str]] = {}
        self.failing: dict[tuple[str, str], list[tuple[str, bool]]] = {}
        self.wrong: list[str] = []


class Move(Step[tuple[World, Order]]):
    def __init__(self, number: int) -> None:
        self.name = NAMES[number]  # type: ignore[misc]
        self.final = number == FINAL  # type: ignore[misc]
        self.number = number

    async def do(self, ctx: tuple[World, Order], /) -> Any:
        world, order = ctx
        there = world.effects.setdefault(order.id, set())
        if missing := set(NAMES[: self.number]) - there:
            world.wrong.append(f"{order.id}: {self.name} before {missing}")
        await world.clock.sleep(1)  # a kill may come here
        failure, with_effect = (world.failing.get((order.id, self.name)) or [("", True)]).pop(0)
        if self.final and failure == "refused":
            # Refusing means: it had no effect, now or at an earlier attempt.
            failure, with_effect = ("", True) if self.name in there else (failure, False)
        if with_effect:
            there.add(self.name)
        if failure:
            raise FAILURES[failure]
        await world.clock.sleep(1)
        return self.number

    async def undo(self, ctx: tuple[World, Order], done: Any, /) -> None:
        world, order = ctx
        there = world.effects.setdefault(order.id, set())
        if NAMES[FINAL] in there:
            world.wrong.append(f"{order.id}: {self.name} taken back after the commit")
        if done not in {None, self.number}:
            world.wrong.append(f"{order.id}: {self.name} undone with {done!r}")
        await world.clock.sleep(1)
        there.discard(self.name)


class Sagas(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.world = World(self.clock)
        self.engines: dict[str, tuple[Engine, asyncio.Task[None]]] = {}
        self.known: list[str] = []
        self.runner.run(self._open())

    async def _open(self) -> None:
        url = f"sqlite:///{self.folder.name}/s.db"
        self.db = await Database.open(url, metadata=METADATA, durable=False)
        await self._start("one")

    async def _start(self, owner: str) -> None:
        async def context(order: Order) -> tuple[World, Order]:
            return self.world, order

        saga = Saga("move", 1, tuple(Move(number) for number in range(len(NAMES))), context)
        engine = Engine(self.db, TABLES, [saga], owner=owner, clock=self.clock, entropy=SeededEntropy(7))
        self.engines[owner] = engine, asyncio.create_task(engine.run())
        await self.clock.settle()

    async def _kill(self, owner: str) -> None:
        _, task = self.engines.pop(owner)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @rule(
        failures=st.lists(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(FAILURES)), st.booleans()), max_size=4
        )
    )
    def enqueue(self, failures: list[tuple[str, str, bool]]) -> None:
        name = f"s{len(self.known)}"
        self.known.append(name)
        for step, failure, with_effect in failures:
            self.world.failing.setdefault((name, step), []).append((failure, with_effect))
        engine = next(iter(self.engines.values()))[0]

        async def work() -> None:
            await self.db.transact(lambda tx: engine.enqueue(tx, "move", name, {}))
            await self.clock.settle()

        self.runner.run(work())

    @rule(seconds=st.sampled_from([0.5, 1, 3, 10]))
    def time_passes(self, seconds: float) -> None:
        self.runner.run(self.clock.advance(seconds))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.known:
            engine, _ = data.draw(st.sampled_from([self.engines[owner] for owner in sorted(self.engines)]))
            self.runner.run(engine.cancel(data.draw(st.sampled_from(self.known))))

    @rule()
    def killed_and_started_again(self) -> None:
        owner = next(iter(self.engines))

        async def work() -> None:
            await self._kill(owner)
            await self._start(owner)

        self.runner.run(work())

    @rule()
    def relieved_by_another(self) -> None:
        async def work() -> None:
            await self._start("two" if "one" in self.engines else "one")
            await self._kill(next(iter(self.engines)))

        if len(self.engines) == 1:
            self.runner.run(work())

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert self.world.wrong == []

    def teardown(self) -> None:
        try:
            self.runner.run(self._all_end())
        finally:
            self.runner.close()
            self.folder.cleanup()

    async def _all_end(self) -> None:
        engine, _ = next(iter(self.engines.values()))
        waiting = [asyncio.create_task(engine.wait(name)) for name in self.known]
        for _ in range(200):
            if all(task.done() for task in waiting):
                break
            await self.clock.advance(10)
        for name, task in zip(self.known, waiting, strict=True):
            assert task.done(), f"{name} does not end"
            there = self.world.effects.get(name, set())
            assert there == (set(NAMES) if task.result().state is State.DONE else set()), f"{name}: {there}"
        for owner in list(self.engines):
            await self._kill(owner)
        await self.db.close()
        assert self.world.wrong == []


TestSagas = Sagas.TestCase
TestSagas.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
