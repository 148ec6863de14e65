"""The cloud controller's gRPC face: who it is."""

from __future__ import annotations

from mallee import __version__
from mallee.kernel.clock import Clock
from mallee.kernel.rpc import AccessTable, Identity
from mallee.rpc.common_pb2 import DescribeRequest, DescribeResponse
from mallee.rpc.common_pb2_grpc import IntrospectionServiceServicer

ACCESS = AccessTable({"/mallee.common.v1.IntrospectionService/Describe": {"*"}})


class Introspection(IntrospectionServiceServicer):
    """Says who this is."""

    def __init__(self, me: Identity, clock: Clock) -> None:
        self._me = me
        self._clock = clock
        self._since = clock.boot()

    async def Describe(self, request: DescribeRequest, context: object) -> DescribeResponse:  # noqa: ARG002 - the contract's shape
        return DescribeResponse(
            role=self._me.role,
            name=self._me.name,
            cloud=self._me.cloud,
            version=__version__,
            uptime_seconds=self._clock.boot() - self._since,
        )
