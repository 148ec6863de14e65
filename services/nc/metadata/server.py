"""A port for each guest, at the address that every guest knows."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from mallee.aws.listener import listener
from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.nc.metadata.door import SET_HOPS, MetadataDoor

ADDRESS: Final = "169.254.169.254"
HEAD_SECONDS: Final = 10.0
CONNECTIONS: Final = 64  # of one guest at a time: no guest takes the files that all others need


@dataclass(frozen=True, slots=True)
class _Open:
    door: MetadataDoor
    server: asyncio.Server
    state: ServerState


class MetadataServer:
    """Opens and closes the ports of one host's guests.

    Args:
        address: of the host's bridge, where the guests' requests are led to.
        head_seconds: how long a guest may take to say what it wants.
    """

    def __init__(
        self, clock: Clock, entropy: Entropy, address: str = ADDRESS, *, head_seconds: float = HEAD_SECONDS
    ) -> None:
        self._clock = clock
        self._address = address
        self._secret = entropy.token(32)
        self._line = _line(entropy, head_seconds)
        self._open: dict[GuestKey, _Open] = {}

    async def open(self, key: GuestKey, guest: Guest) -> int:
        """Answer for a guest; returns its port. One that is answered already keeps its port."""
        if key in self._open:
            return _port_of(self._open[key].server)
        door = MetadataDoor(guest, self._secret, self._clock)
        config = uvicorn.Config(
            door,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            http=self._line,
            ws="none",
        )
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
            self._address,
            0,
            family=socket.AF_INET,
        )
        self._open[key] = _Open(door, server, state)
        return _port_of(server)

    def describe(self, key: GuestKey, guest: Guest) -> None:
        """Answer a guest by another description from its next request on."""
        if key in self._open:
            self._open[key].door.describe(guest)

    async def close(self, key: GuestKey) -> None:
        """Answer for this guest no more."""
        found = self._open.pop(key, None)
        if found is not None:
            found.server.close()
            for connection in list(found.state.connections):
                connection.shutdown()
            await found.server.wait_closed()

    async def close_all(self) -> None:
        for key in list(self._open):
            await self.close(key)


def _line(entropy: Entropy, head_seconds: float) -> type[asyncio.Protocol]:
    """The protocol of a guest's connections: bounded in number, and their answers in how far they go."""
    bounded: Any = listener(lambda _: b"400 - Bad Request", entropy, head_seconds=head_seconds)

    class Line(bounded):  # type: ignore[misc] # made by a function, which the class cannot know
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                transport.abort()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self.scope.setdefault("extensions", {})[SET_HOPS] = self._set_hops

        def _set_hops(self, hops: int) -> None:
            # For the rest of the connection: what is lost on its way is sent again, and must end there too.
            line: socket.socket = self.transport.get_extra_info("socket")
            line.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)

    return Line


def _port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
