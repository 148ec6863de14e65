"""The transport of the simulation: calls between services in one event loop, under any clock.

Each message is serialised and parsed again, in order per direction as on a TCP connection. A hook
decides over each message: late, twice, or lost - and as TCP loses no single message, a lost one
means that nothing more crosses in that direction, and both sides notice by deadline or keepalive.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, cast

import grpc
from grpc import aio

from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.access import AccessTable
from mallee.kernel.rpc.client import GuardedChannel
from mallee.kernel.rpc.identity import NOBODY, Identity
from mallee.kernel.rpc.memory_call import Call, Calls, ClientSide
from mallee.kernel.rpc.memory_pipe import Faults
from mallee.kernel.rpc.seam import Channel, Registration
from mallee.kernel.rpc.server import Guard

_FIRST_PORT = 40_000
_Codec = Callable[[Any], Any]


class Unreachable(Exception):  # noqa: N818 - what a connection attempt came to
    """No connection: nobody listens, or one side refused the other."""


class MemoryServed:
    """A server of the simulation. `close` without grace is what a crash looks like from outside."""

    def __init__(
        self,
        me: Identity,
        address: str,
        guard: Guard,
        *,
        clock: Clock,
        certificates: bool,
        forget: Callable[[], object],
    ) -> None:
        self.me = me
        self.address = address
        self.guard = guard
        self.certificates = certificates
        self.calls = Calls()
        # Handlers belong to whoever serves, not to whoever calls: as if processes were apart.
        self.home = contextvars.copy_context()
        self._clock = clock
        self._forget = forget

    async def set_health(self, service: str, *, serving: bool) -> None:
        await self.guard.set_health(service, serving=serving)

    async def close(self, grace: float = 0.0) -> None:
        self._forget()
        if grace:
            await self._wait_for_calls(grace)
        for call in self.calls:
            call.break_off(grpc.StatusCode.UNAVAILABLE, "The server closed the connection.")

    async def _wait_for_calls(self, grace: float) -> None:
        ends = (
            asyncio.ensure_future(self.calls.none.wait()),
            asyncio.ensure_future(self._clock.sleep(grace)),
        )
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()


class MemoryTransport:
    """All servers and channels of one simulated network; see `Transport` for the contract.

    Args:
        clock: deadlines, delays and keepalive are of its time.
        faults: decides over each message; without it every message arrives at once.
    """

    def __init__(self, clock: Clock, faults: Faults | None = None) -> None:
        self.faults = faults
        self.clock = clock
        self._servers: dict[str, MemoryServed] = {}
        self._next_port = _FIRST_PORT

    async def serve(
        self,
        me: Identity,
        address: str,
        *add: Registration,
        access: AccessTable,
        client_certificates: bool = True,
    ) -> MemoryServed:
        host, _, port = address.rpartition(":")
        if port == "0":
            address = f"{host}:{self._next_port}"
            self._next_port += 1
        if address in self._servers:
            raise Fault(Kind.CONFLICT, f"{me} cannot listen at {address}.", code="address-in-use")
        guard = Guard(me, access)
        guard.register(add)
        served = MemoryServed(
            me,
            address,
            guard,
            clock=self.clock,
            certificates=client_certificates,
            forget=lambda: self._servers.pop(address, None),
        )
        self._servers[address] = served
        return served

    def connect(
        self, me: Identity, address: str, *, expect: Identity | str, own_connection: bool = False
    ) -> Channel:
        _ = own_connection  # every call here has its own fate; connections are not shared
        return self._channel(me, address, expect)

    def connect_with_ca(self, ca_pem: bytes, address: str, *, expect: str) -> Channel:
        _ = ca_pem  # one simulated network is one cloud
        return self._channel(NOBODY, address, expect)

    def _channel(self, me: Identity, address: str, expect: Identity | str) -> Channel:
        raw = _RawChannel(self, me, address, expect)
        return GuardedChannel(address, lambda: cast("aio.Channel", raw), raw.close)

    def reach(self, me: Identity, address: str, expect: Identity | str) -> MemoryServed:
        """The server at `address`, if both sides accept each other, as TLS would decide it.

        Raises:
            Unreachable: with the reason.
        """
        served = next((self._servers[each] for each in address.split(",") if each in self._servers), None)
        if served is None:
            raise Unreachable("Connection refused.")
        known = served.me.role == expect if isinstance(expect, str) else served.me == expect
        if not known:
            raise Unreachable(f"The server at {address} is {served.me}, not {expect}.")
        if served.certificates and (me is NOBODY or me.cloud != served.me.cloud):
            raise Unreachable("The server refused the certificate.")
        return served


class _RawChannel:
    """Makes raw calls for the multicallables of a stub."""

    def __init__(
        self, transport: MemoryTransport, me: Identity, address: str, expect: Identity | str
    ) -> None:
        self._transport = transport
        self._me = me
        self._address = address
        self._expect = expect
        self._calls = Calls()

    def unary_unary(self, method: str, *codecs: _Codec) -> Callable[..., ClientSide]:
        return self._caller(method, codecs, lambda request: (request,))

    unary_stream = unary_unary

    def stream_stream(self, method: str, *codecs: _Codec) -> Callable[..., ClientSide]:
        return self._caller(method, codecs, lambda requests: requests)

    stream_unary = stream_stream

    async def close(self, grace: float | None = None) -> None:
        _ = grace
        for call in self._calls:
            call.hang_up()

    async def channel_ready(self) -> None:
        self._transport.reach(self._me, self._address, self._expect)

    def _caller(
        self, method: str, codecs: tuple[_Codec, ...], wrap: Callable[[Any], Any]
    ) -> Callable[..., ClientSide]:
        encode, decode = codecs

        def begin(asked: Any, *, timeout: float | None, metadata: Any) -> ClientSide:
            client = ClientSide(self._begin(method, timeout, metadata), encode, decode)
            if asked is not None:
                client.feed(wrap(asked))
            return client

        return begin

    def _begin(self, method: str, limit: float | None, metadata: Any) -> Call:
        try:
            served = self._transport.reach(self._me, self._address, self._expect)
        except Unreachable as refusal:
            served, why = None, str(refusal)
        call = Call(
            self._transport.clock,
            self._transport.faults,
            (self._me, served.me if served else NOBODY),
            caller=self._me if served and served.certificates else NOBODY,
            home=served.home if served else contextvars.Context(),
            method=method,
            metadata=metadata,
            limit=limit,
            among=(self._calls, served.calls) if served else (self._calls,),
        )
        if served:
            call.begin(served.guard.find(method))
        else:
            call.break_off(grpc.StatusCode.UNAVAILABLE, why)
        return call
