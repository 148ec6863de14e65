"""A port for each guest, at the address that every guest knows."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import uvicorn
from uvicorn.server import ServerState

from mallee.aws.listener import listener
from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.nc.metadata.door import MetadataDoor

ADDRESS: Final = "169.254.169.254"


class MetadataServer:
    """Opens and closes the ports of one host's guests.

    Args:
        address: of the host's bridge, where the guests' requests are led to.
    """

    def __init__(self, clock: Clock, entropy: Entropy, address: str = ADDRESS) -> None:
        self._clock = clock
        self._entropy = entropy
        self._address = address
        self._secret = entropy.token(32)
        self._servers: dict[GuestKey, tuple[asyncio.Server, ServerState]] = {}

    async def open(self, key: GuestKey, guest: Guest) -> int:
        """Answer for a guest; returns its port. One that is answered already keeps its port."""
        if key in self._servers:
            return _port_of(self._servers[key][0])
        config = uvicorn.Config(
            MetadataDoor(guest, self._secret, self._clock),
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            http=listener(lambda _: b"400 - Bad Request", self._entropy),
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
        self._servers[key] = (server, state)
        return _port_of(server)

    async def close(self, key: GuestKey) -> None:
        """Answer for this guest no more."""
        found = self._servers.pop(key, None)
        if found is not None:
            server, state = found
            server.close()
            for connection in list(state.connections):
                connection.shutdown()
            await server.wait_closed()

    async def close_all(self) -> None:
        for key in list(self._servers):
            await self.close(key)


def _port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
