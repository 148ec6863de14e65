"""What RunInstances asks for, checked as far as the request alone can tell.

A parameter is honoured or refused; what a parameter may not say is refused with AWS's error. There
are no volumes, public addresses, placement groups, Spot market or launch templates (yet).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import msgspec

from mallee.aws.errors import (
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from mallee.clc.api.ec2 import disks, tagging
from mallee.clc.api.ec2.disks import Disks
from mallee.clc.db.instances import Details, DnsOptions, MetadataOptions
from mallee.clc.errors import InvalidUserDataMalformed
from mallee.clc.instance_types import InstanceType, InstanceTypes

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RunInstancesRequestTypeDef

DEFAULT_TYPE = "m1.small"  # as EC2's own
MOST = 1000
USER_DATA_BYTES = 16 * 1024

ACCEPTS = (
    *("MinCount", "MaxCount", "ImageId", "InstanceType", "KeyName", "UserData", "ClientToken", "DryRun"),
    *("SecurityGroups", "SecurityGroupIds", "SubnetId", "PrivateIpAddress", "TagSpecifications"),
    *("Placement.AvailabilityZone", "Placement.HostId", "Placement.Tenancy", "Placement.Affinity"),
    *(
        f"NetworkInterfaces.{name}"
        for name in (
            *("DeviceIndex", "SubnetId", "Groups", "Description", "DeleteOnTermination"),
            *("PrivateIpAddress", "AssociatePublicIpAddress", "InterfaceType", "NetworkCardIndex"),
        )
    ),
    *disks.ACCEPTS,
    *("Monitoring.Enabled", "CreditSpecification.CpuCredits", "InstanceInitiatedShutdownBehavior"),
    *("DisableApiTermination", "DisableApiStop", "EbsOptimized"),
    *(f"MetadataOptions.{name}" for name in ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint")),
    *("MetadataOptions.HttpProtocolIpv6", "MetadataOptions.InstanceMetadataTags"),
    *("CpuOptions.CoreCount", "CpuOptions.ThreadsPerCore", "MaintenanceOptions.AutoRecovery"),
    *("HibernationOptions.Configured", "EnclaveOptions.Enabled", "PrivateDnsNameOptions"),
    "CapacityReservationSpecification.CapacityReservationPreference",
)


@dataclass(frozen=True, slots=True)
class Nic:
    """The one network interface of an instance."""

    subnet_id: str = ""
    group_ids: Sequence[str] = ()
    group_names: Sequence[str] = ()
    address: int | None = None
    description: str = ""
    delete_on_termination: bool = True


@dataclass(frozen=True, slots=True)
class Launch:
    """A checked request. `details` lacks what the image and the place decide."""

    least: int
    most: int
    image_id: str
    type: InstanceType
    key_name: str
    user_data: bytes
    zone: str
    host_id: str
    nic: Nic
    metadata: Mapping[str, Any]
    tags: Mapping[str, Mapping[str, str]]
    disks: Disks
    details: Details


def read(req: RunInstancesRequestTypeDef, types: InstanceTypes) -> Launch:
    """The launch that a request describes. Raises AWS's error for what it may not say."""
    least, most = _counts(req)
    kind = types.get(req.get("InstanceType") or DEFAULT_TYPE)[0]
    _refuse_what_is_not_built(req)
    if not req.get("ImageId"):
        raise MissingParameter("ImageId")
    placement = req.get("Placement", {})
    user_data = decode_user_data(req.get("UserData") or "")
    nic = _nic(req, most)
    details = _details(req, kind)
    return Launch(
        least=least,
        most=most,
        image_id=req["ImageId"],
        type=kind,
        key_name=req.get("KeyName", ""),
        user_data=user_data,
        zone=placement.get("AvailabilityZone", ""),
        host_id=placement.get("HostId", ""),
        nic=nic,
        metadata=req.get("MetadataOptions", {}),
        tags=tagging.specified(req.get("TagSpecifications", ()), "instance", "network-interface"),
        disks=disks.read(req.get("BlockDeviceMappings", ())),
        details=details,
    )


def _counts(req: RunInstancesRequestTypeDef) -> tuple[int, int]:
    least, most = req["MinCount"], req["MaxCount"]
    for name, value in (("minCount", least), ("maxCount", most)):
        if not 1 <= value <= MOST:
            raise InvalidParameterValue(
                f"Value ({value}) for parameter {name} is invalid. It must be between 1 and {MOST}."
            )
    if least > most:
        raise InvalidParameterValue(
            f"Value ({least}) for parameter minCount is invalid. It must not be greater than maxCount ({most})."
        )
    return least, most


def _refuse_what_is_not_built(req: RunInstancesRequestTypeDef) -> None:
    """Switches whose other position does not exist here."""
    placement = req.get("Placement", {})
    if placement.get("Tenancy", "default") != "default":
        raise UnsupportedOperation("Only the tenancy 'default' is supported by this cloud.")
    if placement.get("Affinity", "default") == "host" and not placement.get("HostId"):
        raise InvalidParameterCombination("Affinity 'host' needs the parameter HostId.")
    if req.get("HibernationOptions", {}).get("Configured"):
        raise UnsupportedOperation("Hibernation is not supported by this cloud.")
    if req.get("EnclaveOptions", {}).get("Enabled"):
        raise UnsupportedOperation("Enclaves are not supported by this cloud.")
    reserved = req.get("CapacityReservationSpecification", {}).get("CapacityReservationPreference", "open")
    if reserved != "open":
        raise UnsupportedOperation("Only the capacity reservation preference 'open' is supported.")


def decode_user_data(text: str) -> bytes:
    """User data from base64.

    Raises:
        InvalidUserDataMalformed: it is not base64.
        InvalidParameterValue: more than 16 KiB.
    """
    try:
        data = b64decode("".join(text.split()), validate=True)
    except ValueError:  # not only of base64: it wants to be ASCII first
        raise InvalidUserDataMalformed("Invalid BASE64 encoding of user data.") from None
    return checked_user_data(data)


def checked_user_data(data: bytes) -> bytes:
    if len(data) > USER_DATA_BYTES:
        raise InvalidParameterValue(f"User data is limited to {USER_DATA_BYTES} bytes")
    return data


def _nic(req: RunInstancesRequestTypeDef, most: int) -> Nic:
    nic = Nic(
        req.get("SubnetId", ""),
        tuple(req.get("SecurityGroupIds", ())),
        tuple(req.get("SecurityGroups", ())),
        _address(req.get("PrivateIpAddress")),
    )
    given = req.get("NetworkInterfaces", ())
    if given:
        if nic != Nic():
            raise InvalidParameterCombination(
                "Network interfaces and an instance-level subnet ID, private address or security groups"
                " may not be specified on the same request"
            )
        nic = _described_nic(given)
    if nic.address is not None and most > 1:
        raise InvalidParameterCombination("A private address can be given to one instance only.")
    return nic


def _described_nic(given: Sequence[Mapping[str, Any]]) -> Nic:
    if len(given) > 1:
        raise UnsupportedOperation("More than one network interface is not supported by this cloud.")
    one = given[0]
    if one.get("DeviceIndex") != 0:
        raise InvalidParameterValue("The instance must have a network interface with device index 0")
    if one.get("AssociatePublicIpAddress"):
        raise UnsupportedOperation("Public addresses are not supported by this cloud.")
    if one.get("InterfaceType", "interface") != "interface" or one.get("NetworkCardIndex", 0) != 0:
        raise UnsupportedOperation("Only plain network interfaces on card 0 are supported by this cloud.")
    description = one.get("Description", "")
    if len(description) > 255:
        raise InvalidParameterValue("A network interface's description has 255 characters at most.")
    return Nic(
        one.get("SubnetId", ""),
        tuple(one.get("Groups", ())),
        (),
        _address(one.get("PrivateIpAddress")),
        description,
        one.get("DeleteOnTermination", True),
    )


def _address(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return int(IPv4Address(text))
    except ValueError:
        raise InvalidParameterValue(
            f"Value ({text}) for parameter privateIpAddress is invalid. It is not an IPv4 address."
        ) from None


def one_of(name: str, value: str, *allowed: str) -> str:
    """`value`, if it is one of those. Raises InvalidParameterValue."""
    if value not in allowed:
        raise InvalidParameterValue(
            f"Value ({value}) for parameter {name} is invalid. Expected one of: {', '.join(allowed)}."
        )
    return value


def _details(req: RunInstancesRequestTypeDef, kind: InstanceType) -> Details:
    cores, threads = _cpu(req.get("CpuOptions"), kind)
    dns = req.get("PrivateDnsNameOptions", {})
    return Details(
        vcpus=cores * threads,
        memory_mib=kind.memory_mib,
        cores=cores,
        threads_per_core=threads,
        client_token=req.get("ClientToken", ""),
        monitoring=req.get("Monitoring", {}).get("Enabled", False),
        shutdown_behavior=one_of(
            "instanceInitiatedShutdownBehavior",
            req.get("InstanceInitiatedShutdownBehavior", "stop"),
            *("stop", "terminate"),
        ),
        keep_from_termination=req.get("DisableApiTermination", False),
        keep_from_stop=req.get("DisableApiStop", False),
        credits=_credits(req.get("CreditSpecification"), kind),
        ebs_optimized=ebs_optimized(kind, wished=req.get("EbsOptimized", False)),
        dns=DnsOptions(
            one_of("hostnameType", dns.get("HostnameType", "ip-name"), "ip-name", "resource-name"),
            dns.get("EnableResourceNameDnsARecord", False),
            dns.get("EnableResourceNameDnsAAAARecord", False),
        ),
        auto_recovery=one_of(
            "autoRecovery",
            req.get("MaintenanceOptions", {}).get("AutoRecovery", "default"),
            *("default", "disabled"),
        ),
    )


def _cpu(options: Mapping[str, Any] | None, kind: InstanceType) -> tuple[int, int]:
    if not options:
        return kind.cores, kind.threads
    if "CoreCount" not in options or "ThreadsPerCore" not in options:
        raise InvalidParameterCombination("CpuOptions needs both CoreCount and ThreadsPerCore.")
    cores, threads = options["CoreCount"], options["ThreadsPerCore"]
    if not (1 <= cores <= kind.cores and 1 <= threads <= kind.threads):
        raise InvalidParameterValue(
            f"CpuOptions of {cores} cores with {threads} threads are not valid for {kind.name}."
        )
    return cores, threads


def _credits(given: Mapping[str, Any] | None, kind: InstanceType) -> str:
    if given is None:
        return kind.credits
    if not kind.burstable:
        raise InvalidParameterCombination(f"{kind.name} has no CPU credits: it is not a burstable type.")
    return one_of("cpuCredits", given["CpuCredits"], "standard", "unlimited")


def ebs_optimized(kind: InstanceType, *, wished: bool) -> bool:
    """Raises InvalidParameterCombination if the type cannot be what is wished."""
    if wished and kind.ebs is None:
        raise InvalidParameterCombination(f"EBS-optimized instances are not supported for {kind.name}.")
    return wished


def metadata_options(given: Mapping[str, Any], now: MetadataOptions) -> MetadataOptions:
    """The options as they are after a change. Raises InvalidParameterValue."""
    hops = given.get("HttpPutResponseHopLimit", now.hop_limit)
    if not 1 <= hops <= 64:
        raise InvalidParameterValue(
            f"Value ({hops}) for parameter HttpPutResponseHopLimit is invalid. It must be between 1 and 64."
        )
    switch = ("enabled", "disabled")
    return msgspec.structs.replace(
        now,
        tokens=one_of("HttpTokens", given.get("HttpTokens", now.tokens), "optional", "required"),
        hop_limit=hops,
        endpoint=one_of("HttpEndpoint", given.get("HttpEndpoint", now.endpoint), *switch),
        ipv6=one_of("HttpProtocolIpv6", given.get("HttpProtocolIpv6", now.ipv6), *switch),
        tags=one_of("InstanceMetadataTags", given.get("InstanceMetadataTags", now.tags), *switch),
    )
