"""Asking services over gRPC whether they are well, and zones whether their nodes have come."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import structlog

from mallee.cli.state import StateFolder
from mallee.kernel.clock import Clock, SystemClock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity, Transport

FIRST_POLL, LONGEST_POLL = 0.03, 0.5  # seconds between two looks at a zone
NODES_A_PAGE = 1000
NAMED = 5  # of those that have not come

_log = structlog.get_logger()


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
        address = f"{shape.listen}:{shape.ports[label]}"
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
    transport: Transport,
    cloud: str,
    zones: Iterable[tuple[str, str, Collection[str]]],
    clock: Clock,
    *,
    patience: float,
) -> None:
    """Return when every zone has its nodes: they attend, and what they have is known.

    As long as nodes come it waits for more of them, however many there are.

    Args:
        transport: reaches the zones.
        cloud: the trust domain.
        zones: name, address of the cluster controller, and the names of the nodes.
        clock: measures and waits.
        patience: seconds without any node that came.

    Raises:
        TimeoutError: some did not come.
    """
    from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub

    me = Identity(cloud, "clc", "clc")
    for zone, address, names in zones:
        channel = transport.connect(me, address, expect="cc")
        stub = ClusterServiceStub(channel)
        missing, until, wait = set(names), clock.monotonic() + patience, FIRST_POLL
        try:
            while missing:
                came = missing & await _attending(stub, until - clock.monotonic())
                missing -= came
                if came:
                    until, wait = clock.monotonic() + patience, FIRST_POLL
                    _log.info("nodes come", zone=zone, missing=len(missing))
                elif clock.monotonic() >= until:
                    raise TimeoutError(_who(zone, missing, len(names), patience))
                if missing:
                    await clock.sleep(wait)
                    wait = min(2 * wait, LONGEST_POLL)
        finally:
            await channel.close()


async def _attending(stub: Any, seconds: float) -> set[str]:
    """The names of the nodes that attend; none while the zone cannot be asked."""
    from mallee.rpc.cluster_pb2 import ListNodesRequest

    names, after = set[str](), ""
    try:
        while page := (
            await stub.ListNodes(
                ListNodesRequest(max_results=NODES_A_PAGE, after_host_id=after), timeout=max(1.0, seconds)
            )
        ).nodes:
            names |= {node.name for node in page if node.state in {"ready", "cordoned"}}
            after = page[-1].host_id
    except Fault as fault:
        if fault.kind is not Kind.UNAVAILABLE:
            raise
    return names


def _who(zone: str, missing: Collection[str], wanted: int, patience: float) -> str:
    shown = sorted(missing)[:NAMED]
    more = f" and {len(missing) - len(shown)} more" if len(missing) > len(shown) else ""
    return (
        f"{len(missing)} of {wanted} nodes of {zone} have not come: {', '.join(shown)}{more}. "
        f"Nobody came for {patience:g} s. Look in their logs."
    )
