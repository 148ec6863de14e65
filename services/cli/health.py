"""Asking services over gRPC whether they are well, and zones whether their nodes have come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from mallee.cli.plan import HOST
from mallee.cli.state import StateFolder
from mallee.kernel.clock import Clock, SystemClock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity, Transport

POLL = 0.03  # seconds between two looks at a zone


def transport_of(keys: Path, cloud: str, clock: Clock, *, found: bool = False) -> Transport:
    """Mutual TLS by the keys of this machine.

    Where the authority is, any service of the cloud can be certified; elsewhere there is what a node
    got when it joined.

    Args:
        keys: the folder.
        cloud: the trust domain.
        clock: when certificates end.
        found: make the authority if there is none: a cloud's first start.
    """
    from mallee.kernel.pki import Authority, IssuedKeys, StoredKeys
    from mallee.kernel.rpc.grpc_transport import GrpcTransport

    if found or (keys / "authority.pem").exists():
        return GrpcTransport(IssuedKeys(Authority.open(keys, cloud, clock).issue, clock))
    return GrpcTransport(StoredKeys(keys, clock))


async def ask(folder: StateFolder, label: str, address: str, cloud: str) -> None:
    """Return if the service says that it serves.

    Raises:
        Fault: NOT_FOUND for a service that this cloud does not have; UNAVAILABLE when it is not well.
    """
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    role, _, name = label.partition("-")
    shape = folder.shape()
    if not address:
        if shape is None or label not in shape.ports:
            raise Fault(
                Kind.NOT_FOUND,
                f"There is no service {label} in {folder.root}.",
                fix="Name one that `mallee status` shows, or give its --address.",
                code="unknown-service",
            )
        address = f"{HOST}:{shape.ports[label]}"
    me = Identity(cloud, role, name or role)
    channel = transport_of(folder.keys, cloud, SystemClock()).connect(me, address, expect=role)
    try:
        stub: Any = HealthStub(channel)
        answer = await stub.Check(HealthCheckRequest(), timeout=3)
    finally:
        await channel.close()
    if answer.status != HealthCheckResponse.SERVING:
        raise Fault(Kind.UNAVAILABLE, f"{label} at {address} is not serving.", fix="Read its log.")


async def nodes_came(
    transport: Transport, cloud: str, zones: Iterable[tuple[str, str, int]], clock: Clock, *, seconds: float
) -> None:
    """Return when every zone has its nodes.

    `zones`: name, address of the cluster controller, and how many nodes to wait for.

    Raises:
        TimeoutError: some did not come.
    """
    from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub

    me = Identity(cloud, "clc", "clc")
    until = clock.monotonic() + seconds
    for zone, address, wanted in zones:
        channel = transport.connect(me, address, expect="cc")
        came = 0
        try:
            async with asyncio.timeout(max(0.0, until - clock.monotonic())):
                while came < wanted:
                    async with aclosing(_ready_nodes(ClusterServiceStub(channel))) as counts:
                        async for came in counts:
                            if came >= wanted:
                                break
                    await clock.sleep(POLL)
        except TimeoutError as late:
            raise TimeoutError(f"{wanted - came} of {wanted} nodes of {zone} have not come.") from late
        finally:
            await channel.close()


async def _ready_nodes(stub: Any) -> AsyncGenerator[int, None]:
    """How many nodes are ready, each time that changes; ends when the zone cannot be asked just now.

    One watch is kept, because each begins with all that the zone holds.
    """
    from mallee.rpc.cluster_pb2 import WatchRequest

    try:
        async for message in stub.Watch(WatchRequest()):
            if message.HasField("zone"):
                yield message.zone.nodes_ready
    except Fault as fault:
        if fault.kind is not Kind.UNAVAILABLE:
            raise
