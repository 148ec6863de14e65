"""Root disks on their way into the object store: which copy is meant, and what is told of it."""

from __future__ import annotations

from mallee.cc.ledger import Ledger
from mallee.cc.peers import Captured
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2, common_pb2


def where(ledger: Ledger, instance_id: str, generation: int) -> tuple[int, int]:
    """The node that has the disk, and the generation of the copy; of a stopped instance the last one.

    Args:
        ledger: of the zone.
        instance_id: whose disk.
        generation: that the asker knows; 0 for whichever there is.

    Raises:
        Fault: NOT_FOUND `no-such-guest`; CONFLICT `not-started`; STALE `stale-generation`.
    """
    row = ledger.placements.rows.get(instance_id)
    if row is None or row.ended or max(row.host, row.left_host) < 0:
        raise Fault(
            Kind.NOT_FOUND,
            f"{instance_id} is on no node of this zone.",
            why="It has not run yet, or it has ended.",
            fix="Start it first.",
            code="no-such-guest",
        )
    if row.claimed:
        raise Fault(
            Kind.CONFLICT,
            f"{instance_id} is being started.",
            fix="Wait until it runs.",
            code="not-started",
        )
    number, here = (row.host, row.generation) if row.host >= 0 else (row.left_host, row.left_generation)
    if generation and generation != here:
        raise Fault(
            Kind.STALE,
            f"Generation {generation} of {instance_id} is not the one that is there.",
            why=f"Generation {here} is.",
            fix="Ask for it as it is now.",
            code="stale-generation",
        )
    return number, here


def message(one: Captured) -> cluster_pb2.CaptureRootResponse:
    file = (
        None
        if one.file is None
        else common_pb2.ImageFile(
            bucket=one.file.bucket,
            key=one.file.key,
            version_id=one.file.version_id,
            size=one.file.size,
            etag=one.file.etag,
            format=one.file.format,
            virtual_bytes=one.file.virtual_bytes,
        )
    )
    return cluster_pb2.CaptureRootResponse(bytes_done=one.done, bytes_total=one.total, file=file)
