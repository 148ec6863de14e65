"""The nodes as EC2's dedicated hosts: seen by those who run the cloud, and by nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterCombination, UnauthorizedOperation
from mallee.aws.pages import Page
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances.launch_request import one_of
from mallee.clc.api.ec2.listing import Listing, Looks, Shown, Sought, member, nothing, page_of
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import instances
from mallee.clc.db.instances import InstanceRow
from mallee.clc.errors import InvalidHostIDNotFound
from mallee.clc.faults import as_aws_error
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeHostsRequestTypeDef, ModifyHostsRequestTypeDef

# A node that lost its lease may come back; one that was fenced will not without help.
_STATES = {
    "ready": "available",
    "cordoned": "available",
    "silent": "available",
    "lost": "under-assessment",
}


LOOKS: Looks = {
    "auto-placement": member("AutoPlacement"),
    "availability-zone": member("AvailabilityZone"),
    "client-token": nothing,
    "host-reservation-id": nothing,
    "instance-type": nothing,
    "state": member("State"),
    "tag-key": member("Tags", "Key"),
}


def only_admin(call: Call, what: str) -> None:
    """Raises UnauthorizedOperation for everybody but the account that the cloud was made with."""
    if not call.is_cloud_admin:
        raise UnauthorizedOperation(
            f"You are not authorized to perform this operation. Only the cloud's administrator {what}."
        )


async def all_nodes(call: Call) -> list[pb.Node]:
    """The nodes of every zone that can be asked, without their instances."""
    return (await _asked_of_all(call))[0]


async def _asked_of_all(call: Call) -> tuple[list[pb.Node], Fault | None]:
    """All nodes, and why a zone could not be asked, if one could not."""
    nodes: list[pb.Node] = []
    away = None
    for cluster in call.cloud.clusters:
        try:
            nodes += await cluster.nodes(pb.ListNodesRequest())
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise as_aws_error(fault) from fault
            away = fault
    return nodes, away


async def host_ids_of(call: Call, names: Sequence[str]) -> dict[str, pb.Node]:
    """Nodes by what they were called: host id or the node's own name.

    Raises:
        InvalidHostIDNotFound: naming those that no zone knows.
        Unavailable: a zone is away that may know them.
    """
    if not names:
        return {}
    nodes, away = await _asked_of_all(call)
    known = {name: node for node in nodes for name in (node.host_id, node.name)}
    missing = [each for each in names if each not in known]
    if missing and away is not None:
        raise as_aws_error(away) from away
    if missing:
        raise InvalidHostIDNotFound(*missing)
    return {each: known[each] for each in names}


@ec2.action("DescribeHosts", accepts=("HostIds", "Filter", "MaxResults", "NextToken"), filters=LOOKS)
async def describe_hosts(call: Call, req: DescribeHostsRequestTypeDef) -> dict[str, Any]:
    """The nodes, zone by zone; an empty list for ordinary users."""
    asked = list(dict.fromkeys(req.get("HostIds", ())))
    if asked and "MaxResults" in req:
        raise InvalidParameterCombination("HostIds and MaxResults cannot be used together.")
    filters: Any = req.get("Filter")
    page, sought = page_of(call, req, high=500), Sought(filters, LOOKS)
    if not call.is_cloud_admin:
        if asked:
            raise InvalidHostIDNotFound(*asked)
        return {"Hosts": []}
    if asked:
        await host_ids_of(call, asked)
    return (await _listed(call, asked, page, sought)).answer(call, "Hosts")


async def _listed(call: Call, asked: Sequence[str], page: Page, sought: Sought) -> Listing:
    """Pages walk through the zones, and in each through its host ids: the key is both."""
    zone_after, _, host_after = page.after.partition("/")
    hosts: list[Shown] = []
    last = page.after
    for cluster in call.cloud.clusters:
        if cluster.zone < zone_after:
            continue
        after = host_after if cluster.zone == zone_after else ""
        while True:
            size = min(page.limit + 1 - len(hosts), 500)
            nodes = await _nodes(call, cluster.zone, asked, after, size)
            for node, shown in zip(nodes, await _shown(call, nodes), strict=True):
                if not sought.passes(shown):
                    continue
                if len(hosts) == page.limit:
                    return Listing(hosts, last)
                hosts.append(shown)
                last = f"{node.zone}/{node.host_id}"
            if len(nodes) < size:
                break
            after = nodes[-1].host_id
    return Listing(hosts, None)


async def _nodes(call: Call, zone: str, asked: Sequence[str], after: str, size: int) -> Sequence[pb.Node]:
    request = pb.ListNodesRequest(host_ids=asked, max_results=size, after_host_id=after, with_instances=True)
    try:
        return await call.cloud.clusters.at(zone).nodes(request)
    except Fault as fault:
        if fault.kind is Kind.UNAVAILABLE:  # the other zones are shown all the same
            return ()
        raise as_aws_error(fault) from fault


async def _shown(call: Call, nodes: Sequence[pb.Node]) -> list[dict[str, Any]]:
    ids = [each.instance_id for node in nodes for each in node.instances]
    rows = await call.cloud.db.read(lambda tx: instances.find(tx, ids))
    by_id = {row.id: row for row in rows}
    return [_host(call, node, by_id) for node in nodes]


def _host(call: Call, node: pb.Node, rows: Mapping[str, InstanceRow]) -> dict[str, Any]:
    guests = [rows[each.instance_id] for each in node.instances if each.instance_id in rows]
    return {
        "HostId": node.host_id,
        "AvailabilityZone": node.zone,
        "AutoPlacement": "off" if node.state == "cordoned" else "on",
        "AllocationTime": moment(node.joined_ms),
        "AvailableCapacity": {"AvailableInstanceCapacity": [], "AvailableVCpus": node.free.vcpus},
        "HostProperties": {
            "Cores": node.capacity.vcpus,
            "Sockets": 1,
            "TotalVCpus": node.capacity.vcpus,
        },
        "HostMaintenance": "off",
        "HostRecovery": "off",
        "Instances": [_guest(row) for row in guests],
        "OwnerId": call.account,
        "State": _STATES.get(node.state, "permanent-failure"),
        "Tags": [{"Key": "Name", "Value": node.name}, {"Key": "mallee:state", "Value": node.state}],
    }


def _guest(row: InstanceRow) -> dict[str, str]:
    return {"InstanceId": row.id, "InstanceType": row.instance_type, "OwnerId": row.account_id}


@ec2.action("ModifyHosts", accepts=("HostIds", "AutoPlacement"))
async def modify_hosts(call: Call, req: ModifyHostsRequestTypeDef) -> dict[str, Any]:
    """Take nodes out of automatic placement (a cordon), or let them in again; what runs there stays."""
    only_admin(call, "cordons nodes")
    cordoned = one_of("autoPlacement", req.get("AutoPlacement", "on"), "on", "off") == "off"
    done, refused = [], []
    for asked in dict.fromkeys(req["HostIds"]):
        try:
            node = (await host_ids_of(call, [asked]))[asked]
            await call.cloud.clusters.at(node.zone).cordon(node.host_id, cordoned=cordoned)
            done.append(asked)
        except InvalidHostIDNotFound as error:
            refused.append(_refused(asked, error.code, error.message))
        except Fault as fault:
            error_ = as_aws_error(fault)
            refused.append(_refused(asked, error_.code, error_.message))
    return {"Successful": done, "Unsuccessful": refused}


def _refused(host_id: str, code: str, message: str) -> dict[str, Any]:
    return {"ResourceId": host_id, "Error": {"Code": code, "Message": message}}
