"""A cloud is ready when its nodes have come, however long that takes as long as they come."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from mallee.cli import health
from mallee.cli.plan import Member
from mallee.kernel.clock import ManualClock
from mallee.kernel.rpc import AccessTable, Identity, MemoryTransport
from mallee.nc.config import NcConfig
from mallee.rpc.cluster_pb2 import ListNodesRequest, ListNodesResponse, Node
from mallee.rpc.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server

ACCESS = AccessTable({"/mallee.cluster.v1.ClusterService/ListNodes": {"clc"}})
PATIENCE = 60.0
NAMES = [f"n.{number}" for number in range(1, 5)]


class Zone(ClusterServiceServicer):
    """A node every 50 seconds, up to so many; the others are known, but do not attend."""

    def __init__(self, clock: ManualClock, most: int) -> None:
        self.clock = clock
        self.most = most
        self.asked = 0

    async def ListNodes(self, request: ListNodesRequest, context: object) -> ListNodesResponse:  # noqa: N802
        self.asked += 1
        came = min(self.most, int(self.clock.monotonic() // 50))
        states = ["ready" if number % 2 else "cordoned" for number in range(came)]
        states += ["silent"] * (len(NAMES) - came)
        nodes = [
            Node(host_id=f"h-{number}", name=name, state=state)
            for number, (name, state) in enumerate(zip(NAMES, states, strict=True))
        ]
        after = int(request.after_host_id.removeprefix("h-") or -1) + 1
        return ListNodesResponse(nodes=nodes[after : after + 3])


async def wait(most: int) -> Zone:
    clock = ManualClock()
    zone, transport = Zone(clock, most), MemoryTransport(clock)
    register = partial(add_ClusterServiceServicer_to_server, zone)
    served = await transport.serve(Identity("c", "cc", "one"), "cc:1", register, access=ACCESS)
    zones = [("one", served.address, NAMES)]
    waiting = asyncio.ensure_future(health.nodes_came(transport, "c", zones, clock, patience=PATIENCE))
    try:
        while not waiting.done():
            await clock.advance(5)
        await waiting
    finally:
        await served.close()
    return zone


async def test_as_long_as_nodes_come_it_waits() -> None:
    zone = await wait(len(NAMES))
    assert zone.clock.monotonic() >= 50 * len(NAMES)


async def test_who_has_not_come_is_named() -> None:
    with pytest.raises(TimeoutError, match=r"2 of 4 nodes of one have not come: n\.3, n\.4\."):
        await wait(len(NAMES) - 2)


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_plan_calls_nodes_as_they_call_themselves(nodes: int) -> None:
    member = Member("nc-z-node", "nc", "z", nodes, 1, "127.0.0.1")
    assert member.node_names == NcConfig(fake_nodes=nodes).node_names(member.own_name)
