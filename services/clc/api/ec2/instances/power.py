"""Start, stop, reboot, terminate: wishes, written in one transaction and told after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mallee.aws.errors import OperationNotPermitted, UnsupportedOperation
from mallee.clc import orders, wishes
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.call import Call
from mallee.clc.clusters import Clusters
from mallee.clc.db import instances
from mallee.clc.db.instances import InstanceRow
from mallee.clc.errors import IncorrectInstanceState
from mallee.clc.faults import as_aws_error, refusal
from mallee.clc.instance import State
from mallee.domain.guest import Power
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault
from mallee.rpc import cluster_pb2 as pb

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        RebootInstancesRequestTypeDef,
        StartInstancesRequestTypeDef,
        StopInstancesRequestTypeDef,
        TerminateInstancesRequestTypeDef,
    )

Wish = Callable[[InstanceRow], InstanceRow]


class Change(msgspec.Struct, frozen=True, array_like=True):
    """The state that an instance left and the one that it is in now, by EC2's codes."""

    instance_id: str
    was: int
    now: int


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of a request; `refusal` is said after the commit of what was done all the same."""

    changes: list[Change]
    refusal: str = ""


@ec2.action("StopInstances", accepts=("InstanceIds", "Force", "Hibernate", "SkipOsShutdown", "DryRun"))
async def stop_instances(call: Call, req: StopInstancesRequestTypeDef) -> dict[str, Any]:
    """Shut instances down; their root disks stay on their nodes, their addresses with them."""
    if req.get("Hibernate"):
        raise UnsupportedOperation("Hibernation is not supported by this cloud.")
    force = req.get("Force", False) or req.get("SkipOsShutdown", False)
    ids, now_ms = checked_ids(req["InstanceIds"]), call.now_ms

    def work(tx: Tx) -> Outcome:
        rows = instances.mine(tx, call.account, ids)
        for row in rows:
            if row.state != State.STOPPED and instances.decode(row.details).keep_from_stop:
                raise _protected(row, "stopped", "disableApiStop")
        return Outcome(wish(tx, call, rows, lambda row: wishes.stop(row, now_ms, force=force)))

    return {"StoppingInstances": _shown(await call.change(work, Outcome))}


@ec2.action("TerminateInstances", accepts=("InstanceIds", "Force", "SkipOsShutdown", "DryRun"))
async def terminate_instances(call: Call, req: TerminateInstancesRequestTypeDef) -> dict[str, Any]:
    """End instances for good. One that is protected keeps the others of its zone alive, and no more."""
    ids, now_ms = checked_ids(req["InstanceIds"]), call.now_ms

    def work(tx: Tx) -> Outcome:
        rows = instances.mine(tx, call.account, ids)
        protected = {row.zone: row for row in rows if _is_kept(row)}
        ending = [row for row in rows if row.zone not in protected]
        changes = wish(tx, call, ending, lambda row: wishes.terminate(row, now_ms))
        return Outcome(changes, next(iter(protected.values())).id if protected else "")

    outcome = await call.change(work, Outcome)
    if outcome.refusal:
        raise OperationNotPermitted(
            f"The instance '{outcome.refusal}' may not be terminated. Modify its 'disableApiTermination'"
            " instance attribute and try again."
        )
    return {"TerminatingInstances": _shown(outcome.changes)}


@ec2.action("RebootInstances", accepts=("InstanceIds", "DryRun"))
async def reboot_instances(call: Call, req: RebootInstancesRequestTypeDef) -> None:
    """Restart running guests; they stay `running` meanwhile."""
    ids = checked_ids(req["InstanceIds"])

    def work(tx: Tx) -> Outcome:
        return Outcome(wish(tx, call, instances.mine(tx, call.account, ids), wishes.reboot))

    await call.change(work, Outcome)


@ec2.action("StartInstances", accepts=("InstanceIds", "DryRun"))
async def start_instances(call: Call, req: StartInstancesRequestTypeDef) -> dict[str, Any]:
    """Run stopped instances again, all or none, on nodes that have room for them now."""
    ids, now_ms = checked_ids(req["InstanceIds"]), call.now_ms
    earlier = await call.answered(Outcome)
    if earlier is not None:
        return {"StartingInstances": _shown(earlier)}
    rows = await call.cloud.db.read(lambda tx: instances.mine(tx, call.account, ids))
    claims = await _claim(call.cloud.clusters, [row for row in rows if wishes.check_startable(row)])

    used: set[str] = set()

    def begin(row: InstanceRow) -> InstanceRow:
        claim = claims.get(row.id)
        startable = wishes.check_startable(row)
        if startable and claim is None:  # it was stopped while the claims were made
            raise IncorrectInstanceState(f"The instance '{row.id}' has just been stopped. Try again.")
        if claim is None:
            return row
        if startable:
            row = wishes.start(row, now_ms, claim.host_id, claim.generation)
        if row.generation == claim.generation:  # two starts at the same time share one claim
            used.add(row.id)
        return row

    def work(tx: Tx) -> Outcome:
        used.clear()
        return Outcome(wish(tx, call, instances.mine(tx, call.account, ids), begin))

    zones = {row.id: row.zone for row in rows}
    try:
        outcome = await call.change(work, Outcome)
    except Exception:
        await _release(call.cloud.clusters, {each: zones[each] for each in claims})
        raise
    await _release(call.cloud.clusters, {each: zones[each] for each in claims if each not in used})
    return {"StartingInstances": _shown(outcome)}


def wish(tx: Tx, call: Call, rows: Sequence[InstanceRow], change: Wish) -> list[Change]:
    """Change each row, write those that changed, and tell the clusters once it is durable."""
    after = [change(row) for row in rows]
    changed = [new for old, new in zip(rows, after, strict=True) if new is not old]
    instances.save_state(tx, changed)
    if changed:
        tx.on_commit(lambda: _tell(call.cloud.clusters, changed))
    return [Change(old.id, old.state, new.state) for old, new in zip(rows, after, strict=True)]


def _tell(clusters: Clusters, changed: Sequence[InstanceRow]) -> None:
    """An end is told whole from its row; whatever may run again needs what stands in other tables."""
    clusters.hint({row.id: row.zone for row in changed if row.power != Power.TERMINATED})
    ending: dict[str, list[pb.DesiredInstance]] = {}
    for row in changed:
        if row.power == Power.TERMINATED:
            ending.setdefault(row.zone, []).append(orders.wish(row, instances.decode(row.details)))
    for zone, told in ending.items():
        clusters.tell(zone, told)


async def _claim(clusters: Clusters, rows: Sequence[InstanceRow]) -> dict[str, pb.Placement]:
    """Room for each, or for none of them."""
    claims: dict[str, pb.Placement] = {}
    zones = {row.id: row.zone for row in rows}
    try:
        for row in rows:
            claims[row.id] = await _claim_one(clusters, row)
    except Exception:
        await _release(clusters, {each: zones[each] for each in claims})
        raise
    return claims


async def _claim_one(clusters: Clusters, row: InstanceRow) -> pb.Placement:
    details = instances.decode(row.details)
    try:
        outcome = await clusters.at(row.zone).place(orders.room_for(row, details))
    except Fault as fault:
        raise as_aws_error(fault) from fault
    if not outcome.placements:
        raise refusal(outcome.refusal, row.zone, row.instance_type, details.pinned_host)
    return outcome.placements[0]


async def _release(clusters: Clusters, zones_by_id: dict[str, str]) -> None:
    by_zone: dict[str, list[str]] = {}
    for instance_id, zone in zones_by_id.items():
        by_zone.setdefault(zone, []).append(instance_id)
    for zone, ids in by_zone.items():
        await clusters.at(zone).release(ids)


def _is_kept(row: InstanceRow) -> bool:
    ending = row.state in {State.SHUTTING_DOWN, State.TERMINATED}
    return not ending and instances.decode(row.details).keep_from_termination


def _protected(row: InstanceRow, verb: str, attribute: str) -> OperationNotPermitted:
    return OperationNotPermitted(
        f"The instance '{row.id}' may not be {verb}. Modify its '{attribute}' instance attribute and try again."
    )


def _shown(outcome: Outcome | Sequence[Change]) -> list[dict[str, Any]]:
    changes = outcome.changes if isinstance(outcome, Outcome) else outcome
    return [
        {
            "InstanceId": each.instance_id,
            "PreviousState": {"Code": each.was, "Name": State(each.was).title},
            "CurrentState": {"Code": each.now, "Name": State(each.now).title},
        }
        for each in changes
    ]
