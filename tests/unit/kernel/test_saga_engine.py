"""The saga engine: forward, back, across crashes, and between two engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mallee.kernel.clock import ManualClock, SystemClock
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Order, Outcome, Saga, State, Step
from mallee.kernel.saga.engine import Engine
from mallee.kernel.saga.record import saga_tables

METADATA = sa.MetaData()
TABLES = saga_tables(METADATA)
Behaviour = Callable[[], Any]


class Scripted(Step["Stage"]):
    """Does what the test has written for it, and tells."""

    def __init__(self, name: str, *, final: bool = False, retries: int = 3) -> None:
        self.name = name  # type: ignore[misc]
        self.final = final  # type: ignore[misc]
        self.retries = retries  # type: ignore[misc]

    async def do(self, ctx: Stage, /) -> Any:
        return await ctx.play(self.name)

    async def undo(self, ctx: Stage, done: Any, /) -> None:
        await ctx.play(f"undo {self.name}")
        ctx.undone_with.append(done)


class Stage:
    """What happened, and what shall happen: `fails[name]` is a list of exceptions to come."""

    def __init__(self) -> None:
        self.played: list[str] = []
        self.fails: dict[str, list[BaseException]] = {}
        self.holds: dict[str, asyncio.Event] = {}
        self.undone_with: list[Any] = []
        self.orders: list[Order] = []

    async def play(self, name: str) -> dict[str, str]:
        self.played.append(name)
        if name in self.holds:
            await self.holds[name].wait()
        if self.fails.get(name):
            raise self.fails[name].pop(0)
        return {"from": name}

    def saga(self, *steps: Step[Stage], version: int = 1) -> Saga[Stage]:
        async def context(order: Order) -> Stage:
            self.orders.append(order)
            await self.play("context") if "context" in self.fails else None
            return self

        return Saga("play", version, steps, context)


THREE = (Scripted("a"), Scripted("b", final=True), Scripted("c"))
OUT = Fault(Kind.UNAVAILABLE, "out")


class Theatre:
    """A database, a clock and engines that can be killed."""

    def __init__(self, db: Database, clock: ManualClock) -> None:
        self.db = db
        self.clock = clock
        self.running: dict[Engine, asyncio.Task[None]] = {}

    def engine(self, saga: Saga[Any], owner: str = "one", **more: Any) -> Engine:
        engine = Engine(
            more.pop("db", self.db),
            TABLES,
            [saga],
            owner=owner,
            clock=self.clock,
            entropy=SeededEntropy(1),
            **more,
        )
        self.running[engine] = asyncio.create_task(engine.run())
        return engine

    async def kill(self, engine: Engine) -> None:
        task = self.running.pop(engine)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def enqueue(self, engine: Engine, saga_id: str = "s", **more: Any) -> None:
        await self.db.transact(lambda tx: engine.enqueue(tx, "play", saga_id, {"in": 1}, **more))
        await self.clock.settle()

    async def ended(self, engine: Engine, saga_id: str = "s") -> Outcome:
        waiting = asyncio.create_task(engine.wait(saga_id))
        for _ in range(200):
            if waiting.done():
                break
            await self.clock.advance(5)
        assert waiting.done(), "the saga does not end"
        return await waiting


@pytest.fixture
async def theatre(tmp_path: Path) -> AsyncIterator[Theatre]:
    async with await Database.open(f"sqlite:///{tmp_path}/s.db", metadata=METADATA, durable=False) as db:
        theatre = Theatre(db, ManualClock())
        yield theatre
        for engine in list(theatre.running):
            await theatre.kill(engine)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_on_either_database(database_url: str, stage: Stage) -> None:
    async with await Database.open(database_url, metadata=METADATA) as db:
        engine = Engine(
            db,
            TABLES,
            [stage.saga(*THREE)],
            owner="x",
            clock=SystemClock(),
            entropy=SeededEntropy(1),
            poll=0.1,
        )
        running = asyncio.create_task(engine.run())
        for number in range(3):
            await db.transact(lambda tx, n=number: engine.enqueue(tx, "play", f"s{n}", n, subject=f"i{n}"))
        stage.fails["a"] = [LookupError("no")]
        await db.transact(lambda tx: engine.enqueue(tx, "play", "bad", None, subject="i-bad"))

        outcomes = [await engine.wait(f"s{number}") for number in range(3)]
        outcomes.append(await engine.wait("bad"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert sorted(outcome.state for outcome in outcomes) == [State.DONE] * 3 + [State.UNDONE]


async def test_steps_run_in_order_and_their_outputs_are_kept(theatre: Theatre, stage: Stage) -> None:
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.clock.settle()
    before = theatre.db.transactions
    await theatre.enqueue(engine)

    assert await engine.wait("s") == Outcome(State.DONE)
    assert stage.played == ["a", "b", "c"]
    assert stage.orders[0].id == "s"
    assert stage.orders[0].input == {"in": 1}
    assert stage.orders[0].done == {name: {"from": name} for name in "abc"}
    assert theatre.db.transactions - before <= 1 + 2 * 3


async def test_a_saga_begins_with_its_intent_or_not_at_all(theatre: Theatre, stage: Stage) -> None:
    engine = theatre.engine(stage.saga(*THREE))

    def intent(tx: Tx) -> None:
        engine.enqueue(tx, "play", "s", None)
        raise LookupError

    with pytest.raises(LookupError):
        await theatre.db.transact(intent)
    await theatre.clock.advance(20)
    assert stage.played == []
    with pytest.raises(Fault, match="no saga s"):
        await engine.wait("s")


async def test_the_same_id_is_the_same_saga(theatre: Theatre, stage: Stage) -> None:
    engine = theatre.engine(stage.saga(*THREE))
    for _ in range(3):
        await theatre.enqueue(engine, subject="i-1")
    assert stage.played == ["a", "b", "c"]


async def test_a_subject_has_one_living_saga(theatre: Theatre, stage: Stage) -> None:
    stage.holds["a"] = asyncio.Event()
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine, subject="i-1")
    with pytest.raises(Fault, match="in progress: s") as refused:
        await theatre.enqueue(engine, "other", subject="i-1")
    assert refused.value.kind is Kind.CONFLICT
    await theatre.enqueue(engine, "elsewhere", subject="i-2")

    stage.holds["a"].set()
    await engine.wait("s")
    await theatre.enqueue(engine, "other", subject="i-1")
    assert (await engine.wait("other")).state is State.DONE


async def test_a_failure_before_no_return_unwinds_and_says_why(theatre: Theatre, stage: Stage) -> None:
    stage.fails["b"] = [Fault(Kind.NO_CAPACITY, "full", why="w", fix="f", code="c")]
    engine = theatre.engine(stage.saga(Scripted("a"), Scripted("b"), Scripted("c", final=True)))
    await theatre.enqueue(engine)

    outcome = await engine.wait("s")
    assert outcome.state is State.UNDONE
    assert outcome.error == {
        "kind": "no-capacity", "what": "full", "why": "w", "fix": "f", "code": "c", "step": "b"
    }  # fmt: skip
    assert stage.played == ["a", "b", "undo b", "undo a"]
    assert stage.undone_with == [None, {"from": "a"}]


@pytest.mark.parametrize("passing", [OUT, ConnectionError(), TimeoutError()])
async def test_passing_failures_are_tried_again_but_not_for_ever(
    theatre: Theatre, stage: Stage, passing: BaseException
) -> None:
    engine = theatre.engine(stage.saga(Scripted("a", retries=2), Scripted("b", final=True)))
    stage.fails["a"] = [passing, passing]
    await theatre.enqueue(engine)
    assert (await theatre.ended(engine)).state is State.DONE

    stage.fails["a"] = [passing] * 3
    await theatre.enqueue(engine, "t")
    assert (await theatre.ended(engine, "t")).state is State.UNDONE


async def test_a_final_step_with_an_unknown_end_is_never_taken_back(theatre: Theatre, stage: Stage) -> None:
    engine = theatre.engine(stage.saga(Scripted("a"), Scripted("b", final=True, retries=0)))
    stage.fails["b"] = [OUT] * 20
    await theatre.enqueue(engine)
    await engine.cancel("s")
    assert (await theatre.ended(engine)).state is State.DONE
    assert "undo a" not in stage.played


async def test_a_final_step_that_is_refused_unwinds(theatre: Theatre, stage: Stage) -> None:
    engine = theatre.engine(stage.saga(*THREE))
    stage.fails["b"] = [Fault(Kind.STALE, "moved")]
    await theatre.enqueue(engine)
    assert (await theatre.ended(engine)).state is State.UNDONE


async def test_after_no_return_whatever_fails_is_tried_again(theatre: Theatre, stage: Stage) -> None:
    engine = theatre.engine(stage.saga(*THREE))
    stage.fails["c"] = [LookupError("not passing")] * 12
    await theatre.enqueue(engine)
    assert (await engine.look_up("s")).error is not None  # it says why it waits

    assert await theatre.ended(engine) == Outcome(State.DONE)
    assert stage.played.count("c") == 13
    assert theatre.clock.monotonic() > 60  # it did rest


async def test_undo_is_tried_until_it_works(theatre: Theatre, stage: Stage) -> None:
    stage.fails = {"a": [LookupError("no")], "undo a": [RuntimeError("x")] * 5}
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    outcome = await theatre.ended(engine)
    assert outcome.state is State.UNDONE
    assert outcome.error is not None
    assert outcome.error["what"] == "no"
    assert stage.played.count("undo a") == 6


async def test_a_context_that_cannot_be_made_ends_or_waits(theatre: Theatre, stage: Stage) -> None:
    stage.fails["context"] = [OUT, OUT]
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    assert (await theatre.ended(engine)).state is State.DONE
    stage.fails["context"] = [Fault(Kind.NOT_FOUND, "no such instance")]
    await theatre.enqueue(engine, "t")
    assert (await theatre.ended(engine, "t")).state is State.UNDONE


async def test_cancelled_before_no_return_it_unwinds(theatre: Theatre, stage: Stage) -> None:
    stage.holds["a"] = asyncio.Event()
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    assert await engine.cancel("s")
    assert stage.orders[0].cancelled.is_set()  # a long step can hear it
    stage.holds["a"].set()

    outcome = await engine.wait("s")
    assert outcome.state is State.UNDONE
    assert outcome.error is not None
    assert outcome.error["code"] == "saga-cancelled"
    assert "b" not in stage.played
    assert stage.played[-1] == "undo a"
    assert not await engine.cancel("s")


async def test_cancelled_while_it_rests_it_does_not_rest_on(theatre: Theatre, stage: Stage) -> None:
    stage.fails["a"] = [OUT] * 3
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    await engine.cancel("s")
    assert (await engine.wait("s")).state is State.UNDONE
    assert theatre.clock.monotonic() == 0


async def test_hastened_while_it_rests_it_goes_on_at_once_and_rests_little_after(
    theatre: Theatre, stage: Stage
) -> None:
    stage.fails["c"] = [OUT] * 12
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    while len(stage.fails["c"]) > 2:
        await theatre.clock.advance(60)
    engine.hasten("s")
    engine.hasten("nobody's")
    await theatre.clock.advance(3)
    assert (await engine.wait("s")).state is State.DONE


async def test_cancelled_after_no_return_it_is_done(theatre: Theatre, stage: Stage) -> None:
    stage.holds["c"] = asyncio.Event()
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    assert await engine.cancel("s")
    stage.holds["c"].set()
    assert (await engine.wait("s")).state is State.DONE


async def test_cancelled_during_the_final_step_it_is_done(theatre: Theatre, stage: Stage) -> None:
    stage.holds["b"] = asyncio.Event()
    stage.fails["c"] = [LookupError("and then it has to be tried again")] * 3
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    assert await engine.cancel("s")
    stage.holds["b"].set()
    assert (await theatre.ended(engine)).state is State.DONE


async def test_cancelled_and_killed_during_the_final_step_it_is_done(theatre: Theatre, stage: Stage) -> None:
    """Nobody knows whether the step had its effect, so there is no way back."""
    stage.holds["b"] = asyncio.Event()
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    assert await engine.cancel("s")
    await theatre.kill(engine)
    stage.holds.clear()
    engine = theatre.engine(stage.saga(*THREE))
    assert (await engine.wait("s")).state is State.DONE


async def test_a_wish_that_comes_with_a_failure_is_heard_before_the_rest(
    theatre: Theatre, stage: Stage
) -> None:
    """The wish is committed in the same group as the record of the failure, just before it."""
    stage.holds["a"] = asyncio.Event()
    stage.fails["a"] = [OUT] * 3
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    cancelling = asyncio.create_task(engine.cancel("s"))
    stage.holds["a"].set()
    await cancelling
    assert (await engine.wait("s")).state is State.UNDONE
    assert theatre.clock.monotonic() == 0


async def test_two_engines_that_see_the_same_saga_do_not_both_run_it(theatre: Theatre, stage: Stage) -> None:
    stage.holds["a"] = asyncio.Event()
    idle = theatre.engine(stage.saga(*THREE), owner="idle")
    await theatre.kill(idle)
    for owner in ("one", "two"):
        theatre.engine(stage.saga(*THREE), owner=owner)
    await theatre.clock.settle()
    await theatre.enqueue(idle)  # nobody gets the hint: both find it at the same look
    await theatre.clock.advance(60)
    assert stage.played == ["a"]


async def test_a_killed_engine_goes_on_at_once_after_its_restart(theatre: Theatre, stage: Stage) -> None:
    stage.holds["b"] = asyncio.Event()
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine)
    await theatre.kill(engine)
    stage.holds.clear()

    engine = theatre.engine(stage.saga(*THREE))
    assert (await engine.wait("s")).state is State.DONE
    assert theatre.clock.monotonic() == 0
    assert stage.played == ["a", "b", "b", "c"]
    assert stage.orders[1].done["a"] == {"from": "a"}


async def test_a_silent_engine_is_relieved_and_then_writes_nothing(theatre: Theatre, stage: Stage) -> None:
    stage.holds["b"] = asyncio.Event()
    slow = theatre.engine(stage.saga(*THREE), poll=1e6)  # beats once, then never again
    await theatre.enqueue(slow)
    other = Stage()
    other.holds["c"] = asyncio.Event()
    second = theatre.engine(other.saga(*THREE), owner="two", lease=20)
    await theatre.clock.advance(15)
    assert other.played == []
    await theatre.clock.advance(15)
    assert other.played == ["b", "c"]

    stage.holds["b"].set()
    await theatre.clock.settle()
    assert stage.played == ["a", "b"]  # its record was refused, so it stopped
    other.holds["c"].set()
    assert (await second.wait("s")).state is State.DONE


async def test_a_living_engine_keeps_its_sagas(theatre: Theatre, stage: Stage) -> None:
    stage.holds["b"] = asyncio.Event()
    first = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(first)
    other = Stage()
    theatre.engine(other.saga(*THREE), owner="two")
    await theatre.clock.advance(600)
    assert other.played == []


async def test_a_cancel_asked_of_another_engine_arrives(theatre: Theatre, stage: Stage) -> None:
    stage.fails["a"] = [OUT] * 3
    first = theatre.engine(stage.saga(Scripted("a", retries=99), Scripted("b", final=True)))
    await theatre.enqueue(first)
    stage.fails["a"] = [OUT] * 99
    second = theatre.engine(stage.saga(*THREE), owner="two")
    assert await second.cancel("s")
    assert (await theatre.ended(second)).state is State.UNDONE


async def test_a_failed_assertion_stops_the_one_saga(theatre: Theatre, stage: Stage) -> None:
    stage.fails["b"] = [AssertionError("two writers")]
    engine = theatre.engine(stage.saga(*THREE))
    await theatre.enqueue(engine, subject="i-1")
    await theatre.clock.advance(600)
    outcome = await engine.look_up("s")
    assert outcome.state is State.STUCK
    assert outcome.error is not None
    assert outcome.error["what"] == "two writers"
    assert stage.played == ["a", "b"]
    with pytest.raises(Fault, match="in progress"):
        await theatre.enqueue(engine, "t", subject="i-1")
    await theatre.enqueue(engine, "u")
    assert (await engine.wait("u")).state is State.DONE

    assert await engine.unstick("s")
    assert (await engine.wait("s")).state is State.DONE


async def test_an_output_that_json_cannot_hold_is_our_bug(theatre: Theatre, stage: Stage) -> None:
    class Wrong(Scripted):
        async def do(self, ctx: Stage, /) -> Any:
            return object()

    engine = theatre.engine(stage.saga(Wrong("a")))
    await theatre.enqueue(engine)
    assert (await engine.look_up("s")).state is State.STUCK


async def test_a_database_that_fails_for_a_while_ends_no_saga(theatre: Theatre, stage: Stage) -> None:
    class Failing(Database):
        left = 0
        read = theatre.db.read  # type: ignore[assignment]
        close = theatre.db.close  # type: ignore[assignment]

        async def transact(self, work: Any) -> Any:
            if self.left:
                self.left -= 1
                raise Fault(Kind.UNAVAILABLE, "disk full")
            return await theatre.db.transact(work)

    failing = Failing()
    stage.holds["a"] = asyncio.Event()
    engine = theatre.engine(stage.saga(*THREE), db=failing)
    await theatre.enqueue(engine)
    failing.left = 4
    stage.holds["a"].set()
    assert (await theatre.ended(engine)).state is State.DONE
    assert stage.played == ["a", "a", "b", "c"]


async def test_a_kind_of_a_newer_version_is_left_alone(theatre: Theatre, stage: Stage) -> None:
    stage.holds["a"] = asyncio.Event()
    newer = theatre.engine(stage.saga(*THREE, version=2))
    await theatre.enqueue(newer)
    await theatre.kill(newer)
    older = theatre.engine(stage.saga(*THREE, version=1))
    await theatre.clock.advance(60)
    assert stage.played == ["a"]
    assert (await older.look_up("s")).state is State.RUNNING


async def test_so_many_at_once_and_a_resting_one_holds_no_place(theatre: Theatre, stage: Stage) -> None:
    stage.holds["b"] = asyncio.Event()
    stage.fails["a"] = [OUT]
    engine = theatre.engine(stage.saga(*THREE), concurrency=2)
    for number in range(5):
        await theatre.enqueue(engine, f"s{number}")
    assert stage.played.count("b") == 2
    stage.holds["b"].set()
    for number in range(5):
        assert (await theatre.ended(engine, f"s{number}")).state is State.DONE
