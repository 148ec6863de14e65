"""HTTP/1.1 before there is a request: what uvicorn's parser leaves open is bounded here.

A client may send the head of a request as slowly and as long as it likes, and uvicorn would keep
all of it. What is not HTTP at all is refused in the service's own words, as everything else is.
"""

from __future__ import annotations

from asyncio import Protocol, Transport
from asyncio.events import TimerHandle
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mallee.aws.listener.bulk import Intake, Outlet
from mallee.kernel.entropy import Entropy, request_id

HEAD_SECONDS: Final = 30.0
HEAD_BYTES: Final = 64 * 1024  # what comes in time and is longer than it may be gets a better answer later


def listener(
    refusal: Callable[[str], bytes], entropy: Entropy, *, head_seconds: float = HEAD_SECONDS
) -> type[Protocol]:
    """The protocol to give to uvicorn.

    Args:
        refusal: the XML for what cannot be read as a request, given the id of the answer.
        entropy: gives that id.
        head_seconds: how long a connection may take to say what it wants.
    """

    class Listener(_Bounded):
        def refuse(self) -> None:
            name = request_id(entropy)
            body = refusal(name)
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/xml;charset=UTF-8\r\n"
                b"x-amzn-requestid: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (name.encode(), len(body), body)
            )
            self.transport.close()

    Listener.head_seconds = head_seconds
    return Listener


def _arrived(cycle: Any) -> bytes | None:
    """The body, if all of it is there and nobody waits for `100 Continue`; then no more is to be received."""
    if cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected or cycle.response_complete:
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    cycle.flow.resume_reading()
    cycle.message_event.clear()
    return body


class _Bounded(HttpToolsProtocol):
    """One connection. The head of a request is bounded in bytes, and in time from its beginning."""

    head_seconds: float
    _head_bytes: int | None = 0  # of the head that is arriving; None while none is
    _patience: TimerHandle | None = None
    _outlet: Outlet | None = None

    def refuse(self) -> None:
        raise NotImplementedError

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.refuse()
        elif self._patience is None:  # most heads are whole at once and need no timer
            self._wait()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words, in plain text
        self.refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._wait_no_more()
        if self.scheme == "http":
            self._offer_bulk()
        else:
            super().on_headers_complete()

    def _offer_bulk(self) -> None:
        """The request may be read and answered past the parser; each way knows the request's own cycle."""
        extensions: dict[str, Any] = {}
        self.scope["extensions"] = extensions
        super().on_headers_complete()
        extensions["mallee.answer"] = partial(self._answer, self.cycle)
        extensions["mallee.arrived"] = partial(_arrived, self.cycle)
        extensions["mallee.sendfile"] = partial(self._send_file, self.cycle)
        extensions["mallee.intake"] = partial(Intake, self, self.cycle)

    def _answer(self, cycle: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """A whole answer in one write; False if it must go the other way, part by part.

        Args:
            cycle: of the request; its body must have been read.
            status: of HTTP.
            headers: lower-case, the length of the body among them.
            body: empty for the answer to HEAD.
        """
        if cycle.disconnected or cycle.response_started or not cycle.keep_alive or cycle.flow.write_paused:
            return False
        lines = [b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)]
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            return False  # a header would begin another one: uvicorn has words for that
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], head, body))
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    async def _send_file(self, cycle: Any, fd: int, offset: int, length: int) -> bool:
        if cycle.disconnected or self.transport.is_closing():
            return False
        if self._outlet is None:
            self._outlet = Outlet(self.transport, self.loop)
        return await self._outlet.send(cycle, fd, offset, length)

    def begin_anew(self) -> None:
        """The parser has not seen the end of the last body and never will: the next request has another."""
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.head_seconds, self._late)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _late(self) -> None:
        answering: Any = self.cycle
        if answering is not None and not answering.response_complete:
            self._wait()  # the request before this one still deserves its answer
        else:
            self.transport.close()
