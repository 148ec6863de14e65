"""VPCs and subnets, as they are described: every account has a default VPC, with a subnet a zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.listing import (
    TAG_LOOKS,
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
from mallee.clc.api.ec2.security_groups.groups import arn
from mallee.clc.api.ec2.zones import zone_ids
from mallee.clc.call import Call
from mallee.clc.db import network, tags
from mallee.clc.db.network import Subnet, Vpc
from mallee.clc.errors import InvalidSubnetIDNotFound, InvalidVpcIDNotFound
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeSubnetsRequestTypeDef, DescribeVpcsRequestTypeDef

Result = dict[str, Any]

_IPV6 = ("ipv6-cidr-block", "association-id", "state")
_VPC_LOOKS: Looks = {
    **TAG_LOOKS,
    "cidr": member("CidrBlock"),
    "cidr-block-association.cidr-block": member("CidrBlockAssociationSet", "CidrBlock"),
    "cidr-block-association.association-id": member("CidrBlockAssociationSet", "AssociationId"),
    "cidr-block-association.state": member("CidrBlockAssociationSet", "CidrBlockState", "State"),
    "dhcp-options-id": member("DhcpOptionsId"),
    **{f"ipv6-cidr-block-association.{name}": nothing for name in (*_IPV6, "ipv6-pool")},
    "is-default": member("IsDefault"),
    # Older names of the same, which clients still use.
    "isDefault": member("IsDefault"),
    "owner-id": member("OwnerId"),
    "state": member("State"),
    "vpc-id": member("VpcId"),
}
_DNS = "PrivateDnsNameOptionsOnLaunch"
_SUBNET_LOOKS: Looks = {
    **TAG_LOOKS,
    **dict.fromkeys(("availability-zone", "availabilityZone"), member("AvailabilityZone")),
    **dict.fromkeys(("availability-zone-id", "availabilityZoneId"), member("AvailabilityZoneId")),
    "available-ip-address-count": member("AvailableIpAddressCount"),
    **dict.fromkeys(("cidr-block", "cidr", "cidrBlock"), member("CidrBlock")),
    "customer-owned-ipv4-pool": nothing,
    **dict.fromkeys(("default-for-az", "defaultForAz"), member("DefaultForAz")),
    "enable-dns64": member("EnableDns64"),
    "enable-lni-at-device-index": nothing,
    **{f"ipv6-cidr-block-association.{name}": nothing for name in _IPV6},
    "ipv6-native": member("Ipv6Native"),
    "map-customer-owned-ip-on-launch": member("MapCustomerOwnedIpOnLaunch"),
    "map-public-ip-on-launch": member("MapPublicIpOnLaunch"),
    "outpost-arn": nothing,
    "owner-id": member("OwnerId"),
    "private-dns-name-options-on-launch.hostname-type": member(_DNS, "HostnameType"),
    "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": member(
        _DNS, "EnableResourceNameDnsARecord"
    ),
    "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": member(
        _DNS, "EnableResourceNameDnsAAAARecord"
    ),
    "state": member("State"),
    "subnet-arn": member("SubnetArn"),
    "subnet-id": member("SubnetId"),
    "vpc-id": member("VpcId"),
}


@ec2.action(
    "DescribeVpcs", accepts=("VpcIds", "Filters", "MaxResults", "NextToken", "DryRun"), filters=_VPC_LOOKS
)
async def describe_vpcs(call: Call, req: DescribeVpcsRequestTypeDef) -> Result:
    """The account's VPCs."""
    sought, page, wanted = Sought(req.get("Filters"), _VPC_LOOKS), page_of(call, req), req.get("VpcIds", ())

    def work(tx: Tx) -> Listing:
        rows = [one for one in network.vpcs_of(tx, call.account) if not wanted or one.id in wanted]
        unknown = missing(wanted, {one.id for one in rows})
        if unknown:
            raise InvalidVpcIDNotFound(*unknown)
        fetch = slice_of(rows, lambda one: one.id)
        return listed(tx, page, fetch=fetch, show=_vpcs, key=lambda one: one.id, sought=sought)

    return (await call.cloud.db.read(work)).answer(call, "Vpcs")


def _vpcs(tx: Tx, rows: Sequence[Vpc]) -> list[Result]:
    tagged = tags.of(tx, rows[0].account_id, [one.id for one in rows]) if rows else {}
    return [_vpc(one, tagged.get(one.id, {})) for one in rows]


def _vpc(vpc: Vpc, tagged: Mapping[str, str]) -> Result:
    return {
        "OwnerId": vpc.account_id,
        "InstanceTenancy": "default",
        "CidrBlockAssociationSet": [
            {
                "AssociationId": vpc.cidr_association_id,
                "CidrBlock": vpc.cidr,
                "CidrBlockState": {"State": "associated"},
            }
        ],
        "IsDefault": vpc.is_default,
        "Tags": tagging.shown(tagged),
        "VpcId": vpc.id,
        "State": "available",
        "CidrBlock": vpc.cidr,
        "DhcpOptionsId": vpc.dhcp_options_id,
    }


@ec2.action(
    "DescribeSubnets",
    accepts=("SubnetIds", "Filters", "MaxResults", "NextToken", "DryRun"),
    filters=_SUBNET_LOOKS,
)
async def describe_subnets(call: Call, req: DescribeSubnetsRequestTypeDef) -> Result:
    """The account's subnets, with the addresses that are left in each."""
    sought, page = Sought(req.get("Filters"), _SUBNET_LOOKS), page_of(call, req)
    wanted = req.get("SubnetIds", ())

    def show(tx: Tx, rows: Sequence[Subnet]) -> list[Result]:
        tagged = tags.of(tx, call.account, [one.id for one in rows])
        return [_subnet(call, one, tagged.get(one.id, {})) for one in rows]

    def work(tx: Tx) -> Listing:
        rows = [one for one in network.subnets_of(tx, call.account) if not wanted or one.id in wanted]
        unknown = missing(wanted, {one.id for one in rows})
        if unknown:
            raise InvalidSubnetIDNotFound(*unknown)
        fetch = slice_of(rows, lambda one: one.id)
        return listed(tx, page, fetch=fetch, show=show, key=lambda one: one.id, sought=sought)

    return (await call.cloud.db.read(work)).answer(call, "Subnets")


def _subnet(call: Call, subnet: Subnet, tagged: Mapping[str, str]) -> Result:
    return {
        "AvailabilityZoneId": zone_ids(call).get(subnet.zone, ""),
        "MapCustomerOwnedIpOnLaunch": False,
        "OwnerId": subnet.account_id,
        "AssignIpv6AddressOnCreation": False,
        "Ipv6CidrBlockAssociationSet": [],
        "Tags": tagging.shown(tagged),
        "SubnetArn": arn(call, "subnet", subnet.id),
        "EnableDns64": False,
        "Ipv6Native": False,
        _DNS: {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": False,
            "EnableResourceNameDnsAAAARecord": False,
        },
        "SubnetId": subnet.id,
        "State": "available",
        "VpcId": subnet.vpc_id,
        "CidrBlock": subnet.cidr,
        "AvailableIpAddressCount": subnet.free,
        "AvailabilityZone": subnet.zone,
        "DefaultForAz": subnet.is_default,
        "MapPublicIpOnLaunch": subnet.public_ip_on_launch,
    }
