"""What only the simulation can do: move time, and lose, delay and repeat messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue
from toy_service import EVERYONE, NAME, Toy, ToyStub, add_to_server, words

from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Fate, Identity, MemoryTransport, Message, keep_streaming
from mallee.kernel.rpc.memory import MemoryServed
from mallee.kernel.rpc.seam import KEEPALIVE, KEEPALIVE_ANSWER, UNARY_DEADLINE
from mallee.kernel.rpc.streaming import LONGEST_WAIT

CC = Identity("mallee", "cc", "az1")
NC = Identity("mallee", "nc", "az1-n1")


class Sim:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seen: list[Message] = []
        self.fate: Callable[[Message], Fate] = lambda _: Fate()
        self.transport = MemoryTransport(self.clock, self._judge)
        self.toy = Toy()

    def _judge(self, message: Message) -> Fate:
        self.seen.append(message)
        return self.fate(message)

    async def serve(self) -> MemoryServed:
        add = partial(add_to_server, self.toy)
        return await self.transport.serve(NC, "node:1", add, access=EVERYONE)

    def stub(self) -> ToyStub:
        return ToyStub(self.transport.connect(CC, "node:1", expect=NC))


@pytest.fixture
async def sim() -> Sim:
    made = Sim()
    await made.serve()
    return made


def asking(call: Any) -> asyncio.Future[Any]:
    return asyncio.ensure_future(call)


def fault_in(task: asyncio.Future[Any]) -> Fault:
    error = task.exception()
    assert isinstance(error, Fault)
    return error


async def test_the_hook_sees_each_message(sim: Sim) -> None:
    await sim.stub().say("hello")

    size = len(StringValue(value="hello").SerializeToString())
    assert sim.seen[0] == Message(CC, NC, f"/{NAME}/Say", answer=False, number=0, size=size)
    assert [(m.answer, m.number, m.size > 0) for m in sim.seen] == [
        (False, 0, True),
        (False, 1, False),
        (True, 0, True),
        (True, 1, False),
    ]


async def test_a_delay_takes_the_clocks_time(sim: Sim) -> None:
    sim.fate = lambda message: Fate(delay=1.0 if message.answer and message.number == 0 else 0.0)
    task = asking(sim.stub().say("hello"))

    await sim.clock.advance(0.9)
    assert sim.toy.requests == ["hello"]
    assert not task.done()
    await sim.clock.advance(0.2)

    assert task.result() == "heard hello"


async def test_messages_stay_in_order_whatever_their_delay(sim: Sim) -> None:
    sim.fate = lambda m: Fate(delay=max(0, 3 - m.number) * 0.1)
    task = asking(_all(sim.stub().Talk(words("a", "b", "c", "d"))))

    await sim.clock.advance(2)

    assert [m.value for m in task.result()] == ["heard a", "heard b", "heard c", "heard d"]


async def _all(stream: Any) -> list[Any]:
    return [message async for message in stream]


async def test_a_lost_request_ends_by_the_deadline(sim: Sim) -> None:
    sim.fate = lambda message: Fate(lost=not message.answer)
    task = asking(sim.stub().say("hello"))

    await sim.clock.advance(UNARY_DEADLINE - 0.1)
    assert not task.done()
    await sim.clock.advance(0.2)

    assert fault_in(task).code == "deadline"
    assert sim.toy.requests == []


async def test_a_lost_answer_leaves_the_work_done(sim: Sim) -> None:
    sim.fate = lambda message: Fate(lost=message.answer)
    task = asking(sim.stub().say("hello"))

    await sim.clock.advance(UNARY_DEADLINE + 0.1)

    assert fault_in(task).code == "deadline"
    assert sim.toy.requests == ["hello"]


async def test_a_cut_stream_is_noticed_by_keepalive_on_both_sides(sim: Sim) -> None:
    talk = sim.stub().Talk()
    await talk.write(StringValue(value="one"))
    await talk.read()
    sim.fate = lambda _: Fate(lost=True)
    await talk.write(StringValue(value="two"))
    reading = asking(talk.read())

    await sim.clock.advance(KEEPALIVE + KEEPALIVE_ANSWER - 1)
    assert not reading.done()
    assert not sim.toy.cancelled.is_set()
    await sim.clock.advance(1.1)

    assert fault_in(reading).kind is Kind.UNAVAILABLE
    assert sim.toy.cancelled.is_set()
    assert sim.toy.requests == ["one"]


async def test_a_lost_hang_up_leaves_the_handler_at_work(sim: Sim) -> None:
    task = asking(sim.stub().say("wait", timeout=60))
    await sim.clock.settle()
    sim.fate = lambda _: Fate(lost=True)

    task.cancel()
    await sim.clock.advance(KEEPALIVE)
    assert task.cancelled()
    assert not sim.toy.cancelled.is_set()
    await sim.clock.advance(KEEPALIVE_ANSWER)

    assert sim.toy.cancelled.is_set()


async def test_a_repeated_request_is_handled_twice_and_answered_once(sim: Sim) -> None:
    sim.fate = lambda message: Fate(copies=1 if message.answer else 2)

    assert await sim.stub().say("hello") == "heard hello"

    await sim.clock.settle()
    assert sim.toy.requests == ["hello", "hello"]


async def test_a_repeated_message_of_a_stream_arrives_twice(sim: Sim) -> None:
    sim.fate = lambda message: Fate(copies=1 if message.answer else 2)

    heard = await _all(sim.stub().Talk(words("a")))

    assert [message.value for message in heard] == ["heard a", "heard a"]


async def test_messages_are_copies(sim: Sim) -> None:
    request = StringValue(value="mine")
    answer = await sim.stub().Say(request)

    request.value = "changed"

    assert (answer.value, sim.toy.requests) == ("heard mine", ["mine"])


async def test_nothing_is_left_after_the_calls(sim: Sim) -> None:
    served = sim.transport._servers["node:1"]
    stub = sim.stub()
    await stub.say("hello")
    await _all(stub.Talk(words("a", "b")))
    task = asking(stub.say("wait"))
    await sim.clock.settle()
    assert len(list(served.calls)) == 1
    task.cancel()
    await sim.clock.settle()

    assert list(served.calls) == []
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others


async def test_the_same_faults_give_the_same_story() -> None:
    first, second = [await _story(seed=7) for _ in range(2)]

    assert first == second
    assert first != await _story(seed=8)


async def _story(seed: int) -> list[str]:
    sim = Sim()
    await sim.serve()
    entropy = SeededEntropy(seed)
    sim.fate = lambda _: Fate(delay=entropy.uniform(0, 0.5), lost=entropy.uniform(0, 1) < 0.05)
    stub = sim.stub()
    story: list[str] = []

    async def ask(number: int) -> None:
        try:
            story.append(f"{sim.clock.monotonic():.6f} {await stub.say(str(number))}")
        except Fault as fault:
            story.append(f"{sim.clock.monotonic():.6f} {number} {fault.code}")

    tasks = [asking(ask(number)) for number in range(50)]
    await sim.clock.advance(60)
    assert all(task.done() for task in tasks)
    return story


async def test_a_kept_stream_waits_longer_each_time_and_starts_over_after_a_good_one(sim: Sim) -> None:
    served = sim.transport._servers["node:1"]
    await served.close()
    opened: list[float] = []
    stub = sim.stub()

    def open_stream() -> Any:
        opened.append(sim.clock.monotonic())
        return stub.Talk()

    async def handle(talk: Any) -> None:
        await talk.write(StringValue(value="here"))
        async for _ in talk:
            pass

    kept = asking(keep_streaming("talk", open_stream, handle, clock=sim.clock, entropy=SeededEntropy(1)))
    await sim.clock.advance(60)
    waits = [later - sooner for sooner, later in pairwise(opened)]
    assert all(wait <= LONGEST_WAIT for wait in waits)
    assert waits[0] <= 0.1
    assert all(wait >= LONGEST_WAIT / 2 for wait in waits[6:])

    served = await sim.serve()
    await sim.clock.advance(60)
    assert sim.toy.requests == ["here"]
    await served.close()
    ended = sim.clock.monotonic()
    before = len(opened)
    await sim.clock.advance(0.2)
    assert opened[before] - ended <= 0.1
    kept.cancel()


async def test_a_bug_in_the_handler_of_a_kept_stream_does_not_end_it(sim: Sim) -> None:
    tries: list[int] = []

    async def handle(_: Any) -> None:
        tries.append(1)
        raise ValueError("bug")

    kept = asking(keep_streaming("talk", sim.stub().Talk, handle, clock=sim.clock, entropy=SeededEntropy(1)))
    await sim.clock.advance(20)

    assert len(tries) > 3
    kept.cancel()


@pytest.mark.parametrize(
    ("kind", "level"), [(Kind.STALE, "info"), (Kind.UNAVAILABLE, "info"), (Kind.INTERNAL, "error")]
)
async def test_a_stream_that_a_successor_ends_is_no_mistake_of_ours(sim: Sim, kind: Kind, level: str) -> None:
    async def handle(_: Any) -> None:
        raise Fault(kind, "This is no longer the cluster controller.")

    with structlog.testing.capture_logs() as logs:
        kept = asking(
            keep_streaming("talk", sim.stub().Talk, handle, clock=sim.clock, entropy=SeededEntropy(1))
        )
        await sim.clock.advance(1)

    assert [each["log_level"] for each in logs if each["event"] == "stream lost"] == [level]
    kept.cancel()
