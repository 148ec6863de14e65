"""Where the cloud is: one region, its zones, what an account may do there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterValue
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.listing import Looks, Sought, member, missing, nothing
from mallee.clc.call import Call
from mallee.clc.db import network, security_groups

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DescribeAccountAttributesRequestTypeDef,
        DescribeAvailabilityZonesRequestTypeDef,
        DescribeRegionsRequestTypeDef,
    )

Result = dict[str, Any]

_REGION_LOOKS: Looks = {
    "endpoint": member("Endpoint"),
    "opt-in-status": member("OptInStatus"),
    "region-name": member("RegionName"),
}
_ZONE_LOOKS: Looks = {
    "group-long-name": member("GroupLongName"),
    "group-name": member("GroupName"),
    "message": member("Messages", "Message"),
    "opt-in-status": member("OptInStatus"),
    "parent-zone-id": nothing,
    "parent-zone-name": nothing,
    "region-name": member("RegionName"),
    "state": member("State"),
    "zone-id": member("ZoneId"),
    "zone-name": member("ZoneName"),
    "zone-type": member("ZoneType"),
}


@ec2.action(
    "DescribeRegions", accepts=("RegionNames", "AllRegions", "Filters", "DryRun"), filters=_REGION_LOOKS
)
async def describe_regions(call: Call, req: DescribeRegionsRequestTypeDef) -> Result:
    """This cloud is one region, which every account has: AllRegions adds none.

    Its endpoint is where the caller reached it: what the cloud listens at may be any address, or
    stand behind another door.
    """
    config, sought = call.cloud.config, Sought(req.get("Filters"), _REGION_LOOKS)
    region = {
        "RegionName": config.region,
        "Endpoint": call.request.host,
        "OptInStatus": "opt-in-not-required",
    }
    unknown = missing(req.get("RegionNames", ()), {config.region})
    if unknown:
        raise InvalidParameterValue(f"Invalid region names provided: [{', '.join(unknown)}]")
    return {"Regions": [region] if sought.passes(region) else []}


def zone_ids(call: Call) -> dict[str, str]:
    """The ids of the zones by name: a zone has the same id for every account."""
    return {
        zone: f"{call.cloud.config.region}-az{number}"
        for number, zone in enumerate(call.cloud.clusters.zones, 1)
    }


@ec2.action(
    "DescribeAvailabilityZones",
    accepts=("ZoneNames", "ZoneIds", "AllAvailabilityZones", "Filters", "DryRun"),
    filters=_ZONE_LOOKS,
)
async def describe_availability_zones(call: Call, req: DescribeAvailabilityZonesRequestTypeDef) -> Result:
    """The zones; one whose cluster controller cannot be reached is unavailable."""
    ids, sought = zone_ids(call), Sought(req.get("Filters"), _ZONE_LOOKS)
    names, wanted_ids = req.get("ZoneNames", ()), req.get("ZoneIds", ())
    _check_known("zone", names, ids)
    _check_known("zone-id", wanted_ids, ids.values())
    zones = [
        _zone(call, name, zone_id)
        for name, zone_id in ids.items()
        if (not names or name in names) and (not wanted_ids or zone_id in wanted_ids)
    ]
    return {"AvailabilityZones": [zone for zone in zones if sought.passes(zone)]}


def _check_known(what: str, wanted: Sequence[str], known: Any) -> None:
    unknown = missing(wanted, set(known))
    if unknown:
        raise InvalidParameterValue(f"Invalid availability {what}: [{', '.join(unknown)}]")


def _zone(call: Call, name: str, zone_id: str) -> Result:
    region = call.cloud.config.region
    reached = call.cloud.clusters.at(name).state is not None
    message = f"The cluster controller of {name} cannot be reached."
    return {
        "State": "available" if reached else "unavailable",
        "OptInStatus": "opt-in-not-required",
        "Messages": [] if reached else [{"Message": message}],
        "RegionName": region,
        "ZoneName": name,
        "ZoneId": zone_id,
        "GroupName": region,
        "GroupLongName": region,
        "NetworkBorderGroup": region,
        "ZoneType": "availability-zone",
    }


@ec2.action("DescribeAccountAttributes", accepts=("AttributeNames", "DryRun"))
async def describe_account_attributes(call: Call, req: DescribeAccountAttributesRequestTypeDef) -> Result:
    """What is possible (VPC alone), the default VPC, and the account's limits."""
    home = await call.cloud.db.read(lambda tx: network.default_vpc(tx, call.account))
    limit = call.cloud.config.max_instances_per_account
    values = {
        "supported-platforms": "VPC",
        "default-vpc": home.id if home else "none",
        "vpc-max-security-groups-per-interface": str(security_groups.GROUPS_PER_INTERFACE),
        "max-elastic-ips": "0",  # there are none yet
        "vpc-max-elastic-ips": "0",
        **({"max-instances": str(limit)} if limit else {}),
    }
    wanted: Sequence[str] = req.get("AttributeNames") or tuple(values)
    unknown = [name for name in wanted if name not in {*values, "max-instances"}]
    if unknown:
        raise InvalidParameterValue(f"Unknown account attribute: {unknown[0]}")
    return {
        "AccountAttributes": [
            {"AttributeName": name, "AttributeValues": [{"AttributeValue": values[name]}]}
            for name in dict.fromkeys(wanted)
            if name in values
        ]
    }
