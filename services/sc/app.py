"""The storage controller as a whole: start it, stop it."""

from __future__ import annotations

from functools import partial

from mallee.kernel.clock import Clock
from mallee.kernel.rpc import Identity, Served, Transport
from mallee.rpc.common_pb2_grpc import add_IntrospectionServiceServicer_to_server
from mallee.sc.config import ScConfig
from mallee.sc.service import ACCESS, Introspection


class StorageController:
    """One storage controller."""

    def __init__(self, config: ScConfig, me: Identity, *, clock: Clock, transport: Transport) -> None:
        self._config = config
        self._me = me
        self._clock = clock
        self._transport = transport
        self._served: Served | None = None

    @property
    def address(self) -> str:
        """Where it answers, once started."""
        return self._served.address if self._served else self._config.address

    async def start(self) -> None:
        """Answer. Raises Fault CONFLICT `address-in-use`."""
        register = partial(add_IntrospectionServiceServicer_to_server, Introspection(self._me, self._clock))
        self._served = await self._transport.serve(self._me, self._config.address, register, access=ACCESS)

    async def stop(self) -> None:
        """Answer no more. May be called twice."""
        if self._served is not None:
            await self._served.close(grace=1.0)
            self._served = None
