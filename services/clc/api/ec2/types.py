"""Instance types: what there is, where it is offered, and who spends CPU credits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterCombination, UnsupportedOperation
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.api.ec2.instances.launch_request import one_of
from mallee.clc.api.ec2.listing import Listing, Looks, Sought, listed, member, nothing, page_of, slice_of
from mallee.clc.call import Call
from mallee.clc.db import instance_search, instances
from mallee.clc.db.instance_search import Search
from mallee.clc.db.instances import InstanceRow
from mallee.clc.instance_types import EbsRate, InstanceType
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DescribeInstanceCreditSpecificationsRequestTypeDef,
        DescribeInstanceTypeOfferingsRequestTypeDef,
        DescribeInstanceTypesRequestTypeDef,
    )

_PATHS = (
    *("AutoRecoverySupported", "BareMetal", "BurstablePerformanceSupported", "CurrentGeneration"),
    *("DedicatedHostsSupported", "FreeTierEligible", "HibernationSupported", "Hypervisor", "InstanceType"),
    *("InstanceStorageSupported", "NitroEnclavesSupport", "NitroTpmSupport", "RebootMigrationSupport"),
)
_SECTIONS = {
    "ebs-info": ("EbsInfo", ("EbsOptimizedSupport", "EncryptionSupport", "NvmeSupport")),
    "network-info": (
        "NetworkInfo",
        (
            *("EfaSupported", "EnaSupport", "EncryptionInTransitSupported", "Ipv4AddressesPerInterface"),
            *("Ipv6AddressesPerInterface", "Ipv6Supported", "MaximumNetworkCards"),
            *("MaximumNetworkInterfaces", "NetworkPerformance"),
        ),
    ),
}


def _kebab(name: str) -> str:
    return "".join(f"-{each.lower()}" if each.isupper() else each for each in name).lstrip("-")


_EBS_RATES = {
    f"ebs-info.ebs-optimized-info.{side.lower()}-{name}": member("EbsInfo", "EbsOptimizedInfo", side + wire)
    for side in ("Baseline", "Maximum")
    for name, wire in (
        ("bandwidth-in-mbps", "BandwidthInMbps"),
        ("iops", "Iops"),
        ("throughput-in-mbps", "ThroughputInMBps"),
    )
}
# Documented, and true of no type here: no local disks, no EFA, no TPM.
_NOBODY_HAS = (
    *("ebs-info.attachment-limit-type", "ebs-info.maximum-ebs-attachments"),
    *("instance-storage-info.disk.count", "instance-storage-info.disk.size-in-gb"),
    *("instance-storage-info.disk.type", "instance-storage-info.encryption-support"),
    *("instance-storage-info.nvme-support", "instance-storage-info.total-size-in-gb"),
    *("network-info.bandwidth-weightings", "network-info.efa-info.maximum-efa-interfaces"),
    *("network-info.flexible-ena-queues-support", "nitro-tpm-info.supported-versions"),
    "processor-info.supported-features",
)
LOOKS: Looks = {
    **{_kebab(name): member(name) for name in _PATHS},
    **{
        f"{prefix}.{_kebab(name)}": member(section, name)
        for prefix, (section, names) in _SECTIONS.items()
        for name in names
    },
    **_EBS_RATES,
    **dict.fromkeys(_NOBODY_HAS, nothing),
    "memory-info.size-in-mib": member("MemoryInfo", "SizeInMiB"),
    "processor-info.supported-architecture": member("ProcessorInfo", "SupportedArchitectures"),
    "processor-info.sustained-clock-speed-in-ghz": member("ProcessorInfo", "SustainedClockSpeedInGhz"),
    "supported-boot-mode": member("SupportedBootModes"),
    "supported-root-device-type": member("SupportedRootDeviceTypes"),
    "supported-usage-class": member("SupportedUsageClasses"),
    "supported-virtualization-type": member("SupportedVirtualizationTypes"),
    "vcpu-info.default-cores": member("VCpuInfo", "DefaultCores"),
    "vcpu-info.default-threads-per-core": member("VCpuInfo", "DefaultThreadsPerCore"),
    "vcpu-info.default-vcpus": member("VCpuInfo", "DefaultVCpus"),
    "vcpu-info.valid-cores": member("VCpuInfo", "ValidCores"),
    "vcpu-info.valid-threads-per-core": member("VCpuInfo", "ValidThreadsPerCore"),
}


@ec2.action(
    "DescribeInstanceTypes",
    accepts=("InstanceTypes", "Filters", "MaxResults", "NextToken", "IncludeUnsupportedInRegion", "DryRun"),
    filters=LOOKS,
)
async def describe_instance_types(call: Call, req: DescribeInstanceTypesRequestTypeDef) -> dict[str, Any]:
    """The types of this cloud with Amazon's figures."""
    names = list(req.get("InstanceTypes", ()))
    if names and "MaxResults" in req:
        raise InvalidParameterCombination("InstanceTypes and MaxResults cannot be used together.")
    kinds = call.cloud.types.get(*dict.fromkeys(names)) if names else list(call.cloud.types)
    kinds.sort(key=_name)
    page, sought = page_of(call, req, high=100), Sought(req.get("Filters"), LOOKS)

    def show(_: Tx, rows: Sequence[InstanceType]) -> list[dict[str, Any]]:
        return [_shown(each) for each in rows]

    def look(tx: Tx) -> Listing:
        return listed(tx, page, fetch=slice_of(kinds, _name), show=show, key=_name, sought=sought)

    return (await call.cloud.db.read(look)).answer(call, "InstanceTypes")


def _name(kind: InstanceType) -> str:
    return kind.name


def _shown(kind: InstanceType) -> dict[str, Any]:
    return {
        "InstanceType": kind.name,
        "CurrentGeneration": kind.current_generation,
        "FreeTierEligible": kind.free_tier,
        "SupportedUsageClasses": ["on-demand"],
        "SupportedRootDeviceTypes": ["instance-store"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "Hypervisor": kind.hypervisor,
        "ProcessorInfo": {
            "SupportedArchitectures": list(kind.architectures),
            "SustainedClockSpeedInGhz": kind.ghz,
        },
        "VCpuInfo": {
            "DefaultVCpus": kind.vcpus,
            "DefaultCores": kind.cores,
            "DefaultThreadsPerCore": kind.threads,
            "ValidCores": list(range(1, kind.cores + 1)),
            "ValidThreadsPerCore": list(range(1, kind.threads + 1)),
        },
        "MemoryInfo": {"SizeInMiB": kind.memory_mib},
        "InstanceStorageSupported": False,
        "EbsInfo": _ebs(kind),
        "NetworkInfo": _network(kind),
        "PlacementGroupInfo": {"SupportedStrategies": []},
        "HibernationSupported": False,
        "BurstablePerformanceSupported": kind.burstable,
        "DedicatedHostsSupported": False,
        "AutoRecoverySupported": True,
        "SupportedBootModes": ["legacy-bios"],
        "NitroEnclavesSupport": "unsupported",
        "NitroTpmSupport": "unsupported",
        "RebootMigrationSupport": "supported",
    }


def _network(kind: InstanceType) -> dict[str, Any]:
    return {
        "NetworkPerformance": kind.network,
        "MaximumNetworkInterfaces": kind.interfaces,
        "MaximumNetworkCards": 1,
        "DefaultNetworkCardIndex": 0,
        "Ipv4AddressesPerInterface": kind.addresses,
        "Ipv6AddressesPerInterface": 0,
        "Ipv6Supported": False,
        "EnaSupport": "required" if kind.hypervisor == "nitro" else "unsupported",
        "EfaSupported": False,
        "EncryptionInTransitSupported": False,
    }


def _ebs(kind: InstanceType) -> dict[str, Any]:
    nitro = kind.hypervisor == "nitro"
    shown: dict[str, Any] = {
        "EbsOptimizedSupport": "default" if kind.ebs else "unsupported",
        "EncryptionSupport": "supported",
        "NvmeSupport": "required" if nitro else "unsupported",
    }
    if kind.ebs:
        shown["EbsOptimizedInfo"] = _rate("Baseline", kind.ebs) | _rate("Maximum", kind.ebs_most or kind.ebs)
    return shown


def _rate(side: str, rate: EbsRate) -> dict[str, Any]:
    return {
        f"{side}BandwidthInMbps": rate.bandwidth_mbps,
        f"{side}ThroughputInMBps": rate.throughput_mbs,
        f"{side}Iops": rate.iops,
    }


# --- where it is offered ----------------------------------------------------------------------

OFFERING_LOOKS: Looks = {"instance-type": member("InstanceType"), "location": member("Location")}


@ec2.action(
    "DescribeInstanceTypeOfferings",
    accepts=("LocationType", "Filters", "MaxResults", "NextToken", "DryRun"),
    filters=OFFERING_LOOKS,
)
async def describe_instance_type_offerings(
    call: Call, req: DescribeInstanceTypeOfferingsRequestTypeDef
) -> dict[str, Any]:
    """Every type in the region, and in each of its zones."""
    kind = one_of(
        "locationType",
        req.get("LocationType", "region"),
        *("region", "availability-zone", "availability-zone-id", "outpost"),
    )
    if kind == "availability-zone-id":
        raise UnsupportedOperation("Zones of this cloud are offered by name: use availability-zone.")
    places = {"region": [call.cloud.config.region], "availability-zone": call.cloud.clusters.zones}
    offers = [
        {"InstanceType": each.name, "LocationType": kind, "Location": place}
        for each in call.cloud.types
        for place in places.get(kind, [])
    ]
    page, sought = page_of(call, req), Sought(req.get("Filters"), OFFERING_LOOKS)

    def key(offer: dict[str, str]) -> str:
        return f"{offer['InstanceType']} {offer['Location']}"

    offers.sort(key=key)

    def look(tx: Tx) -> Listing:
        return listed(
            tx, page, fetch=slice_of(offers, key), show=lambda _, rows: rows, key=key, sought=sought
        )

    return (await call.cloud.db.read(look)).answer(call, "InstanceTypeOfferings")


# --- CPU credits ------------------------------------------------------------------------------

CREDIT_LOOKS: Looks = {"instance-id": member("InstanceId")}


@ec2.action(
    "DescribeInstanceCreditSpecifications",
    accepts=("InstanceIds", "Filters", "MaxResults", "NextToken", "DryRun"),
    filters=CREDIT_LOOKS,
)
async def describe_instance_credit_specifications(
    call: Call, req: DescribeInstanceCreditSpecificationsRequestTypeDef
) -> dict[str, Any]:
    """How burstable instances spend credits; without ids those that may spend without limit."""
    asked = checked_ids(req.get("InstanceIds", ()))
    if asked and ("MaxResults" in req or "NextToken" in req):
        raise InvalidParameterCombination("InstanceIds and MaxResults cannot be used together.")
    page, sought = page_of(call, req), Sought(req.get("Filters"), CREDIT_LOOKS)

    def look(tx: Tx) -> Listing:
        fetch = slice_of(_burstable(tx, call, asked), _id) if asked else _fetch_unlimited(call)
        return listed(tx, page, fetch=fetch, show=_credits, key=_id, sought=sought)

    return (await call.cloud.db.read(look)).answer(call, "InstanceCreditSpecifications")


def _id(row: InstanceRow) -> str:
    return row.id


def _burstable(tx: Tx, call: Call, asked: Sequence[str]) -> list[InstanceRow]:
    rows = sorted(instances.mine(tx, call.account, asked))
    for row in rows:
        if not instances.decode(row.details).credits:
            raise InvalidParameterCombination(
                f"The instance '{row.id}' has no CPU credits: {row.instance_type} is not a burstable type."
            )
    return rows


def _fetch_unlimited(call: Call) -> Any:
    burstable = [kind.name for kind in call.cloud.types if kind.burstable]

    def fetch(tx: Tx, after: str, size: int) -> list[InstanceRow]:
        heads = instance_search.page(tx, call.account, Search({"instance_type": burstable}), after, size)
        return sorted(instances.find(tx, [head.id for head in heads]))

    return fetch


def _credits(_: Tx, rows: Sequence[InstanceRow]) -> list[dict[str, str]]:
    return [{"InstanceId": row.id, "CpuCredits": instances.decode(row.details).credits} for row in rows]
