"""An instance's wish as its cluster controller hears it, the guest's whole specification included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType

from mallee.clc import host_ids
from mallee.clc.db import instances, interfaces, network, tags
from mallee.clc.db.instances import Details, InstanceRow, MetadataOptions
from mallee.clc.db.interfaces import Interface
from mallee.domain.guest import GuestImage, Power, is_path
from mallee.kernel.db import Tx
from mallee.rpc import cluster_pb2, common_pb2

# A node acts upon these alone; every other tag is the user's own business.
TAG_PREFIX = "mallee:"

_PLAIN = MetadataOptions()
_POWER = {
    Power.RUNNING: common_pb2.POWER_RUNNING,
    Power.STOPPED: common_pb2.POWER_STOPPED,
    Power.TERMINATED: common_pb2.POWER_TERMINATED,
}


def resources(details: Details) -> common_pb2.Resources:
    """What the guest takes from a node."""
    return common_pb2.Resources(vcpus=details.vcpus, memory_mib=details.memory_mib)


def room_for(row: InstanceRow, details: Details) -> cluster_pb2.Ask:
    """What an instance that is started again asks its zone for."""
    return cluster_pb2.Ask(
        group_id=row.id,
        min_count=1,
        instance_ids=[row.id],
        resources=resources(details),
        host_id=details.pinned_host,
    )


def desired(tx: Tx, ids: Sequence[str]) -> list[cluster_pb2.DesiredInstance]:
    """The wishes of these instances, as they stand in this transaction."""
    rows = instances.find(tx, ids)
    guests = [row for row in rows if row.power != Power.TERMINATED]
    wired, marked, data = _surroundings(tx, guests)
    return [
        wish(
            row,
            instances.decode(row.details),
            wired.get(row.id),
            marked.get(row.id, {}),
            data.get(row.id, b""),
        )
        for row in rows
    ]


def _surroundings(
    tx: Tx, rows: Sequence[InstanceRow]
) -> tuple[dict[str, tuple[Interface, str]], dict[str, dict[str, str]], dict[str, bytes]]:
    """By instance: its interface with the subnet's block, its tags, its user data."""
    wired: dict[str, tuple[Interface, str]] = {}
    marked: dict[str, dict[str, str]] = {}
    by_account: dict[str, list[str]] = {}
    for row in rows:
        by_account.setdefault(row.account_id, []).append(row.id)
    for account, ids in by_account.items():
        marked |= tags.of(tx, account, ids)
        blocks = {each.id: each.cidr for each in network.subnets_of(tx, account)}
        for nic in interfaces.of_instances(tx, account, ids):
            if nic.device_index == 0:
                wired[nic.instance_id] = nic, blocks.get(nic.subnet_id, "")
    return wired, marked, instances.user_data_of(tx, [row.id for row in rows])


def wish(
    row: InstanceRow,
    details: Details,
    wired: tuple[Interface, str] | None = None,
    marked: Mapping[str, str] = MappingProxyType({}),
    data: bytes = b"",
) -> cluster_pb2.DesiredInstance:
    """One wish; the guest's surroundings matter only while it is not to end."""
    takes = resources(details)
    guest = b""
    if row.power != Power.TERMINATED:
        guest = _guest(row, details, wired, marked, data).SerializeToString()
    return cluster_pb2.DesiredInstance(
        instance_id=row.id,
        revision=row.revision,
        power=_POWER[Power(row.power)],
        force=row.force,
        reboots=row.reboots,
        resources=takes,
        guest=guest,
        host_id=host_ids.local(row.zone, details.pinned_host),
        generation=row.generation,
    )


def _guest(
    row: InstanceRow,
    details: Details,
    wired: tuple[Interface, str] | None,
    marked: Mapping[str, str],
    data: bytes,
) -> common_pb2.Guest:
    guest = common_pb2.Guest(
        instance_id=row.id,
        account_id=row.account_id,
        instance_type=row.instance_type,
        resources=resources(details),
        image_id=row.image_id,
        image_location=details.image_location,
        architecture=details.architecture,
        hostname=details.hostname,
        private_address=row.private_address,
        public_key=details.public_key,
        key_name=row.key_name,
        user_data=data,
        tags={key: value for key, value in marked.items() if key.startswith(TAG_PREFIX)},
        root_device_name=details.root_device_name,
        availability_zone=row.zone,
        launched_ms=row.launched_ms,
        stays=details.auto_recovery == "disabled",
        launch_index=details.launch_index,
        root_gib=details.root_gib,
        description=details.description,
    )
    if details.metadata != _PLAIN:
        guest.metadata.CopyFrom(_metadata(details.metadata, marked))
    if details.files is not None:
        guest.image.CopyFrom(_image(details.files))
    if wired:
        guest.mac_address, guest.subnet_cidr = wired[0].mac, wired[1]
    return guest


def _image(files: GuestImage) -> common_pb2.Image:
    return common_pb2.Image(
        **{
            part: common_pb2.ImageFile(**{each.name: getattr(file, each.name) for each in fields(file)})
            for part in ("root", "kernel", "ramdisk")
            if (file := getattr(files, part)) is not None
        }
    )


def _metadata(options: MetadataOptions, marked: Mapping[str, str]) -> common_pb2.MetadataOptions:
    shows_tags = options.tags == "enabled"
    return common_pb2.MetadataOptions(
        disabled=options.endpoint == "disabled",
        tokens_required=options.tokens == "required",
        hop_limit=options.hop_limit,
        tags=shows_tags,
        user_tags={key: value for key, value in marked.items() if is_path(key)} if shows_tags else {},
    )
