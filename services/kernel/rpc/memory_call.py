"""One simulated call: two pipes, the handler's task between them, and the clocks that may end it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NoReturn

import grpc
import structlog
from grpc import aio

from mallee.kernel.clock import Clock
from mallee.kernel.rpc.identity import NOBODY, Identity
from mallee.kernel.rpc.memory_pipe import ARRIVES, Ended, Fate, Faults, Frame, Mark, Message, Pipe
from mallee.kernel.rpc.seam import KEEPALIVE, KEEPALIVE_ANSWER, MESSAGE_LIMIT
from mallee.kernel.rpc.server import Handler

_log = structlog.get_logger()
_TOO_LARGE = Ended(grpc.StatusCode.RESOURCE_EXHAUSTED, f"A message is larger than {MESSAGE_LIMIT} bytes.")


class Calls:
    """The calls under way at one server, oldest first: the order decides how a simulation replays."""

    def __init__(self) -> None:
        self.none = asyncio.Event()
        self.none.set()
        self._calls: dict[Call, None] = {}

    def add(self, call: Call) -> None:
        self._calls[call] = None
        self.none.clear()

    def remove(self, call: Call) -> None:
        self._calls.pop(call, None)
        if not self._calls:
            self.none.set()

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))


class Call:
    """A call from its first message to its status.

    Args:
        clock: for delays, deadline and keepalive.
        faults: decides over each message.
        parties: who calls whom; as the server sees it, the caller is `caller`.
        caller: the identity that the connection proved.
        home: where handlers run: the context in which the server was started.
        method: full name.
        metadata: what the client sent beside the request.
        limit: seconds until the deadline, if there is one.
        among: the lists where this call stands until both sides have ended.
    """

    def __init__(
        self,
        clock: Clock,
        faults: Faults | None,
        parties: tuple[Identity, Identity],
        *,
        caller: Identity,
        home: contextvars.Context,
        method: str,
        metadata: Any,
        limit: float | None,
        among: tuple[Calls, ...],
    ) -> None:
        self.caller = caller
        self._home = home
        self.method = method
        self.metadata = tuple(metadata or ())
        self.deadline = None if limit is None else clock.monotonic() + limit
        self.clock = clock
        self.up = Pipe(clock, self._fates(faults, *parties, answer=False), self.spawn, self._cut)
        self.down = Pipe(clock, self._fates(faults, *reversed(parties), answer=True), self.spawn, self._cut)
        self._among = among
        for calls in among:
            calls.add(self)
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._handling: asyncio.Task[None] | None = None
        self._client_ended = False
        if limit is not None:
            self.spawn(self._end_after(limit, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded."))

    def begin(self, handler: Handler | None) -> None:
        """Start the server's side."""
        self.up.arrive = self._watched(self.up.arrive, handler)
        # A copy: what one handler binds to its log lines must not show in another's.
        self._handling = self.spawn(self._handle(handler), self._home.copy())
        self._handling.add_done_callback(lambda _: self._perhaps_over())

    def hang_up(self) -> None:
        """The client gives up; the server learns it by a message like any other."""
        self.down.fail(Ended(grpc.StatusCode.CANCELLED, "Cancelled by the client."))
        self.up.post(Mark.HANG_UP)
        self.client_ended()

    def break_off(self, code: grpc.StatusCode, why: str) -> None:
        """The connection is gone, or time is up: both sides end now."""
        self.down.fail(Ended(code, why))
        self._stop_handling()

    def client_ended(self) -> None:
        """The client has its status, or wants none."""
        self._client_ended = True
        self._perhaps_over()

    def spawn(
        self, work: Coroutine[Any, Any, None], context: contextvars.Context | None = None
    ) -> asyncio.Task[None]:
        """A task of this call, the network's own if no context says whose it is."""
        task = asyncio.get_running_loop().create_task(work, context=context or contextvars.Context())
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def _fates(
        self, faults: Faults | None, source: Identity, target: Identity, *, answer: bool
    ) -> Callable[[int, int], Fate]:
        if faults is None:
            return lambda _number, _size: ARRIVES
        return lambda number, size: faults(Message(source, target, self.method, answer, number, size))

    def _watched(self, arrive: Callable[[Frame], None], handler: Handler | None) -> Callable[[Frame], None]:
        requests = 0

        def watch(frame: Frame) -> None:
            nonlocal requests
            requests += isinstance(frame, bytes)
            if frame is Mark.HANG_UP:
                self._stop_handling()
            elif requests > 1 and isinstance(frame, bytes) and handler and not handler.request_streaming:
                self._again(handler, frame)
            else:
                arrive(frame)

        return watch

    def _again(self, handler: Handler, request: bytes) -> None:
        """A request that arrived twice is handled twice; the second answer goes nowhere."""
        limit = None if self.deadline is None else self.deadline - self.clock.monotonic()
        twin = Call(
            self.clock,
            None,
            (self.caller, self.caller),
            caller=self.caller,
            home=self._home,
            method=self.method,
            metadata=self.metadata,
            limit=limit,
            among=self._among,
        )
        twin.down.arrive = lambda _: None
        twin.up.post(request)
        twin.begin(handler)
        twin.client_ended()

    def _cut(self) -> None:
        self.spawn(
            self._end_after(KEEPALIVE + KEEPALIVE_ANSWER, grpc.StatusCode.UNAVAILABLE, "The peer is silent.")
        )

    async def _end_after(self, seconds: float, code: grpc.StatusCode, why: str) -> None:
        await self.clock.sleep(seconds)
        self.break_off(code, why)

    def _stop_handling(self) -> None:
        if self._handling is not None:
            self._handling.cancel()

    def _perhaps_over(self) -> None:
        if self._client_ended and (self._handling is None or self._handling.done()):
            for task in tuple(self._tasks):
                task.cancel()
            for calls in self._among:
                calls.remove(self)

    async def _handle(self, handler: Handler | None) -> None:
        if handler is None:
            self.down.post(Ended(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            return
        context = ServerSide(self, handler)
        try:
            self.down.post(await context.handle())
        except aio.AbortError:
            self.down.post(context.aborted)
        except Exception as error:  # noqa: BLE001 - the guard caught the handler's own; this is a codec's
            _log.error("message not understood", method=self.method, exc_info=error)
            self.down.post(Ended(grpc.StatusCode.INTERNAL, "A message was not understood."))


class ServerSide:
    """What a handler sees of its call: the part of gRPC's servicer context that services use."""

    def __init__(self, call: Call, handler: Handler) -> None:
        self.aborted = Ended(grpc.StatusCode.UNKNOWN)
        self._call = call
        self._handler: Any = handler

    async def handle(self) -> Ended:
        """Run the handler to its end."""
        handler = self._handler
        asked = self.requests() if handler.request_streaming else await self.read()
        if handler.response_streaming:
            await (handler.stream_stream or handler.unary_stream)(asked, self)
        else:
            await self.write(await (handler.stream_unary or handler.unary_unary)(asked, self))
        return Ended(grpc.StatusCode.OK)

    async def requests(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not aio.EOF:
            yield message

    async def read(self) -> Any:
        frame = await self._call.up.receive()
        return self._handler.request_deserializer(frame) if isinstance(frame, bytes) else aio.EOF

    async def write(self, message: Any) -> None:
        sent = self._handler.response_serializer(message)
        if len(sent) > MESSAGE_LIMIT:
            await self.abort(_TOO_LARGE.code, _TOO_LARGE.details)
        await self._call.down.send(sent)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        self.aborted = Ended(code, details, tuple(trailing_metadata))
        raise aio.AbortError

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Metadata before the first answer; no client of ours reads it."""

    def auth_context(self) -> dict[str, list[bytes]]:
        caller = self._call.caller
        return {} if caller is NOBODY else {"peer_spiffe_id": [caller.uri.encode()]}

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._call.metadata

    def time_remaining(self) -> float | None:
        deadline = self._call.deadline
        return None if deadline is None else max(0.0, deadline - self._call.clock.monotonic())

    def peer(self) -> str:
        return f"memory:{self._call.caller}"


class ClientSide:
    """What a stub's caller holds: gRPC's call object, for all four arities."""

    def __init__(self, call: Call, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
        self._call = call
        self._encode = encode
        self._decode = decode
        self._ended: Ended | None = None
        self._half_closed = False

    def feed(self, requests: Any) -> None:
        """Send what the iterable yields, and close this half."""
        self._call.spawn(self._feed(requests), contextvars.copy_context())

    async def _feed(self, requests: Any) -> None:
        try:
            if hasattr(requests, "__aiter__"):
                async for request in requests:
                    await self.write(request)
            else:
                for request in requests:
                    await self.write(request)
            await self.done_writing()
        except (aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over; whoever awaits its answers learns why
        except Exception:  # noqa: BLE001 - as gRPC: the iterator's failure hangs up
            _log.exception("request iterator failed", method=self._call.method)
            self.cancel()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not aio.EOF:
            yield message

    def __await__(self) -> Any:
        return self._single().__await__()

    async def _single(self) -> Any:
        answer = await self.read()
        if await self.read() is not aio.EOF or answer is aio.EOF:
            raise _error(Ended(grpc.StatusCode.INTERNAL, "Not exactly one answer."))
        return answer

    async def read(self) -> Any:
        try:
            frame = await self._call.down.receive()
        except asyncio.CancelledError:
            self.cancel()  # as gRPC does: a cancelled read hangs up
            raise
        if isinstance(frame, bytes):
            return self._decode(frame)
        self._end(frame)
        return aio.EOF

    async def write(self, message: Any) -> None:
        if self._ended is not None:
            self._end(self._ended)
        if self._ended is not None or self._half_closed:
            raise asyncio.InvalidStateError("RPC already finished.")
        sent = self._encode(message)
        if len(sent) > MESSAGE_LIMIT:
            self._call.break_off(_TOO_LARGE.code, _TOO_LARGE.details)
            raise _error(_TOO_LARGE)
        await self._call.up.send(sent)

    async def done_writing(self) -> None:
        if not self._half_closed and self._ended is None:
            self._half_closed = True
            await self._call.up.send(Mark.HALF_CLOSED)

    async def wait_for_connection(self) -> None:
        """The simulation connects at once."""

    def cancel(self) -> bool:
        if self._ended is not None:
            return False
        self._call.hang_up()
        return True

    def done(self) -> bool:
        return self._ended is not None

    def _end(self, frame: Frame) -> None:
        assert isinstance(frame, Ended), "a server sends messages and one status"
        self._ended = frame
        self._call.client_ended()
        if frame.code is not grpc.StatusCode.OK:
            raise _error(frame)


def _error(ended: Ended) -> aio.AioRpcError:
    return aio.AioRpcError(ended.code, aio.Metadata(), aio.Metadata(*ended.trailer), details=ended.details)
