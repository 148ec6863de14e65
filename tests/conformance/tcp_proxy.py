"""A line between two services that does what real lines do: halves of it die, it is slow, it is cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Self

CHUNK = 64 * 1024
UP, DOWN = "up", "down"  # from the client to the server, and back
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST, whatever was not sent yet


@dataclass
class Proxy:
    """Accepts connections and carries bytes to `target`.

    Attributes:
        silent: directions in which bytes are taken and go nowhere, while both ends keep their connection.
        delay: seconds that each piece of bytes takes.
        cut_after: by direction, how many bytes more pass before the connection is reset.
        deaf: new connections are taken by the machine and by nobody else.
        carried: bytes by direction.
    """

    target: str
    silent: set[str] = field(default_factory=set)
    delay: float = 0.0
    cut_after: dict[str, int] = field(default_factory=dict)
    deaf: bool = False
    carried: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})
    address: str = ""
    _server: asyncio.Server | None = None
    _lines: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self) -> None:
        """Take connections, at the same address as before."""
        port = int(self.address.rpartition(":")[2] or 0)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def refuse(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self) -> None:
        """Cut every connection, at both ends, in the middle of whatever it carries."""
        for writer in list(self._lines):
            self._abort(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        if self.deaf:
            return
        host, _, port = self.target.rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        self._lines.add(there_writer)
        for direction, source, sink in ((UP, reader, there_writer), (DOWN, there_reader, writer)):
            task = asyncio.create_task(self._carry(direction, source, sink, (writer, there_writer)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self,
        direction: str,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        try:
            while data := await source.read(CHUNK):
                if direction in self.silent:
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)  # noqa: TID251 - what a slow line is
                left = self.cut_after.get(direction)
                if left is not None and len(data) >= left:
                    sink.write(data[:left])
                    await sink.drain()
                    self.cut_after.clear()
                    break
                if left is not None:
                    self.cut_after[direction] = left - len(data)
                self.carried[direction] += len(data)
                sink.write(data)
                await sink.drain()
        except OSError:  # the other end has gone, and so does this one
            pass
        for writer in both:
            self._abort(writer)

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        self._lines.discard(writer)
        held: socket.socket | None = writer.get_extra_info("socket")
        if held is not None and held.fileno() >= 0:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        writer.transport.abort()
