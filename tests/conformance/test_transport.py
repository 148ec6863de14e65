"""What services may rely on, whatever carries their calls: the same tests for every transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from toy_service import EVERYONE, NAME, Toy, ToyStub, add_to_server, words

from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import Authority, IssuedKeys
from mallee.kernel.rpc import (
    ANYONE,
    NOBODY,
    AccessTable,
    Channel,
    GrpcTransport,
    Identity,
    MemoryTransport,
    Served,
    Transport,
    keep_streaming,
)
from mallee.kernel.rpc.seam import MESSAGE_LIMIT, UNARY_DEADLINE

CC = Identity("mallee", "cc", "az1")
NC = Identity("mallee", "nc", "az1-n1")
ANY_PORT = "127.0.0.1:0"


@dataclass
class Net:
    """A transport, and what a test opened on it."""

    transport: Transport
    authority: Authority
    toy: Toy = field(default_factory=Toy)
    servers: list[Served] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)

    async def serve(self, me: Identity = NC, address: str = ANY_PORT, **options: Any) -> Served:
        options.setdefault("access", EVERYONE)
        served = await self.transport.serve(me, address, partial(add_to_server, self.toy), **options)
        self.servers.append(served)
        return served

    def connect(self, served: Served, me: Identity = CC, expect: Identity | str = "nc") -> Channel:
        return self.keep(self.transport.connect(me, served.address, expect=expect, own_connection=True))

    def keep(self, channel: Channel) -> Channel:
        self.channels.append(channel)
        return channel

    async def stub(self, **options: Any) -> ToyStub:
        return ToyStub(self.connect(await self.serve(**options)))

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        for served in self.servers:
            await served.close()


@pytest.fixture(params=["grpc", "memory"])
async def net(request: pytest.FixtureRequest) -> AsyncIterator[Net]:
    clock = SystemClock()
    authority = Authority.create("mallee", clock)
    transport: Transport = (
        GrpcTransport(IssuedKeys(authority.issue, clock))
        if request.param == "grpc"
        else MemoryTransport(clock)
    )
    opened = Net(transport, authority)
    yield opened
    await opened.close()


async def failing(call: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await call
    return caught.value


async def soon(condition: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await condition.wait()


async def test_each_arity_carries_messages(net: Net) -> None:
    stub = await net.stub()

    assert await stub.say("hello") == "heard hello"
    assert [number.value async for number in stub.Count(StringValue(value="3"))] == ["0", "1", "2"]
    assert (await stub.Join(words("a", "b"))).value == "a b"
    assert [said.value async for said in stub.Talk(words("a", "b"))] == ["heard a", "heard b"]


async def test_a_conversation_by_read_and_write(net: Net) -> None:
    talk = (await net.stub()).Talk()

    await talk.write(StringValue(value="one"))
    assert (await talk.read()).value == "heard one"
    await talk.write(StringValue(value="two"))
    assert (await talk.read()).value == "heard two"
    await talk.done_writing()
    assert await talk.read() is grpc.aio.EOF
    assert talk.done()


async def test_of_several_addresses_the_one_that_answers_is_taken(net: Net) -> None:
    first, second = await net.serve(), await net.serve()
    stub = ToyStub(net.keep(net.transport.connect(CC, f"{first.address},{second.address}", expect="nc")))

    assert await stub.say("one") == "heard one"
    await first.close()
    answers = await asyncio.gather(*(stub.say("two") for _ in range(3)), return_exceptions=True)
    if "heard two" not in answers:  # the line that was cut may cost the calls of this moment
        assert await stub.say("two") == "heard two"


@pytest.mark.parametrize("kind", Kind)
async def test_a_fault_crosses_unchanged(net: Net, kind: Kind) -> None:
    stub = await net.stub()
    counting = stub.Talk(words("first", f"fail {kind}"))

    faults = [
        await failing(stub.say(f"fail {kind}")),
        await failing(stub.Join(words(f"fail {kind}"))),
        await failing(_all(counting)),
    ]

    for fault in faults:
        assert (fault.kind, fault.what, fault.why) == (kind, "what ☃ 50 % of it\n", "why ☂")
        assert (fault.fix, fault.code) == ("fix it", "some-code")


async def _all(stream: Any) -> list[Any]:
    return [message async for message in stream]


async def test_a_long_fault_is_cut_and_still_arrives(net: Net) -> None:
    net.toy._obey = _verbose  # type: ignore[method-assign]

    fault = await failing((await net.stub()).say("x"))

    assert (fault.kind, fault.code) == (Kind.CONFLICT, "long")
    assert fault.why.startswith("☂☂☂")


async def _verbose(_word: str) -> None:
    raise Fault(Kind.CONFLICT, "☂" * 5000, why="☂" * 5000, fix="☂" * 5000, code="long")


async def test_a_bug_is_logged_and_not_told(net: Net) -> None:
    stub = await net.stub()

    with structlog.testing.capture_logs() as logs:
        fault = await failing(stub.say("bug"))

    assert fault.kind is Kind.INTERNAL
    assert "secret internals" not in str(fault)
    (line,) = logs
    assert line["method"] == f"/{NAME}/Say"
    assert isinstance(line["exc_info"], ValueError)


async def test_a_handler_whose_own_work_was_cancelled_still_answers(net: Net) -> None:
    """Nobody has hung up: a caller without a deadline would wait for ever."""
    stub = await net.stub()

    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(30):
            faults = [await failing(stub.say("lost")), await failing(_all(stub.Talk(words("one", "lost"))))]

    assert [fault.kind for fault in faults] == [Kind.INTERNAL, Kind.INTERNAL]
    assert {line["event"] for line in logs} == {"handler failed"}


async def test_every_unary_call_has_a_deadline(net: Net) -> None:
    await (await net.stub()).say("hello")

    (limit,) = net.toy.limits
    assert limit is not None
    assert UNARY_DEADLINE - 2 < limit <= UNARY_DEADLINE


async def test_a_deadline_ends_both_sides(net: Net) -> None:
    fault = await failing((await net.stub()).say("wait", timeout=0.2))

    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "deadline")
    await soon(net.toy.cancelled)


async def test_a_stream_may_have_a_deadline(net: Net) -> None:
    fault = await failing(_all((await net.stub()).Talk(words("wait"), timeout=0.2)))

    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "deadline")
    await soon(net.toy.cancelled)


async def test_a_cancelled_caller_cancels_the_handler(net: Net) -> None:
    stub = await net.stub()
    task = asyncio.ensure_future(stub.say("wait"))
    await soon(net.toy.waiting)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await soon(net.toy.cancelled)


async def test_hanging_up_ends_the_generator_of_the_server(net: Net) -> None:
    talk = (await net.stub()).Talk()
    await talk.write(StringValue(value="one"))
    await talk.read()
    reading = asyncio.ensure_future(talk.read())

    assert talk.cancel()

    fault = await failing(reading)
    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "cut-off")
    await soon(net.toy.cancelled)


async def test_writing_on_what_the_server_ended(net: Net) -> None:
    talk = (await net.stub()).Talk()
    await talk.write(StringValue(value="bye"))
    assert await talk.read() is grpc.aio.EOF

    fault = await failing(talk.write(StringValue(value="more")))

    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "ended")


async def test_a_slow_reader_slows_the_writer(net: Net) -> None:
    net.toy.padding = "x" * 100_000
    stub = await net.stub()
    count = stub.Count(StringValue(value="100000"))
    assert (await anext(count)).value.startswith("0x")

    written = -1
    while written != net.toy.written:  # until the writer stands still
        written = net.toy.written
        for _ in range(5):
            await stub.say("hello")

    assert written < 1_000
    count.cancel()
    await soon(net.toy.cancelled)


def _codecs() -> tuple[Any, Any]:
    return StringValue.SerializeToString, StringValue.FromString


async def test_the_handler_knows_its_caller(net: Net) -> None:
    await (await net.stub()).say("hello")

    assert net.toy.callers == [CC]


async def test_metadata_arrives(net: Net) -> None:
    await (await net.stub()).say("hello", metadata=(("traceparent", "00-1-2-03"),))

    assert ("traceparent", "00-1-2-03") in [tuple(item) for item in net.toy.metadata[0]]


ROLES = ("clc", "cc", "nc", "sc", "walrus", "cli")
TABLE = AccessTable({f"/{NAME}/Say": {"cc", "clc"}, f"/{NAME}/Count": {"nc"}, f"/{NAME}/Join": {"*"}})


@pytest.mark.parametrize("role", ROLES)
async def test_the_table_of_roles_and_methods_holds(net: Net, role: str) -> None:
    served = await net.serve(access=TABLE)
    stub = ToyStub(net.connect(served, me=Identity("mallee", role, "x")))
    calls = {
        "Say": lambda: stub.say("hi"),
        "Count": lambda: _all(stub.Count(StringValue(value="1"))),
        "Join": lambda: stub.Join(words("hi")),
        "Talk": lambda: _all(stub.Talk(words("hi"))),
    }

    allowed, refusals = set(), []
    for method, call in calls.items():
        try:
            await call()
            allowed.add(method)
        except Fault as fault:
            refusals.append((fault.kind, fault.code))

    assert set(refusals) == {(Kind.FORBIDDEN, "role")}
    assert allowed == {"Join"} | ({"Say"} if role in {"cc", "clc"} else set()) | (
        {"Count"} if role == "nc" else set()
    )


async def test_a_method_that_nobody_registered(net: Net) -> None:
    channel = net.connect(await net.serve())

    fault = await failing(channel.unary_unary(f"/{NAME}/Nope", *_codecs())(StringValue()))

    assert (fault.kind, fault.code) == (Kind.INVALID, "unknown-method")


@pytest.mark.parametrize("expect", ["nc", NC])
async def test_the_expected_server_is_accepted(net: Net, expect: Identity | str) -> None:
    stub = ToyStub(net.connect(await net.serve(), expect=expect))

    assert await stub.say("hello") == "heard hello"


@pytest.mark.parametrize(
    "expect", ["clc", Identity("mallee", "nc", "az1-n2"), Identity("mallee", "clc", "az1-n1")]
)
async def test_another_server_is_refused(net: Net, expect: Identity | str) -> None:
    stub = ToyStub(net.connect(await net.serve(), expect=expect))

    fault = await failing(stub.say("hello"))

    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "unreachable")
    assert net.toy.requests == []


async def test_nobody_listens(net: Net) -> None:
    served = await net.serve()
    await served.close()
    stub = ToyStub(net.connect(served))

    faults = [await failing(stub.say("hello")), await failing(_all(stub.Talk(words("x"))))]

    assert {(fault.kind, fault.code) for fault in faults} == {(Kind.UNAVAILABLE, "unreachable")}


async def test_a_server_that_goes_and_returns(net: Net) -> None:
    served = await net.serve()
    stub = ToyStub(net.connect(served))
    talk = stub.Talk()
    await talk.write(StringValue(value="one"))
    await talk.read()

    await served.close()
    assert (await failing(talk.read())).kind is Kind.UNAVAILABLE
    await net.serve(address=served.address)

    assert await _insist(stub) == "heard again"


async def _insist(stub: ToyStub) -> str:
    async with asyncio.timeout(5):
        while True:
            try:
                return await stub.say("again")
            except Fault as fault:
                if fault.kind is not Kind.UNAVAILABLE:
                    raise
                await SystemClock().sleep(0.02)


async def test_closing_gives_the_calls_their_grace(net: Net) -> None:
    served = await net.serve()
    talk = ToyStub(net.connect(served)).Talk()
    await talk.write(StringValue(value="one"))
    await talk.read()

    closing = asyncio.ensure_future(served.close(grace=5))
    await talk.write(StringValue(value="two"))
    assert (await talk.read()).value == "heard two"
    await talk.done_writing()
    assert await talk.read() is grpc.aio.EOF

    async with asyncio.timeout(4):
        await closing


async def test_a_closed_channel_ends_its_calls(net: Net) -> None:
    served = await net.serve()
    channel = net.connect(served)
    talk = ToyStub(channel).Talk()
    await talk.write(StringValue(value="one"))
    await talk.read()
    asking = asyncio.ensure_future(ToyStub(channel).say("wait"))
    await soon(net.toy.waiting)

    await channel.close()

    assert (await failing(asking)).code == "cut-off"
    assert (await failing(talk.read())).code == "cut-off"
    await soon(net.toy.cancelled)
    assert (await failing(ToyStub(channel).say("hello"))).code == "closed"


async def test_an_address_is_taken_once(net: Net) -> None:
    served = await net.serve()

    fault = await failing(net.serve(address=served.address))

    assert (fault.kind, fault.code) == (Kind.CONFLICT, "address-in-use")


async def test_enrolment_needs_no_certificate_and_reaches_nothing_else(net: Net) -> None:
    clc = Identity("mallee", "clc", "one")
    door = await net.serve(
        clc, access=AccessTable({f"/{NAME}/Say": {ANYONE}, f"/{NAME}/Join": {"*"}}), client_certificates=False
    )
    inside = await net.serve(clc, access=AccessTable({f"/{NAME}/Say": {ANYONE}}))
    connect = partial(net.transport.connect_with_ca, net.authority.pem, expect="clc")

    stub = ToyStub(net.keep(connect(door.address)))
    assert await stub.say("let me in") == "heard let me in"
    assert net.toy.callers == [NOBODY]
    assert (await failing(stub.Join(words("x")))).code == "role"
    assert (await failing(ToyStub(net.keep(connect(inside.address))).say("hi"))).kind is Kind.UNAVAILABLE


async def test_enrolment_trusts_only_the_expected_role(net: Net) -> None:
    door = await net.serve(NC, access=AccessTable({f"/{NAME}/Say": {ANYONE}}), client_certificates=False)
    stub = ToyStub(net.keep(net.transport.connect_with_ca(net.authority.pem, door.address, expect="clc")))

    assert (await failing(stub.say("my secret"))).code == "unreachable"
    assert net.toy.requests == []


async def test_health_is_answered_and_followed(net: Net) -> None:
    served = await net.serve()
    stub = HealthStub(net.connect(served))

    assert (await stub.Check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
    watch = stub.Watch(HealthCheckRequest())
    assert (await watch.read()).status == HealthCheckResponse.SERVING
    await served.set_health("", serving=False)
    assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
    watch.cancel()
    unknown = await failing(stub.Check(HealthCheckRequest(service="nope")))
    assert unknown.kind is Kind.NOT_FOUND


async def test_reflection_names_the_services(net: Net) -> None:
    stub = ServerReflectionStub(net.connect(await net.serve()))
    talk = stub.ServerReflectionInfo()
    await talk.write(ServerReflectionRequest(list_services=""))

    names = [service.name for service in (await talk.read()).list_services_response.service]

    assert set(names) == {NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    talk.cancel()


async def test_a_message_over_the_limit_is_refused(net: Net) -> None:
    stub = await net.stub()

    assert len(await stub.say("x" * (MESSAGE_LIMIT - 100))) > MESSAGE_LIMIT - 100
    fault = await failing(stub.say("x" * (MESSAGE_LIMIT + 1)))

    assert (fault.kind, fault.code) == (Kind.INVALID, "message-too-large")


async def test_many_calls_at_once_on_one_channel(net: Net) -> None:
    stub = await net.stub()

    answers = await asyncio.gather(*(stub.say(str(number)) for number in range(200)))

    assert answers == [f"heard {number}" for number in range(200)]


async def test_a_stream_is_kept_through_a_restart(net: Net) -> None:
    served = await net.serve()
    stub = ToyStub(net.connect(served))
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def handle(talk: Any) -> None:
        await talk.write(StringValue(value="here I am"))
        async for answer in talk:
            heard.put_nowait(answer.value)

    kept = asyncio.ensure_future(
        keep_streaming("talk", stub.Talk, handle, clock=SystemClock(), entropy=SeededEntropy(1))
    )
    async with asyncio.timeout(10):
        assert await heard.get() == "heard here I am"
        await served.close()
        await net.serve(address=served.address)
        assert await heard.get() == "heard here I am"
    kept.cancel()
    with pytest.raises(asyncio.CancelledError):
        await kept
