"""Block device mappings: all that there is of them here is the size of the root disk.

Instances have one disk, made from their image and kept on their node. There are no volumes and no
snapshots, so a mapping may say how large the root disk is, or that some other device is not wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mallee.aws.errors import InvalidParameterValue, UnsupportedOperation
from mallee.clc.db.images import Image
from mallee.clc.errors import InvalidBlockDeviceMapping

LARGEST_GIB: Final = 16_384  # as of EC2's largest general purpose volume
# What an action that takes mappings accepts of them.
ACCEPTS: Final = tuple(
    f"BlockDeviceMappings.{name}"
    for name in ("DeviceName", "NoDevice", "Ebs.VolumeSize", "Ebs.DeleteOnTermination")
)
_GIB: Final = 1 << 30

Disks = tuple[tuple[str, int], ...]  # (device, GiB) of each device that a size was asked for


def read(mappings: Sequence[Mapping[str, Any]]) -> Disks:
    """The sizes that are asked for.

    Raises:
        InvalidBlockDeviceMapping, InvalidParameterValue, UnsupportedOperation
    """
    disks: dict[str, int] = {}
    for mapping in mappings:
        if "NoDevice" in mapping:
            continue
        device, ebs = mapping.get("DeviceName", ""), mapping.get("Ebs", {})
        if not device:
            raise InvalidBlockDeviceMapping("A block device mapping must name its device.")
        if device in disks:
            raise InvalidBlockDeviceMapping(f"The device '{device}' is used in more than one mapping.")
        if "VolumeSize" not in ebs:
            raise UnsupportedOperation(
                f"The mapping of {device} must say Ebs.VolumeSize, or NoDevice: this cloud has no volumes."
            )
        if not ebs.get("DeleteOnTermination", True):
            raise UnsupportedOperation("A root disk ends with its instance: this cloud has no volumes.")
        if not 1 <= ebs["VolumeSize"] <= LARGEST_GIB:
            raise InvalidParameterValue(
                f"Value ({ebs['VolumeSize']}) for parameter volumeSize is invalid. It must be between 1 and"
                f" {LARGEST_GIB}."
            )
        disks[device] = ebs["VolumeSize"]
    return tuple(disks.items())


def root_gib(disks: Disks, image: Image) -> int:
    """Of the root disk: as asked, else as the image says, 0 for as large as the image's own.

    Raises:
        UnsupportedOperation: a size for another device.
        InvalidBlockDeviceMapping: smaller than the image.
    """
    gib = image.more.root_gib
    for device, size in disks:
        if device != image.root_device_name:
            raise UnsupportedOperation(
                f"There is no device {device}: an instance has its root disk, {image.root_device_name}, and no"
                " volumes."
            )
        gib = size
    files = image.more.files
    least = -(-files.root.virtual_bytes // _GIB) if files and files.root else 0
    if gib and gib < least:
        raise InvalidBlockDeviceMapping(
            f"Volume of size {gib}GB is smaller than the image '{image.id}', expect size >= {least}GB"
        )
    return gib


def shown(image: Image) -> list[dict[str, Any]]:
    """The root disk as an image's mappings show it; none where it is as large as the image."""
    gib = image.more.root_gib
    if not gib:
        return []
    return [{"DeviceName": image.root_device_name, "Ebs": {"VolumeSize": gib, "DeleteOnTermination": True}}]
