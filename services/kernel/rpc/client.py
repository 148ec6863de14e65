"""What every client does around a call: a deadline, and faults instead of gRPC's errors.

The raw calls are gRPC's own or the simulation's. A unary call is a coroutine, a stream is a
`Stream`; interceptors of gRPC would cost a task per call for the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.faults import fault_of
from mallee.kernel.rpc.seam import UNARY_DEADLINE

_Codec = Callable[[Any], Any]


class Stream:
    """A call that streams in one direction or both: iterate it, or `read` and `write`.

    The answer of a call that streams only its request is awaited.
    """

    def __init__(self, call: Any, method: str, address: str) -> None:
        self._call = call
        self._method = method
        self._address = address
        self._answers: Any = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._answers is None:
            self._answers = aiter(self._call)
        return await self._guarded(anext(self._answers))

    def __await__(self) -> Any:
        return self._guarded(self._call).__await__()

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` at the end."""
        return await self._guarded(self._call.read())

    async def write(self, message: Any) -> None:
        await self._guarded(self._call.write(message))

    async def done_writing(self) -> None:
        await self._guarded(self._call.done_writing())

    async def wait_for_connection(self) -> None:
        """Return when the server has begun to answer."""
        await self._guarded(self._call.wait_for_connection())

    def cancel(self) -> bool:
        """Hang up; the handler is cancelled at its next await."""
        cancelled: bool = self._call.cancel()
        return cancelled

    def done(self) -> bool:
        over: bool = self._call.done()
        return over

    async def _guarded(self, step: Awaitable[Any]) -> Any:
        try:
            return await step
        except aio.AioRpcError as error:
            raise fault_of(error, self._method, self._address) from None
        except asyncio.CancelledError:
            _go_on_cancelling()
            raise _over(self._method, self._address, "We hung up.", "cut-off") from None
        except asyncio.InvalidStateError:
            raise _over(self._method, self._address, "The other side ended the stream.", "ended") from None


def _go_on_cancelling() -> None:
    """Go on cancelling, if this task is being cancelled.

    gRPC raises CancelledError also in whoever still awaits a call that we hung up, or whose channel
    we closed; only a task that is itself being cancelled may end that way.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise asyncio.CancelledError


def _over(method: str, address: str, why: str, code: str) -> Fault:
    return Fault(
        Kind.UNAVAILABLE, f"{method} at {address} is over.", why=why, fix="Open it again.", code=code
    )


class _Calls:
    """One method of a stub: makes raw calls on whatever channel is current."""

    def __init__(
        self, channel: GuardedChannel, arity: str, method: str, codecs: tuple[_Codec, _Codec]
    ) -> None:
        self._channel = channel
        self._arity = arity
        self._method = method
        self._codecs = codecs
        self._made_for: Any = None
        self._raw: Any = None

    def _current(self) -> Any:
        raw_channel = self._channel.current()
        if raw_channel is not self._made_for:
            self._raw = getattr(raw_channel, self._arity)(self._method, *self._codecs)
            self._made_for = raw_channel
        return self._raw


class _UnaryCalls(_Calls):
    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None) -> Awaitable[Any]:
        return self._answer(request, UNARY_DEADLINE if timeout is None else timeout, metadata)

    async def _answer(self, request: Any, limit: float, metadata: Any) -> Any:
        try:
            return await self._current()(request, timeout=limit, metadata=metadata)
        except aio.AioRpcError as error:
            raise fault_of(error, self._method, self._channel.address) from None
        except asyncio.CancelledError:
            _go_on_cancelling()
            raise _over(self._method, self._channel.address, "We hung up.", "cut-off") from None


class _StreamCalls(_Calls):
    def __call__(self, requests: Any = None, *, timeout: float | None = None, metadata: Any = None) -> Stream:
        call = self._current()(requests, timeout=timeout, metadata=metadata)
        return Stream(call, self._method, self._channel.address)


class GuardedChannel(aio.Channel):
    """A channel for stubs over raw channels that may be replaced while it is in use.

    Args:
        address: where it leads, for messages.
        current: the raw channel for the next call.
        shut: closes every raw channel, with a grace in seconds.
    """

    def __init__(
        self,
        address: str,
        current: Callable[[], aio.Channel],
        shut: Callable[[float | None], Awaitable[None]],
    ) -> None:
        self.address = address
        self._current = current
        self._shut = shut
        self._closed = False

    def current(self) -> aio.Channel:
        """The raw channel for the next call.

        Raises:
            Fault: UNAVAILABLE, when this one is closed.
        """
        if self._closed:
            raise Fault(
                Kind.UNAVAILABLE,
                f"The connection to {self.address} is closed.",
                fix="Connect again.",
                code="closed",
            )
        return self._current()

    def unary_unary(self, method: str, *codecs: Any, **named: Any) -> Any:
        return _UnaryCalls(self, "unary_unary", method, _pair(codecs, named))

    def unary_stream(self, method: str, *codecs: Any, **named: Any) -> Any:
        return _StreamCalls(self, "unary_stream", method, _pair(codecs, named))

    def stream_unary(self, method: str, *codecs: Any, **named: Any) -> Any:
        return _StreamCalls(self, "stream_unary", method, _pair(codecs, named))

    def stream_stream(self, method: str, *codecs: Any, **named: Any) -> Any:
        return _StreamCalls(self, "stream_stream", method, _pair(codecs, named))

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        await self._shut(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _pair(codecs: tuple[Any, ...], named: dict[str, Any]) -> tuple[_Codec, _Codec]:
    """Generated code names them; both stand in this order."""
    if codecs:
        return codecs[0], codecs[1]
    return named["request_serializer"], named["response_deserializer"]
