"""A migration as DescribeInstanceMigrations shows it, and the pages of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mallee.clc.api.ec2.hosts import all_nodes
from mallee.clc.api.ec2.listing import Listing, Looks, Shown, Sought, member, page_of
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.errors import InvalidMigrationIDNotFound
from mallee.clc.faults import as_aws_error
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2

PAGE_BYTES = 4096  # of a fake guest and of x86: what DirtyRate counts pages by

LOOKS: Looks = {
    "migration-id": member("MigrationId"),
    "instance-id": member("InstanceId"),
    "state": member("State"),
    "mode": member("Mode"),
    "source-host": member("SourceHost"),
    "destination-host": member("DestinationHost"),
}

Names = Mapping[str, str]


async def host_names(call: Call) -> Names:
    """The nodes' own names by host id: people know nodes by name."""
    return {node.host_id: node.name for node in await all_nodes(call)}


def migration(moved: pb.Migration, names: Names) -> dict[str, Any]:
    """One migration; members are left out until there is something to say."""
    shown: dict[str, Any] = {
        "MigrationId": moved.migration_id,
        "InstanceId": moved.instance_id,
        "Mode": moved.mode,
        "State": moved.state,
        "Stage": moved.stage,
        "StageName": moved.stage_name,
        "SourceHost": names.get(moved.source_host_id, moved.source_host_id),
        "DestinationHost": names.get(moved.destination_host_id, moved.destination_host_id),
        "Rounds": [_round(each) for each in moved.rounds],
        "BytesTotal": moved.memory_bytes,
        "BytesSent": moved.bytes_sent,
        "BytesRemaining": moved.bytes_remaining,
        "DowntimeMs": moved.downtime_ms,
        "ExpectedDowntimeMs": moved.expected_downtime_ms,
        "Throttle": moved.throttle_percent,
    }
    if moved.started_ms:
        shown["StartTime"] = moment(moved.started_ms)
    if moved.ended_ms:
        shown["EndTime"] = moment(moved.ended_ms)
    if moved.cause.code:
        shown["StateReason"] = {"Code": moved.cause.code, "Message": moved.cause.message}
    return shown


def _round(each: pb.Round) -> dict[str, Any]:
    seconds = each.duration_ms / 1000
    return {
        "Number": each.number,
        "BytesSent": each.bytes_sent,
        "PagesSent": each.pages_sent,
        "PagesDirtied": each.pages_dirtied,
        "DurationMs": each.duration_ms,
        "DirtyRate": each.pages_dirtied * PAGE_BYTES / seconds if seconds else 0.0,
        "Bandwidth": each.bytes_sent / seconds if seconds else 0.0,
    }


def refusal(instance_id: str, each: pb.Refusal, names: Names) -> dict[str, Any]:
    """Why a node, or any, cannot be the destination."""
    shown = {"InstanceId": instance_id, "Code": each.cause.code, "Message": each.cause.message}
    if each.host_id:
        shown["Host"] = names.get(each.host_id, each.host_id)
    return shown


def refused(fault: Fault) -> pb.MigrateResponse:
    """A fault that says that the instance itself cannot migrate, as a refusal."""
    cause = common_pb2.Cause(code=fault.code, message=str(fault))
    return pb.MigrateResponse(refusals=[pb.Refusal(cause=cause)])


async def found(call: Call, ids: Sequence[str]) -> list[pb.Migration]:
    """Those of these migrations that a zone which can be reached knows, by id."""
    return (await _of_all_zones(call, pb.ListMigrationsRequest(migration_ids=ids)))[0]


async def listed(call: Call, req: Mapping[str, Any], ids: Sequence[str], of: Sequence[str]) -> Listing:
    """One page over all zones, by id.

    Raises:
        InvalidMigrationIDNotFound: an id that no zone knows.
    """
    page, sought = page_of(call, req), Sought(req.get("Filters"), LOOKS)
    if not call.is_cloud_admin:
        if ids:
            raise InvalidMigrationIDNotFound(*ids)
        return Listing([], None)
    names, after = await host_names(call), page.after
    named = await _named(call, ids, of) if ids else None
    shown: list[Shown] = []
    size = min(page.limit + 1, 500)
    while True:
        if named is None:
            request = pb.ListMigrationsRequest(instance_ids=of, max_results=size, after_migration_id=after)
            moved = (await _of_all_zones(call, request))[0]
        else:
            moved = [each for each in named if each.migration_id > after]
        for each in moved[:size]:
            view = migration(each, names)
            if sought.passes(view):
                if len(shown) == page.limit:
                    return Listing(shown, shown[-1]["MigrationId"])
                shown.append(view)
        if len(moved) < size:
            return Listing(shown, None)
        after = moved[size - 1].migration_id


async def _named(call: Call, ids: Sequence[str], of: Sequence[str]) -> list[pb.Migration]:
    """A list may lack a zone that is away; what was named must not be called unknown by that."""
    moved, away = await _of_all_zones(call, pb.ListMigrationsRequest(migration_ids=ids))
    known = {each.migration_id for each in moved}
    missing = [each for each in ids if each not in known]
    if missing and away is not None:
        raise as_aws_error(away) from away
    if missing:
        raise InvalidMigrationIDNotFound(*missing)
    return [each for each in moved if not of or each.instance_id in of]


async def _of_all_zones(
    call: Call, request: pb.ListMigrationsRequest
) -> tuple[list[pb.Migration], Fault | None]:
    """By id, and why a zone could not be asked, if one could not."""
    moved: list[pb.Migration] = []
    away = None
    for cluster in call.cloud.clusters:
        try:
            moved += await cluster.migrations(request)
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise as_aws_error(fault) from fault
            away = fault
    return sorted(moved, key=lambda each: each.migration_id), away
