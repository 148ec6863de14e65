"""DescribeInstanceStatus: whether host and guest can be reached, and what is going to happen to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterCombination
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.api.ec2.instances.view import state_of
from mallee.clc.api.ec2.listing import Looks, Sought, listed, member, nothing, page_of, slice_of
from mallee.clc.api.ec2.zones import zone_ids
from mallee.clc.call import Call
from mallee.clc.db import instance_search, instances
from mallee.clc.db.instance_search import Search
from mallee.clc.db.instances import InstanceRow
from mallee.clc.instance import State
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeInstanceStatusRequestTypeDef

MIGRATION_EVENT = "The instance is being moved to another host. It goes on running."


LOOKS: Looks = {
    "availability-zone": member("AvailabilityZone"),
    "availability-zone-id": member("AvailabilityZoneId"),
    "event.code": member("Events", "Code"),
    "event.description": member("Events", "Description"),
    "event.instance-event-id": member("Events", "InstanceEventId"),
    "event.not-after": nothing,
    "event.not-before": nothing,
    "event.not-before-deadline": nothing,
    "instance-state-code": member("InstanceState", "Code"),
    "instance-state-name": member("InstanceState", "Name"),
    "instance-status.reachability": member("InstanceStatus", "Details", "Status"),
    "instance-status.status": member("InstanceStatus", "Status"),
    "operator.managed": member("Operator", "Managed"),
    "operator.principal": nothing,
    "system-status.reachability": member("SystemStatus", "Details", "Status"),
    "system-status.status": member("SystemStatus", "Status"),
    "attached-ebs-status.status": nothing,
    "application-status.status": nothing,
}


@ec2.action(
    "DescribeInstanceStatus",
    accepts=(
        *("InstanceIds", "Filters", "IncludeAllInstances", "IncludeManagedResources"),
        *("MaxResults", "NextToken", "DryRun"),
    ),
    filters=LOOKS,
)
async def describe_instance_status(call: Call, req: DescribeInstanceStatusRequestTypeDef) -> dict[str, Any]:
    """The status checks and events of running instances, or of all."""
    asked = checked_ids(req.get("InstanceIds", ()))
    if asked and ("MaxResults" in req or "NextToken" in req):
        raise InvalidParameterCombination(
            "The parameter instancesSet cannot be used with the parameter maxResults"
        )
    sought, page, zones = Sought(req.get("Filters"), LOOKS), page_of(call, req), zone_ids(call)
    silent = frozenset(cluster.zone for cluster in call.cloud.clusters if cluster.state is None)
    search = Search() if req.get("IncludeAllInstances") else Search({"state": [int(State.RUNNING)]})

    def fetch(tx: Tx, after: str, size: int) -> Sequence[InstanceRow]:
        heads = instance_search.page(tx, call.account, search, after, size)
        return sorted(instances.find(tx, [head.id for head in heads]))

    def show(_: Tx, rows: Sequence[InstanceRow]) -> list[dict[str, Any]]:
        return [_shown(row, zones, silent) for row in rows]

    def look(tx: Tx) -> dict[str, Any]:
        found: Callable[[Tx, str, int], Sequence[InstanceRow]] = fetch
        if asked:
            rows = sorted(instances.mine(tx, call.account, asked))
            wanted = search.columns.get("state", ())
            found = slice_of([row for row in rows if not wanted or row.state in wanted], _id)
        listing = listed(tx, page, fetch=found, show=show, key=_id, sought=sought)
        return listing.answer(call, "InstanceStatuses")

    return await call.cloud.db.read(look)


def _id(row: InstanceRow) -> str:
    return row.id


def _shown(row: InstanceRow, zones: Mapping[str, str], silent: Collection[str]) -> dict[str, Any]:
    check = _check(row, known=row.zone not in silent)
    return {
        "AvailabilityZone": row.zone,
        "AvailabilityZoneId": zones.get(row.zone, ""),
        "Events": _events(row),
        "InstanceId": row.id,
        "InstanceState": state_of(row),
        "InstanceStatus": check,
        "SystemStatus": check,
        "Operator": {"Managed": False},
    }


def _check(row: InstanceRow, *, known: bool) -> dict[str, Any]:
    """Host and guest are lost together here: what is known is whether the node holds its lease.

    When the zone does not answer nobody knows: its nodes may long have paused their guests.
    """
    if row.state != State.RUNNING:
        return {"Status": "not-applicable"}
    if not known:
        status = detail = "insufficient-data"
    else:
        status, detail = ("ok", "passed") if row.reachable else ("impaired", "failed")
    return {"Status": status, "Details": [{"Name": "reachability", "Status": detail}]}


def _events(row: InstanceRow) -> list[dict[str, Any]]:
    if not row.migration_id:
        return []
    event_id = f"instance-event-{row.migration_id.rpartition('-')[2]}"
    return [{"InstanceEventId": event_id, "Code": "system-maintenance", "Description": MIGRATION_EVENT}]
