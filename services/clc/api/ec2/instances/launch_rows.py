"""What a launch writes: instances, their interfaces with addresses, tags and user data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import msgspec

from mallee.clc.api.ec2.disks import root_gib
from mallee.clc.api.ec2.instances.launch_request import Launch, metadata_options
from mallee.clc.api.ec2.instances.view import Seen, Wired, private_dns
from mallee.clc.call import Call
from mallee.clc.db import instances, interfaces, network, tags
from mallee.clc.db.images import Image
from mallee.clc.db.instances import Details, InstanceRow, MetadataOptions
from mallee.clc.db.interfaces import Interface
from mallee.clc.db.network import Subnet
from mallee.clc.db.security_groups import Group
from mallee.clc.errors import InstanceLimitExceeded
from mallee.clc.instance import Operation, State
from mallee.domain.guest import Power
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id, resource_ids
from mallee.rpc import cluster_pb2 as pb


class Placed(NamedTuple):
    """Claims in the zone of a subnet."""

    subnet: Subnet
    placements: Sequence[pb.Placement]


@dataclass(frozen=True, slots=True)
class Batch:
    """A reservation before its transaction: ids for as many instances as are wished for."""

    reservation_id: str
    instance_ids: list[str]
    interface_ids: list[str]
    attachment_ids: list[str]
    details: Details
    groups: list[Group]
    launched_ms: int

    @classmethod
    def make(cls, call: Call, launch: Launch, image: Image, public_key: str, groups: list[Group]) -> Self:
        """Everything that is the same for all, and every id: a transaction may run twice."""
        entropy, count = call.cloud.entropy, launch.most
        required = image.imds_support == "v2.0"
        options = MetadataOptions("required", 2) if required else MetadataOptions()
        about = image.more
        details = msgspec.structs.replace(
            launch.details,
            architecture=image.architecture,
            image_location=image.location,
            files=about.files,
            root_gib=root_gib(launch.disks, image),
            root_device_name=image.root_device_name,
            virtualization=image.virtualization_type,
            public_key=public_key,
            metadata=metadata_options(launch.metadata, options),
            pinned_host=launch.host_id,
            has_user_data=bool(launch.user_data),
        )
        return cls(
            reservation_id=resource_id(entropy, "r"),
            instance_ids=resource_ids(entropy, "i", count),
            interface_ids=resource_ids(entropy, "eni", count),
            attachment_ids=resource_ids(entropy, "eni-attach", count),
            details=details,
            groups=groups,
            launched_ms=call.now_ms,
        )


def write(tx: Tx, call: Call, launch: Launch, batch: Batch, placed: Placed) -> list[Seen]:
    """The whole launch in the caller's transaction, upon ground that was looked at there.

    Raises:
        InsufficientFreeAddressesInSubnet, InstanceLimitExceeded
    """
    count = len(placed.placements)
    _check_limit(tx, call, count)
    group_ids = [each.id for each in batch.groups]
    addresses = network.allocate(tx, placed.subnet, count, launch.nic.address)
    details = msgspec.structs.replace(batch.details, size=count)
    region = call.cloud.config.region
    rows, nics, owns = [], [], []
    for index, (claim, number) in enumerate(zip(placed.placements, addresses, strict=True)):
        address = network.text(number)
        own = msgspec.structs.replace(
            details, launch_index=index, hostname=_hostname(details, claim.instance_id, address, region)
        )
        rows.append(_row(call, launch, batch, placed.subnet, claim, address, own))
        owns.append(own)
        nics.append(_nic(call, launch, batch, placed.subnet, index, claim.instance_id, number))
    instances.add(tx, rows)
    interfaces.insert_interfaces(tx, nics, [group_ids] * count)
    tags.attach(tx, call.account, "instance", [row.id for row in rows], launch.tags["instance"])
    nic_tags = launch.tags["network-interface"]
    tags.attach(tx, call.account, "network-interface", [nic.id for nic in nics], nic_tags)
    if launch.user_data:
        instances.keep_user_data(tx, [row.id for row in rows], launch.user_data)
    named = [(each.id, each.name) for each in batch.groups]
    shown = dict(sorted(launch.tags["instance"].items()))
    return [
        Seen(row, own, [Wired(nic, named, nic_tags)], shown)
        for row, own, nic in zip(rows, owns, nics, strict=True)
    ]


def _check_limit(tx: Tx, call: Call, count: int) -> None:
    limit = call.cloud.config.max_instances_per_account
    if limit and instances.count_living(tx, call.account) + count > limit:
        raise InstanceLimitExceeded(
            f"You have requested more instances ({count}) than your current instance limit of {limit}"
            " allows. Terminate instances or ask the cloud's administrator to raise the limit."
        )


def _hostname(details: Details, instance_id: str, address: str, region: str) -> str:
    if details.dns.hostname_type == "resource-name":
        return f"{instance_id}.{region}.compute.internal"
    return private_dns(address, region)


def _row(
    call: Call,
    launch: Launch,
    batch: Batch,
    subnet: Subnet,
    claim: pb.Placement,
    address: str,
    details: Details,
) -> InstanceRow:
    return InstanceRow(
        id=claim.instance_id,
        version=1,
        account_id=call.account,
        reservation_id=batch.reservation_id,
        zone=subnet.zone,
        state=int(State.PENDING),
        operation=Operation.LAUNCH.value,
        cause_code="",
        cause_message="",
        cause_ms=0,
        changed_ms=batch.launched_ms,
        power=Power.RUNNING.value,
        force=False,
        reboots=0,
        revision=1,
        unsettled=True,
        host_id=claim.host_id,
        generation=claim.generation,
        reachable=True,
        reboots_done=0,
        migration_id="",
        image_id=launch.image_id,
        instance_type=launch.type.name,
        vpc_id=subnet.vpc_id,
        subnet_id=subnet.id,
        private_address=address,
        key_name=launch.key_name,
        launched_ms=batch.launched_ms,
        details=instances.encode(details),
    )


def _nic(
    call: Call, launch: Launch, batch: Batch, subnet: Subnet, index: int, instance_id: str, number: int
) -> Interface:
    nic_id = batch.interface_ids[index]
    return Interface(
        id=nic_id,
        account_id=call.account,
        subnet_id=subnet.id,
        vpc_id=subnet.vpc_id,
        zone=subnet.zone,
        address=number,
        mac=interfaces.mac_of(nic_id),
        description=launch.nic.description,
        instance_id=instance_id,
        attachment_id=batch.attachment_ids[index],
        attached_ms=batch.launched_ms,
        delete_on_termination=launch.nic.delete_on_termination,
    )
