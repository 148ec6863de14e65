"""The object store as a whole: start it, stop it."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import uvicorn

from mallee.aws.listener import listener
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity, Served, Transport
from mallee.rpc.common_pb2_grpc import add_IntrospectionServiceServicer_to_server
from mallee.walrus.config import WalrusConfig
from mallee.walrus.door import S3Door, unreadable
from mallee.walrus.service import ACCESS, Introspection


class Walrus:
    """One object store."""

    def __init__(
        self, config: WalrusConfig, me: Identity, *, clock: Clock, entropy: Entropy, transport: Transport
    ) -> None:
        self._config = config
        self._me = me
        self._clock = clock
        self._entropy = entropy
        self._transport = transport
        self._served: Served | None = None
        self._door: uvicorn.Server | None = None
        self._answering: asyncio.Task[None] | None = None
        self.s3_port = config.port

    @property
    def address(self) -> str:
        """Where its gRPC server answers, once started."""
        return self._served.address if self._served else self._config.address

    async def start(self) -> None:
        """Answer at both ports. Raises Fault CONFLICT `address-in-use`."""
        listening = self._listen()
        register = partial(add_IntrospectionServiceServicer_to_server, Introspection(self._me, self._clock))
        self._served = await self._transport.serve(self._me, self._config.address, register, access=ACCESS)
        self._door = uvicorn.Server(
            uvicorn.Config(
                S3Door(self._entropy),
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                http=listener(unreadable, self._entropy),
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        # `_serve` and not `serve`: signals belong to whoever runs the whole process.
        self._answering = asyncio.create_task(self._door._serve(sockets=[listening]))  # noqa: SLF001

    async def stop(self) -> None:
        """Answer no more. May be called twice."""
        if self._door is not None and self._answering is not None:
            self._door.should_exit = True
            await self._answering
            self._door = None
        if self._served is not None:
            await self._served.close(grace=1.0)
            self._served = None

    def _listen(self) -> socket.socket:
        """Bound here and not by uvicorn, which would end the process when the port is taken."""
        listening = socket.socket(socket.AF_INET6 if ":" in self._config.host else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._config.host, self._config.port))
            listening.listen(2048)
        except OSError as error:
            listening.close()
            raise Fault(
                Kind.CONFLICT,
                f"The S3 endpoint cannot listen at {self._config.host}:{self._config.port}.",
                why=f"{error.strerror}.",
                fix="Stop what listens there, or choose another port (0 picks a free one).",
                code="address-in-use",
            ) from error
        self.s3_port = int(listening.getsockname()[1])
        return listening
