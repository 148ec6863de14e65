"""Asking services over gRPC whether they are well, and zones whether their nodes have come."""

from __future__ import annotations

from collections.abc import Iterable
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
    from mallee.rpc.cluster_pb2 import WatchRequest
    from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub

    me = Identity(cloud, "clc", "clc")
    until = clock.monotonic() + seconds
    for zone, address, wanted in zones:
        channel = transport.connect(me, address, expect="cc")
        stub: Any = ClusterServiceStub(channel)
        came = 0
        try:
            while came < wanted:
                try:
                    watch = stub.Watch(WatchRequest())
                    async for message in watch:
                        if message.HasField("zone"):
                            came = message.zone.nodes_ready
                            break
                except Fault as fault:
                    if fault.kind is not Kind.UNAVAILABLE:
                        raise
                if clock.monotonic() > until:
                    raise TimeoutError(f"{wanted - came} of {wanted} nodes of {zone} have not come.")
                await clock.sleep(POLL)
        finally:
            await channel.close()
