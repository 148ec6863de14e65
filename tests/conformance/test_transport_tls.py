"""Who gets in: certificates, authorities, expiry and renewal, on real connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import grpc
import pytest
import uvloop
from toy_service import EVERYONE, Toy, ToyStub, add_to_server

from mallee.kernel.clock import Clock, ManualClock, SystemClock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import LEAF_LIFE, Authority, IssuedKeys
from mallee.kernel.rpc import Credentials, GrpcTransport, Identity

CC = Identity("mallee", "cc", "az1")
NC = Identity("mallee", "nc", "az1-n1")


class Shifted:
    """The machine's clock, `by` earlier or later: TLS itself judges by the real one."""

    def __init__(self, by: timedelta) -> None:
        self._clock = SystemClock()
        self.by = by

    def now(self) -> datetime:
        return self._clock.now() + self.by

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


@dataclass
class World:
    authority: Authority
    toy: Toy = field(default_factory=Toy)
    closers: list[Callable[[], Any]] = field(default_factory=list)

    def transport(self, authority: Authority | None = None, clock: Clock | None = None) -> GrpcTransport:
        return GrpcTransport(IssuedKeys((authority or self.authority).issue, clock or SystemClock()))

    async def serve(self, transport: GrpcTransport | None = None, me: Identity = NC) -> str:
        add = partial(add_to_server, self.toy)
        served = await (transport or self.transport()).serve(me, "127.0.0.1:0", add, access=EVERYONE)
        self.closers.append(served.close)
        return served.address

    def stub(self, address: str, transport: GrpcTransport | None = None, me: Identity = CC) -> ToyStub:
        channel = (transport or self.transport()).connect(me, address, expect="nc", own_connection=True)
        self.closers.insert(0, channel.close)
        return ToyStub(channel)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Authority.create("mallee", SystemClock()))
    yield made
    for close in made.closers:
        await close()


async def refused(call: Any, world: World) -> None:
    with pytest.raises(Fault) as caught:
        await call
    assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "unreachable")
    assert world.toy.requests == []


async def test_a_client_of_another_authority_of_the_same_name(world: World) -> None:
    foreign = Authority.create("mallee", SystemClock())
    trusting = _Mixed(foreign, world.authority)

    await refused(world.stub(await world.serve(), GrpcTransport(trusting)).say("hello"), world)


class _Mixed:
    """A thief's keys: proof from one authority, trust in another, so only the server can refuse."""

    def __init__(self, proof: Authority, trust: Authority) -> None:
        self._proof = proof
        self._trust = trust

    def current(self, me: Identity) -> Credentials:
        issued = self._proof.issue(me)
        return Credentials(issued.key, issued.certificate, self._trust.pem)


async def test_a_server_of_another_authority_of_the_same_name(world: World) -> None:
    foreign = Authority.create("mallee", SystemClock())
    address = await world.serve(GrpcTransport(_Mixed(foreign, world.authority)))

    await refused(world.stub(address).say("hello"), world)


async def test_a_caller_without_a_certificate(world: World) -> None:
    address = await world.serve()
    channel = world.transport().connect_with_ca(world.authority.pem, address, expect="nc")
    world.closers.insert(0, channel.close)

    await refused(ToyStub(channel).say("hello"), world)


async def test_plain_text(world: World) -> None:
    async with grpc.aio.insecure_channel(await world.serve()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ToyStub(channel).say("hello", timeout=5)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert world.toy.requests == []


async def test_an_expired_client(world: World) -> None:
    past = IssuedAgo(world.authority, LEAF_LIFE + timedelta(minutes=1))

    await refused(world.stub(await world.serve(), GrpcTransport(past)).say("hello"), world)


async def test_an_expired_server(world: World) -> None:
    past = IssuedAgo(world.authority, LEAF_LIFE + timedelta(minutes=1))
    address = await world.serve(GrpcTransport(past))

    await refused(world.stub(address).say("hello"), world)


async def test_a_certificate_near_its_end_is_accepted(world: World) -> None:
    past = IssuedAgo(world.authority, LEAF_LIFE - timedelta(minutes=1))
    address = await world.serve(GrpcTransport(past))

    assert await world.stub(address, GrpcTransport(past)).say("hello") == "heard hello"


class IssuedAgo:
    """Keys that the authority certified some time ago, never renewed."""

    def __init__(self, authority: Authority, ago: timedelta) -> None:
        self._authority = authority.at(ManualClock(SystemClock().now() - ago))
        self._issued: dict[Identity, Credentials] = {}

    def current(self, me: Identity) -> Credentials:
        if me not in self._issued:
            self._issued[me] = self._authority.issue(me)
        return self._issued[me]


async def test_a_running_server_shows_its_renewed_certificate(world: World) -> None:
    clock = Shifted(-LEAF_LIFE * 0.6)  # issued then: more than half of its life is over
    keys = IssuedKeys(world.authority.at(clock).issue, clock)
    address = await world.serve(GrpcTransport(keys))
    first = await _shown(address)
    assert await _shown(address) == first

    clock.by = timedelta(0)

    assert await _shown(address) != first
    assert await world.stub(address).say("hello") == "heard hello"


async def _shown(address: str) -> bytes:
    host, port = address.split(":")
    return (await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))).encode()


async def test_a_running_client_shows_its_renewed_certificate(world: World) -> None:
    clock = Shifted(timedelta(0))
    keys = IssuedKeys(world.authority.issue, clock)
    stub = world.stub(await world.serve(), GrpcTransport(keys))
    talk = stub.Talk()
    await talk.write(_word("before"))
    await talk.read()
    before = keys.current(CC)

    clock.by = LEAF_LIFE * 0.6

    assert await stub.say("after") == "heard after"
    assert keys.current(CC) is not before
    await talk.write(_word("still open"))
    assert (await talk.read()).value == "heard still open"


def _word(text: str) -> Any:
    from google.protobuf.wrappers_pb2 import StringValue

    return StringValue(value=text)


async def test_own_connections_are_not_shared(world: World) -> None:
    address = await world.serve()
    transport = world.transport()
    peers: set[str] = set()
    world.toy._obey = _nothing  # type: ignore[method-assign]
    original = world.toy.Say

    async def say(request: Any, context: Any) -> Any:
        peers.add(context.peer())
        return await original(request, context)

    world.toy.Say = say  # type: ignore[method-assign]
    address = await world.serve()
    stubs = [world.stub(address, transport) for _ in range(5)]

    await asyncio.gather(*(stub.say("hello") for stub in stubs))

    assert len(peers) == 5


async def _nothing(_word: str) -> None:
    return None


def test_it_works_on_uvloop() -> None:
    async def talk() -> str:
        world = World(Authority.create("mallee", SystemClock()))
        try:
            return await world.stub(await world.serve()).say("hello")
        finally:
            for close in world.closers:
                await close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(talk()) == "heard hello"
