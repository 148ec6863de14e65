"""The filters of DescribeInstances: what each looks at.

Those that an index or a column answers become conditions of the search; the rest are compared
with what is shown. A filter on something that no instance here ever has matches nothing, as on EC2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.api.ec2.listing import member
from mallee.clc.instance import BY_TITLE, State

Values = Callable[[Mapping[str, Any], Seen], Iterable[Any]]


def _path(dotted: str) -> Values:
    look = member(*dotted.split("."))
    return lambda shown, _seen: look(shown)


def _nothing(_shown: Mapping[str, Any], _seen: Seen) -> Iterable[Any]:
    return ()


def _tag_keys(_shown: Mapping[str, Any], seen: Seen) -> Iterable[Any]:
    return seen.tags


_NIC = "NetworkInterfaces"
_PATHS = {
    "affinity": "Placement.Affinity",
    "architecture": "Architecture",
    "availability-zone": "Placement.AvailabilityZone",
    "availability-zone-id": "Placement.AvailabilityZoneId",
    "capacity-reservation-specification.capacity-reservation-preference": (
        "CapacityReservationSpecification.CapacityReservationPreference"
    ),
    "client-token": "ClientToken",
    "current-instance-boot-mode": "CurrentInstanceBootMode",
    "ebs-optimized": "EbsOptimized",
    "ena-support": "EnaSupport",
    "enclave-options.enabled": "EnclaveOptions.Enabled",
    "hibernation-options.configured": "HibernationOptions.Configured",
    "host-id": "Placement.HostId",
    "hypervisor": "Hypervisor",
    "image-id": "ImageId",
    "instance-id": "InstanceId",
    "instance-state-code": "State.Code",
    "instance-state-name": "State.Name",
    "instance-type": "InstanceType",
    "instance.group-id": "SecurityGroups.GroupId",
    "instance.group-name": "SecurityGroups.GroupName",
    "key-name": "KeyName",
    "launch-index": "AmiLaunchIndex",
    "launch-time": "LaunchTime",
    "maintenance-options.auto-recovery": "MaintenanceOptions.AutoRecovery",
    "metadata-options.http-endpoint": "MetadataOptions.HttpEndpoint",
    "metadata-options.http-protocol-ipv6": "MetadataOptions.HttpProtocolIpv6",
    "metadata-options.http-put-response-hop-limit": "MetadataOptions.HttpPutResponseHopLimit",
    "metadata-options.http-tokens": "MetadataOptions.HttpTokens",
    "metadata-options.instance-metadata-tags": "MetadataOptions.InstanceMetadataTags",
    "metadata-options.state": "MetadataOptions.State",
    "monitoring-state": "Monitoring.State",
    "network-interface.addresses.primary": f"{_NIC}.PrivateIpAddresses.Primary",
    "network-interface.addresses.private-dns-name": f"{_NIC}.PrivateIpAddresses.PrivateDnsName",
    "network-interface.addresses.private-ip-address": f"{_NIC}.PrivateIpAddresses.PrivateIpAddress",
    "network-interface.attachment.attach-time": f"{_NIC}.Attachment.AttachTime",
    "network-interface.attachment.attachment-id": f"{_NIC}.Attachment.AttachmentId",
    "network-interface.attachment.delete-on-termination": f"{_NIC}.Attachment.DeleteOnTermination",
    "network-interface.attachment.device-index": f"{_NIC}.Attachment.DeviceIndex",
    "network-interface.attachment.network-card-index": f"{_NIC}.Attachment.NetworkCardIndex",
    "network-interface.attachment.status": f"{_NIC}.Attachment.Status",
    "network-interface.description": f"{_NIC}.Description",
    "network-interface.group-id": f"{_NIC}.Groups.GroupId",
    "network-interface.group-name": f"{_NIC}.Groups.GroupName",
    "network-interface.mac-address": f"{_NIC}.MacAddress",
    "network-interface.network-interface-id": f"{_NIC}.NetworkInterfaceId",
    "network-interface.operator.managed": f"{_NIC}.Operator.Managed",
    "network-interface.owner-id": f"{_NIC}.OwnerId",
    "network-interface.private-dns-name": f"{_NIC}.PrivateDnsName",
    "network-interface.private-ip-address": f"{_NIC}.PrivateIpAddress",
    "network-interface.source-dest-check": f"{_NIC}.SourceDestCheck",
    "network-interface.status": f"{_NIC}.Status",
    "network-interface.subnet-id": f"{_NIC}.SubnetId",
    "network-interface.vpc-id": f"{_NIC}.VpcId",
    "operator.managed": "Operator.Managed",
    "platform-details": "PlatformDetails",
    "private-dns-name": "PrivateDnsName",
    "private-dns-name-options.enable-resource-name-dns-a-record": (
        "PrivateDnsNameOptions.EnableResourceNameDnsARecord"
    ),
    "private-dns-name-options.enable-resource-name-dns-aaaa-record": (
        "PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord"
    ),
    "private-dns-name-options.hostname-type": "PrivateDnsNameOptions.HostnameType",
    "private-ip-address": "PrivateIpAddress",
    "reason": "StateTransitionReason",
    "root-device-name": "RootDeviceName",
    "root-device-type": "RootDeviceType",
    "source-dest-check": "SourceDestCheck",
    "state-reason-code": "StateReason.Code",
    "state-reason-message": "StateReason.Message",
    "subnet-id": "SubnetId",
    "tenancy": "Placement.Tenancy",
    "usage-operation": "UsageOperation",
    "usage-operation-update-time": "UsageOperationUpdateTime",
    "virtualization-type": "VirtualizationType",
    "vpc-id": "VpcId",
}

# What no instance of this cloud has (yet): documented, accepted, and true of nothing.
NOBODY_HAS = (
    *("block-device-mapping.attach-time", "block-device-mapping.delete-on-termination"),
    *("block-device-mapping.device-name", "block-device-mapping.status", "block-device-mapping.volume-id"),
    *("boot-mode", "capacity-reservation-id", "dns-name", "iam-instance-profile.arn"),
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
    *("iam-instance-profile.id", "instance-lifecycle", "ip-address", "ipv6-address", "kernel-id"),
    *(
        f"network-interface.{prefix}association.{name}"
        for prefix in ("", "addresses.")
        for name in (
            *("allocation-id", "association-id", "carrier-ip", "customer-owned-ip", "ip-owner-id"),
            *("public-dns-name", "public-ip"),
        )
    ),
    *("network-interface.deny-all-igw-traffic", "network-interface.ipv4-prefixes.ipv4-prefix"),
    *("network-interface.ipv6-address", "network-interface.ipv6-addresses.ipv6-address"),
    *("network-interface.ipv6-addresses.is-primary-ipv6", "network-interface.ipv6-native"),
    *("network-interface.ipv6-prefixes.ipv6-prefix", "network-interface.operator.principal"),
    *("network-interface.outpost-arn", "network-interface.public-dns-name", "network-interface.requester-id"),
    *("network-performance-options.bandwidth-weighting", "operator.principal", "outpost-arn"),
    *("placement-group-name", "placement-partition-number", "platform", "product-code", "product-code.type"),
    *("ramdisk-id", "requester-id", "spot-instance-request-id", "tpm-support"),
)

FILTERS: Mapping[str, Values] = {
    **{name: _path(path) for name, path in _PATHS.items()},
    **dict.fromkeys(NOBODY_HAS, _nothing),
    "metadata-options.http-protocol-ipv4": _path("MetadataOptions.HttpEndpoint"),
    "network-interface.attachment.instance-id": lambda _, seen: [seen.row.id] if seen.wired else (),
    "network-interface.attachment.instance-owner-id": lambda _, seen: (
        [seen.row.account_id] if seen.wired else ()
    ),
    "network-interface.availability-zone": lambda _, seen: [each.nic.zone for each in seen.wired],
    "network-interface.requester-managed": lambda _, seen: [False for _ in seen.wired],
    "network-interface.tag-key": lambda _, seen: [key for each in seen.wired for key in each.tags],
    "network-interface.tag-value": lambda _, seen: [
        value for each in seen.wired for value in each.tags.values()
    ],
    "owner-id": lambda _, seen: [seen.row.account_id],
    "reservation-id": lambda _, seen: [seen.row.reservation_id],
    "tag-key": _tag_keys,
}

# Filters that a column of the table answers, and what a value is there; None for one that cannot be.
_SAME: Callable[[str], Any] = str
_STATE_CODES = {str(int(state)): int(state) for state in State}
COLUMNS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "availability-zone": ("zone", _SAME),
    "image-id": ("image_id", _SAME),
    "instance-id": ("id", _SAME),
    "instance-state-code": ("state", lambda text: _STATE_CODES.get(text, -1)),
    "instance-state-name": ("state", lambda text: int(BY_TITLE.get(text, -1))),
    "instance-type": ("instance_type", _SAME),
    "key-name": ("key_name", _SAME),
    "private-ip-address": ("private_address", _SAME),
    "reservation-id": ("reservation_id", _SAME),
    "subnet-id": ("subnet_id", _SAME),
    "vpc-id": ("vpc_id", _SAME),
}
