"""Messages into the domain's words and back; nothing behind this file knows protobuf."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import IPv4Address

from google.protobuf.message import DecodeError

from mallee.domain.guards import Guarded, GuardRule, Guards
from mallee.domain.guest import (
    Cause,
    Guest,
    GuestImage,
    GuestKey,
    ImageFile,
    MetadataOptions,
    Moment,
    Phase,
    Power,
    Resources,
)
from mallee.kernel.errors import Fault, Kind
from mallee.nc.driver import CaptureProgress
from mallee.rpc import attendance_pb2, common_pb2, node_pb2

_POWER = {
    common_pb2.POWER_RUNNING: Power.RUNNING,
    common_pb2.POWER_STOPPED: Power.STOPPED,
    common_pb2.POWER_TERMINATED: Power.TERMINATED,
}
_PHASE = {phase: f"PHASE_{phase.name}" for phase in Phase}
NOTHING = Resources(0, 0)
PLAIN = MetadataOptions()
_BOUNDS = Resources(1_024, 64 * 1024 * 1024)  # above any host; keeps a wrong message from taking all memory


@dataclass(frozen=True, slots=True)
class Order:
    """What a guest should be. `guest` is the message `Guest`, read when it is needed.

    `description` says which one that is, where there is a guest already that may have another.
    """

    key: GuestKey
    revision: int
    power: Power
    force: bool = False
    reboots: int = 0
    guest: bytes = b""
    description: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """What a guest is, in answer to the order of that revision."""

    key: GuestKey
    revision: int
    phase: Phase
    cause: Cause | None = None
    moments: tuple[Moment, ...] = ()
    reboots: int = 0
    resources: Resources = NOTHING
    description: int = 0


def order_of(message: attendance_pb2.GuestOrder) -> Order | None:
    """The order; None for one that says nothing this version understands."""
    power = _POWER.get(message.power)
    if power is None or not message.instance_id:
        return None
    key = GuestKey(message.instance_id, message.generation)
    return Order(key, message.revision, power, message.force, message.reboots, message.guest)


def fact_message(fact: Fact) -> attendance_pb2.GuestFact:
    return attendance_pb2.GuestFact(
        instance_id=fact.key.instance_id,
        generation=fact.key.generation,
        revision=fact.revision,
        phase=_PHASE[fact.phase],
        cause=None
        if fact.cause is None
        else common_pb2.Cause(code=fact.cause.code, message=fact.cause.message),
        moments=[common_pb2.Moment(name=each.name, at_ms=each.at_ms) for each in fact.moments],
        reboots=fact.reboots,
        resources=resources_message(fact.resources),
        description=fact.description,
    )


def resources_message(resources: Resources) -> common_pb2.Resources:
    return common_pb2.Resources(vcpus=resources.vcpus, memory_mib=resources.memory_mib)


def capture_message(word: CaptureProgress | ImageFile) -> node_pb2.CaptureRootResponse:
    """What is told of a capture; an object is its end."""
    if isinstance(word, CaptureProgress):
        return node_pb2.CaptureRootResponse(bytes_done=word.done, bytes_total=word.total)
    file = common_pb2.ImageFile(
        bucket=word.bucket,
        key=word.key,
        version_id=word.version_id,
        size=word.size,
        etag=word.etag,
        format=word.format,
        virtual_bytes=word.virtual_bytes,
    )
    return node_pb2.CaptureRootResponse(bytes_done=word.size, bytes_total=word.size, file=file)


def key_of(subject: node_pb2.Subject) -> GuestKey:
    return GuestKey(subject.instance_id, subject.generation)


def description_of(raw: bytes) -> int:
    """Which description of its guest a message is; 0 for bytes that are none, which the start will tell."""
    try:
        return int(common_pb2.Guest.FromString(raw).description)
    except DecodeError:
        return 0


def guest_of(raw: bytes) -> Guest:
    """The guest that a message describes.

    Raises:
        Fault: INVALID `bad-guest`, when the bytes are none or its size is impossible.
    """
    try:
        read = common_pb2.Guest.FromString(raw)
    except DecodeError as error:
        raise _bad_guest(str(error)) from error
    size = Resources(read.resources.vcpus, read.resources.memory_mib)
    if not (0 < size.vcpus <= _BOUNDS.vcpus and 0 < size.memory_mib <= _BOUNDS.memory_mib):
        raise _bad_guest(f"Its size is {size.vcpus} vCPUs and {size.memory_mib} MiB.")
    # Thousands of guests share the words of their kind: one copy of each will do.
    same = sys.intern
    return Guest(
        instance_id=read.instance_id,
        account_id=same(read.account_id),
        instance_type=same(read.instance_type),
        resources=size,
        image_id=same(read.image_id),
        image_location=same(read.image_location),
        architecture=same(read.architecture),
        hostname=read.hostname,
        mac_address=read.mac_address,
        private_address=read.private_address,
        subnet_cidr=same(read.subnet_cidr),
        public_key=same(read.public_key),
        key_name=same(read.key_name),
        user_data=read.user_data,
        root_device_name=same(read.root_device_name),
        availability_zone=same(read.availability_zone),
        launched_ms=read.launched_ms,
        tags=dict(read.tags),
        image=_image_of(read.image) if read.HasField("image") else None,
        root_gib=read.root_gib,
        metadata=_metadata_of(read.metadata) if read.HasField("metadata") else PLAIN,
        launch_index=read.launch_index,
        description=read.description,
    )


def guards_of(read: common_pb2.Guards) -> Guards:
    """Security groups that a message says."""
    return Guards(
        {
            group.group_id: tuple(
                GuardRule(
                    rule.egress, rule.protocol, rule.from_port, rule.to_port, rule.cidr, rule.peer_group_id
                )
                for rule in group.rules
            )
            for group in read.groups
        },
        tuple(
            Guarded(guest.instance_id, guest.mac_address, guest.address, tuple(guest.group_ids))
            for guest in read.guests
        ),
        tuple(host for host in read.hosts if _is_address(host)),  # a tunnel leads to an address
    )


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _image_of(read: common_pb2.Image) -> GuestImage:
    return GuestImage(
        root=_file_of(read.root) if read.HasField("root") else None,
        kernel=_file_of(read.kernel) if read.HasField("kernel") else None,
        ramdisk=_file_of(read.ramdisk) if read.HasField("ramdisk") else None,
    )


def _file_of(read: common_pb2.ImageFile) -> ImageFile:
    same = sys.intern
    return ImageFile(
        same(read.bucket),
        same(read.key),
        same(read.version_id),
        read.size,
        same(read.etag),
        same(read.format),
        read.virtual_bytes,
    )


def _metadata_of(read: common_pb2.MetadataOptions) -> MetadataOptions:
    return MetadataOptions(
        enabled=not read.disabled,
        tokens_required=read.tokens_required,
        hop_limit=read.hop_limit or 1,
        tags=dict(read.user_tags) if read.tags else None,
    )


def _bad_guest(why: str) -> Fault:
    return Fault(Kind.INVALID, "The description of a guest cannot be read.", why=why, code="bad-guest")
