"""An instance as DescribeInstances shows it, in the words of Amazon's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mallee.aws.protocol import Fragment
from mallee.clc.api.ec2.zones import zone_ids
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import instances, interfaces, network, security_groups, tags
from mallee.clc.db.instances import Details, InstanceRow
from mallee.clc.db.interfaces import Interface
from mallee.clc.instance import USER_SHUTDOWN, Operation, State
from mallee.kernel.db import Tx

GroupNames = Mapping[str, str]


class Wired(NamedTuple):
    """A network interface, the (id, name) of the groups that guard it, and its tags."""

    nic: Interface
    groups: Sequence[tuple[str, str]]
    tags: Mapping[str, str]


class Seen(NamedTuple):
    """Everything that is shown of an instance."""

    row: InstanceRow
    details: Details
    wired: Sequence[Wired]
    tags: Mapping[str, str]


def look(tx: Tx, account: str, rows: Sequence[InstanceRow]) -> list[Seen]:
    """These instances with their interfaces, groups and tags: four queries however many they are."""
    ids = [row.id for row in rows]
    if not ids:
        return []
    nics = interfaces.of_instances(tx, account, ids)
    guards = interfaces.groups_of(tx, [nic.id for nic in nics]) if nics else {}
    names = group_names(tx, account, {each for group_ids in guards.values() for each in group_ids})
    tagged = tags.of(tx, account, [*ids, *(nic.id for nic in nics)])
    by_instance: dict[str, list[Wired]] = {}
    for nic in nics:
        groups = [(each, names.get(each, "")) for each in guards.get(nic.id, ())]
        by_instance.setdefault(nic.instance_id, []).append(Wired(nic, groups, tagged.get(nic.id, {})))
    return [
        Seen(row, instances.decode(row.details), by_instance.get(row.id, ()), tagged.get(row.id, {}))
        for row in rows
    ]


def group_names(tx: Tx, account: str, ids: Iterable[str]) -> GroupNames:
    """The names of these security groups."""
    wanted = list(ids)
    return {each.id: each.name for each in security_groups.by_ids(tx, account, wanted)} if wanted else {}


def state_of(row: InstanceRow) -> dict[str, Any]:
    """EC2's InstanceState."""
    return {"Code": row.state, "Name": State(row.state).title}


def tag_set(tagged: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as lists carry them."""
    return [{"Key": key, "Value": value} for key, value in tagged.items()]


def private_dns(address: str, region: str) -> str:
    """`ip-172-31-0-4.mallee-1.compute.internal`."""
    return f"ip-{address.replace('.', '-')}.{region}.compute.internal" if address else ""


def render(call: Call, seen: Seen) -> Fragment:
    """The instance as an element of an answer."""
    return call.cloud.wire.fragment("DescribeInstances", "Reservations.Instances", instance(call, seen))


def instance(call: Call, seen: Seen) -> dict[str, Any]:
    """The instance; its node only for those who run the cloud."""
    row, details = seen.row, seen.details
    region = call.cloud.config.region
    shown: dict[str, Any] = {
        "AmiLaunchIndex": details.launch_index,
        "ImageId": row.image_id,
        "InstanceId": row.id,
        "InstanceType": row.instance_type,
        "LaunchTime": moment(row.launched_ms),
        "Monitoring": {"State": "enabled" if details.monitoring else "disabled"},
        "Placement": _placement(call, row, details),
        "PrivateDnsName": "" if row.is_over else details.hostname,
        "PublicDnsName": "",
        "ProductCodes": [],
        "State": state_of(row),
        "StateTransitionReason": transition_reason(row),
        "Architecture": details.architecture,
        "BlockDeviceMappings": [],
        "ClientToken": details.client_token,
        "EbsOptimized": details.ebs_optimized,
        "EnaSupport": True,
        "Hypervisor": "xen",  # what EC2 answers for its Nitro types, too
        "NetworkInterfaces": [_interface(each, region) for each in seen.wired],
        "RootDeviceName": details.root_device_name,
        "RootDeviceType": details.root_device_type,
        "SecurityGroups": _groups(seen.wired[0].groups) if seen.wired else [],
        "Tags": tag_set(seen.tags),
        "VirtualizationType": details.virtualization,
        "CpuOptions": {"CoreCount": details.cores, "ThreadsPerCore": details.threads_per_core},
        "CapacityReservationSpecification": {"CapacityReservationPreference": "open"},
        "HibernationOptions": {"Configured": False},
        "MetadataOptions": metadata_options(row, details),
        "EnclaveOptions": {"Enabled": False},
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "UsageOperationUpdateTime": moment(row.launched_ms),
        "PrivateDnsNameOptions": _dns_options(details),
        "MaintenanceOptions": {"AutoRecovery": details.auto_recovery},
        "CurrentInstanceBootMode": "legacy-bios",
        "Operator": {"Managed": False},
    }
    _add_what_is_there(shown, seen)
    return shown


def _add_what_is_there(shown: dict[str, Any], seen: Seen) -> None:
    """Members that EC2 leaves out where there is nothing to say."""
    row = seen.row
    if row.key_name:
        shown["KeyName"] = row.key_name
    if row.cause_code:
        shown["StateReason"] = {"Code": row.cause_code, "Message": row.cause_message}
    if row.private_address:
        shown["PrivateIpAddress"] = row.private_address
        shown["SubnetId"] = row.subnet_id
        shown["VpcId"] = row.vpc_id
    if seen.wired:
        shown["SourceDestCheck"] = seen.wired[0].nic.source_dest_check


def transition_reason(row: InstanceRow) -> str:
    """`User initiated (2026-01-01 00:00:00 GMT)`, or the code of what the cloud did."""
    if not row.cause_code:
        return ""
    if row.cause_code == USER_SHUTDOWN.code:
        return f"User initiated ({moment(row.cause_ms):%Y-%m-%d %H:%M:%S} GMT)"
    return row.cause_code


def metadata_options(row: InstanceRow, details: Details) -> dict[str, Any]:
    options = details.metadata
    return {
        "State": "pending"
        if row.state == State.PENDING or row.operation == Operation.DESCRIBE
        else "applied",
        "HttpTokens": options.tokens,
        "HttpPutResponseHopLimit": options.hop_limit,
        "HttpEndpoint": options.endpoint,
        "HttpProtocolIpv6": options.ipv6,
        "InstanceMetadataTags": options.tags,
    }


def _placement(call: Call, row: InstanceRow, details: Details) -> dict[str, Any]:
    placement = {
        "AvailabilityZone": row.zone,
        "AvailabilityZoneId": zone_ids(call).get(row.zone, ""),
        "GroupName": "",
        "Tenancy": "default",
    }
    if call.is_cloud_admin and row.host_id and not row.is_over:
        placement["HostId"] = row.host_id
    if details.pinned_host:
        placement["Affinity"] = "host"
    return placement


def _dns_options(details: Details) -> dict[str, Any]:
    return {
        "HostnameType": details.dns.hostname_type,
        "EnableResourceNameDnsARecord": details.dns.a_record,
        "EnableResourceNameDnsAAAARecord": details.dns.aaaa_record,
    }


def _groups(groups: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"GroupId": group_id, "GroupName": name} for group_id, name in groups]


def _interface(wired: Wired, region: str) -> dict[str, Any]:
    nic = wired.nic
    address = network.text(nic.address)
    name = private_dns(address, region)
    return {
        "Attachment": {
            "AttachTime": moment(nic.attached_ms),
            "AttachmentId": nic.attachment_id,
            "DeleteOnTermination": nic.delete_on_termination,
            "DeviceIndex": nic.device_index,
            "Status": "attached",
            "NetworkCardIndex": 0,
        },
        "Description": nic.description,
        "Groups": _groups(wired.groups),
        "Ipv6Addresses": [],
        "MacAddress": nic.mac,
        "NetworkInterfaceId": nic.id,
        "OwnerId": nic.account_id,
        "PrivateDnsName": name,
        "PrivateIpAddress": address,
        "PrivateIpAddresses": [{"Primary": True, "PrivateDnsName": name, "PrivateIpAddress": address}],
        "SourceDestCheck": nic.source_dest_check,
        "Status": nic.status,
        "SubnetId": nic.subnet_id,
        "VpcId": nic.vpc_id,
        "InterfaceType": "interface",
        "Operator": {"Managed": False},
    }
