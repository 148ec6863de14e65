"""gRPC itself over lines that fail: deadlines hold, streams notice, nothing is said twice, nothing arrives in half.

The simulation's own faults are those of its transport in memory; this is what has to be so on a wire for that to
be the same thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tcp_proxy import DOWN, UP, Proxy
from toy_service import EVERYONE, Toy, ToyStub, add_to_server, words

from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import Authority, IssuedKeys
from mallee.kernel.rpc import GrpcTransport, Identity, keep_streaming
from mallee.kernel.rpc.seam import KEEPALIVE, KEEPALIVE_ANSWER, UNARY_DEADLINE

CC = Identity("mallee", "cc", "az1")
NC = Identity("mallee", "nc", "az1-n1")
NOTICED = KEEPALIVE + KEEPALIVE_ANSWER  # seconds
BUSY = 3.0  # seconds more, on a machine that does other things too
LARGE = "x" * (4 * 1024 * 1024)
WAYS = [{UP}, {DOWN}, {UP, DOWN}]


class Wire:
    """A server, a client, and the line between them."""

    def __init__(self, transport: GrpcTransport) -> None:
        self.transport = transport
        self.clock = SystemClock()
        self.toy = Toy()
        self.proxy: Proxy
        self.stub: ToyStub

    async def took(self, work: Any) -> tuple[Fault, float]:
        """How a call failed, and after how many seconds."""
        began = self.clock.monotonic()
        with pytest.raises(Fault) as caught:
            await work
        return caught.value, self.clock.monotonic() - began

    async def soon(self, work: Any, seconds: float) -> str:
        """The answer, asked for until there is one."""
        end = self.clock.monotonic() + seconds
        while True:
            try:
                return str(await work())
            except Fault as fault:
                if fault.kind is not Kind.UNAVAILABLE or self.clock.monotonic() > end:
                    raise
                await self.clock.sleep(0.05)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    clock = SystemClock()
    authority = Authority.create("mallee", clock)
    made = Wire(GrpcTransport(IssuedKeys(authority.issue, clock)))
    served = await made.transport.serve(NC, "127.0.0.1:0", partial(add_to_server, made.toy), access=EVERYONE)
    async with Proxy(served.address) as made.proxy:
        channel = made.transport.connect(CC, made.proxy.address, expect="nc", own_connection=True)
        made.stub = ToyStub(channel)
        yield made
        await channel.close()
    await served.close()


@pytest.mark.parametrize("silent", WAYS, ids=lambda ways: " and ".join(sorted(ways)))
async def test_a_deadline_holds_on_a_line_of_which_half_is_dead(wire: Wire, silent: set[str]) -> None:
    await wire.stub.say("hello")
    wire.proxy.silent = silent
    fault, seconds = await wire.took(wire.stub.say("into nothing", timeout=0.5))
    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "deadline")
    assert seconds < 0.5 + BUSY
    assert wire.toy.requests.count("into nothing") == (0 if UP in silent else 1)


@pytest.mark.slow
async def test_a_call_that_names_no_deadline_has_one(wire: Wire) -> None:
    await wire.stub.say("hello")
    wire.proxy.silent = {DOWN}
    fault, seconds = await wire.took(wire.stub.say("into nothing"))
    assert fault.kind is Kind.UNAVAILABLE
    assert seconds < UNARY_DEADLINE + BUSY


@pytest.mark.slow
@pytest.mark.parametrize("silent", WAYS, ids=lambda ways: " and ".join(sorted(ways)))
async def test_both_ends_of_a_stream_notice_within_the_keepalive(wire: Wire, silent: set[str]) -> None:
    talk = wire.stub.Talk()
    await talk.write(StringValue(value="one"))
    assert (await talk.read()).value == "heard one"
    wire.proxy.silent = silent
    fault, seconds = await wire.took(talk.read())
    assert fault.kind is Kind.UNAVAILABLE
    assert seconds < NOTICED + BUSY
    async with asyncio.timeout(NOTICED + BUSY):
        await wire.toy.cancelled.wait()


@pytest.mark.slow
async def test_a_quiet_stream_on_a_dead_line_is_noticed_too(wire: Wire) -> None:
    """Nobody has anything to say for longer than a ping would take."""
    talk = wire.stub.Talk()
    await talk.write(StringValue(value="one"))
    await talk.read()
    await wire.clock.sleep(KEEPALIVE + 1)  # the pings of a good line
    wire.proxy.silent = {UP, DOWN}
    fault, seconds = await wire.took(talk.read())
    assert fault.kind is Kind.UNAVAILABLE
    assert seconds < NOTICED + BUSY


async def test_what_was_cut_off_is_not_said_again(wire: Wire) -> None:
    """The server has heard it; whether it may be repeated only the caller knows."""
    calling = asyncio.ensure_future(wire.stub.say("wait"))
    await wire.toy.waiting.wait()
    wire.proxy.reset()
    fault, _ = await wire.took(calling)
    assert fault.kind is Kind.UNAVAILABLE
    assert await wire.soon(lambda: wire.stub.say("after"), 10) == "heard after"
    assert wire.toy.requests == ["wait", "after"]


async def test_what_never_arrived_is_not_said_again_either(wire: Wire) -> None:
    await wire.stub.say("hello")
    wire.proxy.cut_after[UP] = 0
    fault, _ = await wire.took(wire.stub.say("lost"))
    assert fault.kind is Kind.UNAVAILABLE
    assert await wire.soon(lambda: wire.stub.say("after"), 10) == "heard after"
    assert wire.toy.requests == ["hello", "after"]


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
async def test_no_half_of_a_message_is_heard(wire: Wire, direction: str, part: float) -> None:
    await wire.stub.say("hello")
    wire.toy.padding = LARGE if direction == DOWN else ""
    wire.proxy.cut_after[direction] = int(part * len(LARGE))
    if direction == UP:
        fault, _ = await wire.took(wire.stub.say(LARGE))
    else:
        heard: list[str] = []

        async def listen() -> None:
            async for number in wire.stub.Count(StringValue(value="1")):
                heard.append(number.value)  # noqa: PERF401 - what came before the cut counts

        fault, _ = await wire.took(listen())
        assert heard == []
    assert fault.kind is Kind.UNAVAILABLE
    assert wire.toy.requests == ["hello"]


async def test_a_slow_line_is_slow_and_nothing_else(wire: Wire) -> None:
    wire.proxy.delay = 0.05
    said = [message.value async for message in wire.stub.Talk(words(*map(str, range(20))))]
    assert said == [f"heard {number}" for number in range(20)]
    assert wire.toy.requests == [str(number) for number in range(20)]
    assert await wire.stub.say("x" * 200_000) == f"heard {'x' * 200_000}"


async def test_a_line_that_comes_back_is_used_within_two_seconds(wire: Wire) -> None:
    await wire.stub.say("hello")
    await wire.proxy.refuse()
    wire.proxy.reset()
    fault, _ = await wire.took(wire.stub.say("nobody there"))
    assert fault.kind is Kind.UNAVAILABLE
    for _ in range(5):  # every try that fails makes gRPC look away for longer, up to a second
        await wire.took(wire.stub.say("nobody there"))
        await wire.clock.sleep(0.3)
    await wire.proxy.listen()
    began = wire.clock.monotonic()
    assert await wire.soon(lambda: wire.stub.say("back"), 10) == "heard back"
    assert wire.clock.monotonic() - began < 2 + BUSY


@pytest.mark.slow
async def test_a_server_that_takes_the_connection_and_says_nothing_holds_nobody(wire: Wire) -> None:
    wire.proxy.deaf = True
    fault, seconds = await wire.took(wire.stub.say("anybody?", timeout=1.0))
    assert fault.kind is Kind.UNAVAILABLE
    assert seconds < 1.0 + BUSY
    wire.proxy.deaf = False
    assert await wire.soon(lambda: wire.stub.say("now"), 12) == "heard now"


async def test_a_stream_that_is_kept_begins_anew_after_each_cut(wire: Wire) -> None:
    greeted = asyncio.Event()
    beginnings = 0

    async def greet(stream: Any) -> None:
        nonlocal beginnings
        await stream.write(StringValue(value="greetings"))
        await stream.read()
        beginnings += 1
        greeted.set()
        await stream.read()

    keeping = asyncio.create_task(
        keep_streaming("toy", wire.stub.Talk, greet, clock=wire.clock, entropy=SeededEntropy(1))
    )
    for _ in range(3):
        async with asyncio.timeout(15):
            await greeted.wait()
        greeted.clear()
        wire.proxy.reset()
    keeping.cancel()
    await asyncio.wait((keeping,))
    assert beginnings == 3
    assert wire.toy.requests[:3] == ["greetings"] * 3
