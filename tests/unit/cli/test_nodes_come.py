"""A cloud is ready when its nodes have come: one watch tells, however long it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from mallee.cli import health
from mallee.kernel.clock import SystemClock
from mallee.kernel.rpc import AccessTable, Identity, MemoryTransport
from mallee.rpc.cluster_pb2 import WatchRequest, WatchResponse, ZoneFact
from mallee.rpc.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server

ACCESS = AccessTable({"/mallee.cluster.v1.ClusterService/Watch": {"clc"}})


class Zone(ClusterServiceServicer):
    """Tells how many nodes are ready, one by one, up to so many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.watches = 0

    async def Watch(self, request: WatchRequest, context: object) -> AsyncIterator[WatchResponse]:  # noqa: N802
        self.watches += 1
        for ready in range(self.most + 1):
            yield WatchResponse(zone=ZoneFact(zone="one", nodes=3, nodes_ready=ready))
        if self.most < 3:
            await SystemClock().sleep(3600)


async def wait_for_three(most: int, seconds: float) -> Zone:
    clock, zone = SystemClock(), Zone(most)
    transport = MemoryTransport(clock)
    register = partial(add_ClusterServiceServicer_to_server, zone)
    served = await transport.serve(Identity("c", "cc", "one"), "cc:1", register, access=ACCESS)
    try:
        await health.nodes_came(transport, "c", [("one", served.address, 3)], clock, seconds=seconds)
    finally:
        await served.close()
    return zone


async def test_one_watch_is_kept_until_all_have_come() -> None:
    assert (await wait_for_three(3, 30)).watches == 1


async def test_who_has_not_come_is_counted() -> None:
    with pytest.raises(TimeoutError, match="1 of 3 nodes of one have not come"):
        await wait_for_three(2, 0.2)
