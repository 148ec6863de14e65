"""Mallee's own: moving instances between nodes, and watching it.

Parameters are Eucalyptus's (`SourceHost`, `AllowHosts`, `DestinationHost.N`) where it had them. Only
those who run the cloud see nodes, so only they migrate; the owner sees an event in DescribeInstanceStatus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from mallee.aws.errors import InvalidParameterCombination, InvalidParameterValue, MissingParameter
from mallee.clc.api.ec2 import ec2, migration_view
from mallee.clc.api.ec2.hosts import host_ids_of, only_admin
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.api.ec2.instances.launch_request import one_of
from mallee.clc.call import Call
from mallee.clc.db import instances
from mallee.clc.db.instances import InstanceRow
from mallee.clc.errors import (
    InvalidInstanceIDNotFound,
    InvalidMigrationIDNotFound,
    MigrationNotPossible,
)
from mallee.clc.faults import as_aws_error
from mallee.clc.instance import State
from mallee.kernel.entropy import resource_id
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb

Req = Mapping[str, Any]


class Plan(NamedTuple):
    """What is asked for every instance alike. Hosts are host ids."""

    mode: str
    allowed: Sequence[str]
    excluded: Sequence[str]
    limits: pb.MigrationLimits
    plan_only: bool


class _Answer(msgspec.Struct, frozen=True):
    """What a repeated request gets: the migrations that the first one began."""

    migration_ids: list[str]


@ec2.action(
    "MigrateInstances",
    accepts=(
        *("InstanceIds", "SourceHost", "AllowHosts", "DestinationHosts", "Mode", "DowntimeBudget"),
        *("BandwidthLimit", "AutoConverge", "MaxRounds", "Plan", "ClientToken", "DryRun"),
    ),
    mutating=True,
)
async def migrate_instances(call: Call, req: Req) -> dict[str, Any]:
    """Move instances, or everything that is on a node, live where it runs and cold where it does not.

    With several instances the refusals stand beside the migrations that began; if none began, that
    is the error MigrationNotPossible with each reason.
    """
    only_admin(call, "moves instances between nodes")
    earlier = await call.answered(_Answer)
    if earlier is not None:
        return {"Migrations": await _by_ids(call, earlier.migration_ids), "Refusals": []}
    plan = await _plan(call, req)
    rows = await _subjects(call, req)
    ids = {row.id: resource_id(call.cloud.entropy, "mig") for row in rows}
    answers = await asyncio.gather(*(_migrate_one(call, row, ids[row.id], plan) for row in rows))
    names = await migration_view.host_names(call)
    migrations, refusals = [], []
    for row, answer in zip(rows, answers, strict=True):
        if answer.HasField("migration"):
            migrations.append(migration_view.migration(answer.migration, names))
        refusals += [migration_view.refusal(row.id, each, names) for each in answer.refusals]
    if plan.plan_only:
        return {"Migrations": migrations, "Refusals": refusals}
    if rows and not migrations:
        raise MigrationNotPossible(
            "; ".join(f"{each['InstanceId']}: {each['Message']} ({each['Code']})" for each in refusals)
        )
    await call.change(lambda _: _Answer([each["MigrationId"] for each in migrations]), _Answer)
    return {"Migrations": migrations, "Refusals": refusals}


async def _plan(call: Call, req: Req) -> Plan:
    hosts = await host_ids_of(call, req.get("DestinationHosts", ()))
    ids = [node.host_id for node in hosts.values()]
    allowed, excluded = (ids, []) if req.get("AllowHosts", True) else ([], ids)
    for name in ("DowntimeBudget", "BandwidthLimit", "MaxRounds"):
        if req.get(name, 1) < 1:
            raise InvalidParameterValue(
                f"Value ({req[name]}) for parameter {name} is invalid. It must be 1 or more."
            )
    limits = pb.MigrationLimits(
        downtime_budget_ms=req.get("DowntimeBudget", 0),
        bandwidth_mbps=req.get("BandwidthLimit", 0),
        max_rounds=req.get("MaxRounds", 0),
        auto_converge=req.get("AutoConverge", False),
    )
    mode = req.get("Mode", "")
    if mode:
        one_of("mode", mode, "live", "cold", "storage")
    return Plan(mode, allowed, excluded, limits, req.get("Plan", False))


async def _subjects(call: Call, req: Req) -> list[InstanceRow]:
    """The instances named, or all on the node to be left; of any account, for this is the administrator."""
    asked, source = checked_ids(req.get("InstanceIds", ())), req.get("SourceHost")
    if not asked and not source:
        raise MissingParameter("InstanceId or SourceHost")
    host_id = ""
    if source:
        host_id = (await host_ids_of(call, [source]))[source].host_id
        if not asked:
            asked = await call.cloud.db.read(lambda tx: instances.on_host(tx, host_id))
    rows = {row.id: row for row in await call.cloud.db.read(lambda tx: instances.find(tx, asked))}
    missing = [each for each in asked if each not in rows]
    if missing:
        raise InvalidInstanceIDNotFound(*missing)
    elsewhere = [row.id for row in rows.values() if host_id and row.host_id != host_id]
    if elsewhere:
        raise InvalidParameterCombination(f"Not on the host '{source}': {', '.join(elsewhere)}.")
    return [rows[each] for each in asked]


async def _migrate_one(call: Call, row: InstanceRow, migration_id: str, plan: Plan) -> pb.MigrateResponse:
    mode = plan.mode or ("live" if row.state == State.RUNNING else "cold")
    request = pb.MigrateRequest(
        migration_id=migration_id,
        instance_id=row.id,
        mode=mode,
        destination_host_ids=plan.allowed,
        excluded_host_ids=plan.excluded,
        limits=plan.limits,
        plan_only=plan.plan_only,
    )
    try:
        return await call.cloud.clusters.at(row.zone).migrate(request)
    except Fault as fault:
        if fault.kind in {Kind.CONFLICT, Kind.INVALID, Kind.NOT_FOUND, Kind.NO_CAPACITY}:
            return migration_view.refused(fault)
        raise as_aws_error(fault) from fault


async def move(call: Call, row: InstanceRow, host_id: str) -> None:
    """Migrate one running instance live to this node, for ModifyInstancePlacement.

    Raises:
        MigrationNotPossible: it cannot go there; the message says why.
    """
    plan = Plan("live", [host_id], [], pb.MigrationLimits(), plan_only=False)
    answer = await _migrate_one(call, row, resource_id(call.cloud.entropy, "mig"), plan)
    if not answer.HasField("migration"):
        raise MigrationNotPossible(
            "; ".join(f"{each.cause.message} ({each.cause.code})" for each in answer.refusals)
        )


@ec2.action(
    "DescribeInstanceMigrations",
    accepts=("MigrationIds", "InstanceIds", "Filters", "MaxResults", "NextToken", "DryRun"),
    filters=migration_view.LOOKS,
)
async def describe_instance_migrations(call: Call, req: Req) -> dict[str, Any]:
    """Migrations of all zones by id, with their rounds; an empty list for ordinary users."""
    ids, of = list(req.get("MigrationIds", ())), checked_ids(req.get("InstanceIds", ()))
    listing = await migration_view.listed(call, req, ids, of)
    return listing.answer(call, "Migrations")


async def _by_ids(call: Call, ids: Sequence[str]) -> list[dict[str, Any]]:
    names = await migration_view.host_names(call)
    return [migration_view.migration(each, names) for each in await migration_view.found(call, ids)]


@ec2.action("CancelInstanceMigration", accepts=("MigrationId", "Action", "DryRun"), mutating=True)
async def cancel_instance_migration(call: Call, req: Req) -> dict[str, Any]:
    """Go back to the source while that is possible, or end the pre-copy now."""
    only_admin(call, "moves instances between nodes")
    action = one_of("action", req.get("Action", "cancel"), "cancel", "force-complete")
    request = pb.SteerMigrationRequest(
        migration_id=req["MigrationId"],
        cancel=action == "cancel",
        force_complete=action == "force-complete",
    )
    away: Fault | None = None
    for cluster in call.cloud.clusters:
        try:
            if await cluster.migrations(pb.ListMigrationsRequest(migration_ids=[req["MigrationId"]])):
                steered = await cluster.steer(request)
                return {"Migration": migration_view.migration(steered, await migration_view.host_names(call))}
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise as_aws_error(fault) from fault
            away = fault
    if away is not None:
        raise as_aws_error(away) from away
    raise InvalidMigrationIDNotFound(req["MigrationId"])
