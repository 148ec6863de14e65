"""Questions on a kept stream: what a unary call promises, whatever became of the stream meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from test_transport import Net, failing
from test_transport import net as net  # noqa: PLC0414 - the fixture, on both transports
from toy_service import ToyStub

from mallee.kernel.errors import Kind
from mallee.kernel.rpc import Conversation


class _Opened:
    """A conversation with the toy, and how many streams it took."""

    def __init__(self, stub: ToyStub) -> None:
        self.streams = 0
        self._stub = stub
        self.talk = Conversation[StringValue, StringValue]("talking", self._open)

    def _open(self) -> Any:
        self.streams += 1
        return self._stub.Talk()

    async def say(self, word: str, **options: float) -> str:
        return (await self.talk.ask(StringValue(value=word), **options)).value


@pytest.fixture
async def opened(net: Net) -> AsyncIterator[_Opened]:
    made = _Opened(await net.stub())
    yield made
    made.talk.hang_up()


async def test_one_stream_carries_all_questions(opened: _Opened) -> None:
    assert [await opened.say(word) for word in ("a", "b", "c")] == ["heard a", "heard b", "heard c"]
    assert opened.streams == 1


async def test_who_asks_at_the_same_time_gets_his_own_answer(opened: _Opened) -> None:
    words = [str(number) for number in range(50)]
    assert await asyncio.gather(*(opened.say(word) for word in words)) == [f"heard {word}" for word in words]


@pytest.mark.parametrize("kind", [Kind.INVALID, Kind.STALE, Kind.NO_CAPACITY, Kind.UNAVAILABLE])
async def test_a_fault_crosses_unchanged_and_ends_no_conversation(opened: _Opened, kind: Kind) -> None:
    fault = await failing(opened.say(f"fail {kind.value}"))
    assert (fault.kind, fault.code, fault.why) == (kind, "some-code", "why ☂")
    assert await opened.say("again") == "heard again"


async def test_a_question_has_a_deadline_and_its_late_answer_is_nobodys(net: Net, opened: _Opened) -> None:
    assert await opened.say("a") == "heard a"
    fault = await failing(opened.say("wait", within=0.05))
    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "deadline")
    async with asyncio.timeout(5):
        await net.toy.cancelled.wait()
    assert await opened.say("b") == "heard b"


async def test_a_cancelled_question_leaves_no_answer_behind(net: Net, opened: _Opened) -> None:
    asking = asyncio.ensure_future(opened.say("wait"))
    async with asyncio.timeout(5):
        await net.toy.waiting.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await opened.say("b") == "heard b"


async def test_a_stream_that_the_server_ended_is_replaced(opened: _Opened) -> None:
    fault = await failing(opened.say("bye"))
    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "ended")
    assert await opened.say("b") == "heard b"


async def test_a_server_that_was_away_while_nobody_asked_is_not_noticed(net: Net) -> None:
    served = await net.serve()
    made = _Opened(ToyStub(net.connect(served)))
    assert await made.say("a") == "heard a"
    await served.close()
    await net.serve(address=served.address)
    assert await made.say("b", within=10.0) == "heard b"
    assert made.streams == 2
    made.talk.hang_up()


async def test_a_server_that_is_away_is_a_fault(net: Net) -> None:
    served = await net.serve()
    made = _Opened(ToyStub(net.connect(served)))
    assert await made.say("a") == "heard a"
    await served.close()
    assert (await failing(made.say("b"))).kind is Kind.UNAVAILABLE
    made.talk.hang_up()
