"""A service with one method of each arity, on messages that are there anyway, for the transport's tests."""

# ruff: noqa: N802 - methods are named as their contract names them
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable, Identity, peer

NAME = "toy.v1.Toy"
METHODS = {"Say": "unary_unary", "Count": "unary_stream", "Join": "stream_unary", "Talk": "stream_stream"}
EVERYONE = AccessTable({f"/{NAME}/{method}": {"*"} for method in METHODS})


class Toy:
    """Does as its request's word says."""

    def __init__(self) -> None:
        self.callers: list[Identity] = []
        self.requests: list[str] = []
        self.limits: list[float | None] = []
        self.metadata: list[Any] = []
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.written = 0
        self.padding = ""

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        self.callers.append(peer(context))
        self.requests.append(request.value)
        self.limits.append(context.time_remaining())
        self.metadata.append(context.invocation_metadata())
        await self._obey(request.value)
        return StringValue(value=f"heard {request.value}")

    async def Count(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        self.callers.append(peer(context))
        try:
            for number in range(int(request.value)):
                self.written += 1
                yield StringValue(value=f"{number}{self.padding}")
            await self._obey(request.value)
        finally:
            self.cancelled.set()

    async def Join(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        words = [request.value async for request in requests]
        for word in words:
            await self._obey(word)
        return StringValue(value=" ".join(words))

    async def Talk(self, requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        try:
            async for request in requests:
                self.requests.append(request.value)
                if request.value == "bye":
                    return
                await self._obey(request.value)
                yield StringValue(value=f"heard {request.value}")
        finally:
            self.cancelled.set()

    async def _obey(self, word: str) -> None:
        if word.startswith("fail "):
            raise Fault(Kind(word[5:]), "what ☃ 50 % of it\n", why="why ☂", fix="fix it", code="some-code")
        if word == "lost":
            raise asyncio.CancelledError
        if word == "bug":
            raise ValueError("secret internals")
        if word == "wait":
            self.waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()


def add_to_server(toy: Toy, server: Any) -> None:
    """As generated code registers."""
    handlers = {
        method: getattr(grpc, f"{arity}_rpc_method_handler")(
            getattr(toy, method),
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for method, arity in METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    server.add_registered_method_handlers(NAME, handlers)


class ToyStub:
    """As generated code calls, but of words."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        for method, arity in METHODS.items():
            calls = getattr(channel, arity)(
                f"/{NAME}/{method}",
                request_serializer=StringValue.SerializeToString,
                response_deserializer=StringValue.FromString,
                _registered_method=True,
            )
            setattr(self, method, calls)

    async def say(self, word: str, **options: Any) -> str:
        return (await self.Say(StringValue(value=word), **options)).value


def words(*texts: str) -> Any:
    async def each() -> AsyncIterator[StringValue]:
        for text in texts:
            yield StringValue(value=text)

    return each()
