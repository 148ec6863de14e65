"""Large bodies past the HTTP parser: files out of the page cache, uploads into buffers of their own.

A parser and an application interface in between copy every byte several times. What a message's
head has announced needs neither: the next `n` bytes of the connection are the body. The listener
offers both ways to applications as extensions of ASGI's scope, `mallee.sendfile` and `mallee.intake`.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop, BufferedProtocol, Future, Transport
from typing import Any, Final

BUFFER: Final = 1024 * 1024  # bytes; a reader has one while the other is being filled
_ENOUGH: Final = 1024 * 1024  # bytes that are worth waking the reader for
_FLUSH_SECONDS: Final = 0.5  # after which it is woken for less
_AT_ONCE: Final = 4 * 1024 * 1024  # bytes for the kernel in one call: the loop has others to serve
_SLOWEST: Final = 60.0  # seconds in which a client must have taken something


class Outlet:
    """Sends ranges of files on one connection.

    Args:
        transport: a plain socket's; the bytes must not need encryption.
    """

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        # A descriptor of its own: the loop watches the transport's already, and would not watch it twice.
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        self._waiting: Future[None] | None = None
        self._lost = False

    async def send(self, cycle: Any, fd: int, offset: int, length: int) -> bool:
        """Send a range after what the cycle has sent already; False if the client went away.

        Args:
            cycle: uvicorn's, which counts the bytes of its response.
            fd: the file's.
            offset: in the file.
            length: in bytes.

        Raises:
            EOFError: the file ends before the range.
        """
        await self._drain(cycle)
        end = offset + length
        while offset < end and not self._lost:
            try:
                sent = os.sendfile(self._socket, fd, offset, min(end - offset, _AT_ONCE))
            except BlockingIOError:
                if not await self._writable():
                    self._transport.abort()
                    return False
                continue
            except (BrokenPipeError, ConnectionResetError):
                return False
            if not sent:
                raise EOFError("a file is shorter than what is to be sent of it")
            offset += sent
        cycle.expected_content_length -= length
        return not self._lost

    async def _drain(self, cycle: Any) -> None:
        """Wait until the transport has written all that it was given before."""
        if not self._transport.get_write_buffer_size():
            return
        self._transport.set_write_buffer_limits(0)
        try:
            if self._transport.get_write_buffer_size():
                await cycle.flow.drain()
        finally:
            self._transport.set_write_buffer_limits()

    async def _writable(self) -> bool:
        self._waiting = self._loop.create_future()
        self._loop.add_writer(self._socket, self._wake)
        try:
            async with asyncio.timeout(_SLOWEST):
                await self._waiting
        except TimeoutError:
            return False
        finally:
            self._waiting = None
            if not self._lost:
                self._loop.remove_writer(self._socket)
        return True

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """The connection is gone."""
        self._lost = True
        self._loop.remove_writer(self._socket)
        os.close(self._socket)
        self._wake()


class Intake(BufferedProtocol):
    """Reads the rest of one body straight into buffers, in the place of the listener's protocol.

    Args:
        listener: the protocol to go back to, an `HttpToolsProtocol`.
        cycle: of the request; what its parser has seen of the body already is taken from it.
        length: of the whole body.

    Attributes:
        ended: the block that was read last was the last.
    """

    def __init__(self, listener: Any, cycle: Any, length: int) -> None:
        self.ended = False
        self._listener = listener
        self._cycle = cycle
        self._transport: Transport = listener.transport
        self._first = memoryview(bytes(cycle.body))
        self._missing = length - len(self._first)  # bytes that the socket has not given yet
        self._left = length  # bytes that the reader has not got yet
        size = min(BUFFER, max(self._missing, 1))
        count = 1 if self._missing <= size else 2
        self._free = [bytearray(size) for _ in range(count)]
        self._filling: bytearray | None = None
        self._filled = 0
        self._full: list[tuple[bytearray, int]] = []
        self._lent: bytearray | None = None
        self._waiting: Future[None] | None = None
        self._flushed = False
        self._lost = False
        self._swapped = False
        cycle.body = bytearray()
        if cycle.waiting_for_100_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        cycle.flow.resume_reading()
        if self._missing and not self._transport.is_closing():
            self._take_over()

    async def read(self) -> memoryview | None:
        """The next block, valid until the next is asked for; None if the client went away."""
        if self._lent is not None:
            self._free.append(self._lent)
            self._lent = None
            if self._swapped and self._filling is None:
                self._transport.resume_reading()
        if len(self._first):
            block, self._first = self._first, memoryview(b"")
            return self._given(block)
        while not self._full:
            if self._filled >= _ENOUGH or (self._flushed and self._filled):
                self._put_aside()
                continue
            if self._lost or not self._swapped:
                return None
            await self._wait()
        buffer, size = self._full.pop(0)
        self._lent = buffer
        self._flushed = False
        return self._given(memoryview(buffer)[:size])

    def close(self) -> None:
        """Read no more. What has not come yet will never be read as a body."""
        if self._swapped:
            self._give_back()

    def _given(self, block: memoryview) -> memoryview:
        self._left -= len(block)
        self.ended = self._left == 0
        return block

    async def _wait(self) -> None:
        loop = self._listener.loop
        self._waiting = loop.create_future()
        flush = loop.call_later(_FLUSH_SECONDS, self._flush)
        try:
            await self._waiting
        finally:
            flush.cancel()
            self._waiting = None

    def _flush(self) -> None:
        self._flushed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _put_aside(self) -> None:
        """What is filled is for the reader; go on in the other buffer if it is free."""
        assert self._filling is not None
        self._full.append((self._filling, self._filled))
        self._filling, self._filled = None, 0
        if not self._free and self._swapped:
            self._transport.pause_reading()

    def _take_over(self) -> None:
        self._swapped = True
        self._transport.pause_reading()  # how bytes are read is decided where reading begins
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    def _give_back(self) -> None:
        self._swapped = False
        if self._lost:
            return
        self._transport.pause_reading()
        if not self._missing:
            self._listener.begin_anew()
            self._cycle.more_body = False
            self._cycle.message_event.set()
        self._transport.set_protocol(self._listener)
        self._transport.resume_reading()

    # -- asyncio's side

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's shape
        if self._filling is None:
            self._filling = self._free.pop()
        end = min(len(self._filling), self._filled + self._missing)
        return memoryview(self._filling)[self._filled : end]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self._missing -= nbytes
        assert self._filling is not None
        if not self._missing or self._filled == len(self._filling):
            self._put_aside()
        if not self._missing:
            self._give_back()
        if self._full or self._filled >= _ENOUGH:
            self._wake()

    def eof_received(self) -> None:
        self._gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self._listener.connection_lost(exc)

    def _gone(self) -> None:
        self._lost = True
        self._wake()

    def pause_writing(self) -> None:
        self._listener.pause_writing()

    def resume_writing(self) -> None:
        self._listener.resume_writing()
