"""Network interfaces, as they are described: each belongs to an instance and ends with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterCombination
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.instances.view import private_dns
from mallee.clc.api.ec2.listing import (
    Listing,
    Looks,
    Sought,
    listed,
    member,
    missing,
    nothing,
    page_of,
    slice_of,
)
from mallee.clc.api.ec2.zones import zone_ids
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import interfaces, network, security_groups, tags
from mallee.clc.db.interfaces import Interface
from mallee.clc.errors import InvalidNetworkInterfaceIdMalformed, InvalidNetworkInterfaceIDNotFound
from mallee.clc.resource_ids import is_id
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeNetworkInterfacesRequestTypeDef

Result = dict[str, Any]
Fetch = Callable[[Tx, str, int], Sequence[Interface]]

_NONE = (
    *("association.allocation-id", "association.association-id", "association.ip-owner-id"),
    *("association.public-ip", "association.public-dns-name", "addresses.association.owner-id"),
    *("addresses.association.public-ip", "ipv6-addresses.ipv6-address", "operator.principal"),
    *("requester-id", "tag:"),
)
_LOOKS: Looks = {
    **dict.fromkeys(_NONE, nothing),
    "addresses.primary": member("PrivateIpAddresses", "Primary"),
    "addresses.private-ip-address": member("PrivateIpAddresses", "PrivateIpAddress"),
    "attachment.attach-time": member("Attachment", "AttachTime"),
    "attachment.attachment-id": member("Attachment", "AttachmentId"),
    "attachment.delete-on-termination": member("Attachment", "DeleteOnTermination"),
    "attachment.device-index": member("Attachment", "DeviceIndex"),
    "attachment.instance-id": member("Attachment", "InstanceId"),
    "attachment.instance-owner-id": member("Attachment", "InstanceOwnerId"),
    "attachment.status": member("Attachment", "Status"),
    "availability-zone": member("AvailabilityZone"),
    "availability-zone-id": member("AvailabilityZoneId"),
    "description": member("Description"),
    "group-id": member("Groups", "GroupId"),
    "group-name": member("Groups", "GroupName"),
    "interface-type": member("InterfaceType"),
    "mac-address": member("MacAddress"),
    "network-interface-id": member("NetworkInterfaceId"),
    "operator.managed": member("Operator", "Managed"),
    "owner-id": member("OwnerId"),
    "private-dns-name": member("PrivateDnsName"),
    "private-ip-address": member("PrivateIpAddress"),
    "requester-managed": member("RequesterManaged"),
    "source-dest-check": member("SourceDestCheck"),
    "status": member("Status"),
    "subnet-id": member("SubnetId"),
    "tag-key": member("TagSet", "Key"),
    "vpc-id": member("VpcId"),
}


@ec2.action(
    "DescribeNetworkInterfaces",
    accepts=(
        *("NetworkInterfaceIds", "Filters", "MaxResults", "NextToken"),
        *("IncludeManagedResources", "DryRun"),
    ),
    filters=_LOOKS,
)
async def describe_network_interfaces(call: Call, req: DescribeNetworkInterfacesRequestTypeDef) -> Result:
    """The account's interfaces, a thousand a page. Services have none of their own here."""
    sought, wanted = Sought(req.get("Filters"), _LOOKS), req.get("NetworkInterfaceIds", ())
    if wanted and "MaxResults" in req:
        raise InvalidParameterCombination(
            "The parameter networkInterfaceIdSet cannot be used with the parameter maxResults"
        )
    page = page_of(call, req, default=1000)

    def work(tx: Tx) -> Listing:
        return listed(
            tx,
            page,
            fetch=_by_ids(tx, call.account, wanted) if wanted else _narrowed(tx, call.account, sought),
            show=lambda tx, rows: _shown(tx, call, rows),
            key=lambda one: one.id,
            sought=sought,
        )

    return (await call.cloud.db.read(work)).answer(call, "NetworkInterfaces")


def _by_ids(tx: Tx, account: str, wanted: Sequence[str]) -> Fetch:
    for one in wanted:
        if not is_id("eni", one):
            raise InvalidNetworkInterfaceIdMalformed(one)
    rows = interfaces.by_ids(tx, account, wanted)
    unknown = missing(wanted, {one.id for one in rows})
    if unknown:
        raise InvalidNetworkInterfaceIDNotFound(*unknown)
    return slice_of(rows, lambda one: one.id)


def _narrowed(tx: Tx, account: str, sought: Sought) -> Fetch:
    """The rows that can pass, by an index where a filter names what one is for."""
    indexed = {
        "network-interface-id": interfaces.by_ids,
        "attachment.instance-id": interfaces.of_instances,
        "group-id": interfaces.of_groups,
    }
    for name, look in indexed.items():
        exact = sought.exact(name)
        if exact is not None:
            rows = sorted(look(tx, account, exact), key=lambda one: one.id)
            return slice_of(rows, lambda one: one.id)
    return lambda tx, after, size: interfaces.page(tx, account, after, size)


def _shown(tx: Tx, call: Call, rows: Sequence[Interface]) -> list[Result]:
    ids = [one.id for one in rows]
    guards, tagged = interfaces.groups_of(tx, ids), tags.of(tx, call.account, ids)
    group_ids = {group for guarding in guards.values() for group in guarding}
    names = {group.id: group.name for group in security_groups.by_ids(tx, call.account, group_ids)}
    zones = zone_ids(call)
    shown = []
    for one in rows:
        groups = [{"GroupId": each, "GroupName": names.get(each, "")} for each in guards.get(one.id, ())]
        more = {"Groups": groups, "TagSet": tagging.shown(tagged.get(one.id, {}))}
        shown.append({**_interface(one, call.cloud.config.region), **more})
        shown[-1]["AvailabilityZoneId"] = zones.get(one.zone, "")
    return shown


def _interface(one: Interface, region: str) -> Result:
    address = network.text(one.address)
    name = private_dns(address, region)
    shown: Result = {
        "AvailabilityZone": one.zone,
        "Description": one.description,
        "InterfaceType": "interface",
        "Ipv6Addresses": [],
        "MacAddress": one.mac,
        "NetworkInterfaceId": one.id,
        "OwnerId": one.account_id,
        "PrivateDnsName": name,
        "PrivateIpAddress": address,
        "PrivateIpAddresses": [{"Primary": True, "PrivateDnsName": name, "PrivateIpAddress": address}],
        "RequesterManaged": False,
        "SourceDestCheck": one.source_dest_check,
        "Status": one.status,
        "SubnetId": one.subnet_id,
        "VpcId": one.vpc_id,
        "Operator": {"Managed": False},
    }
    if one.instance_id:
        shown["Attachment"] = {
            "AttachTime": moment(one.attached_ms),
            "AttachmentId": one.attachment_id,
            "DeleteOnTermination": one.delete_on_termination,
            "DeviceIndex": one.device_index,
            "NetworkCardIndex": 0,
            "InstanceId": one.instance_id,
            "InstanceOwnerId": one.account_id,
            "Status": "attached",
        }
    return shown
