"""Machine images as records: registered, described, deregistered.

Images are of instance-store kind, fully virtualised; where the bytes are is their location's
matter. Source: "Amazon Machine Images" of the EC2 user guide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import (
    AuthFailure,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.call import Call
from mallee.clc.db import images, tags
from mallee.clc.db.images import Image
from mallee.clc.errors import InvalidAMINameDuplicate, InvalidAMINameMalformed
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DeregisterImageRequestTypeDef,
        DescribeImageAttributeRequestTypeDef,
        RegisterImageRequestTypeDef,
    )

Result = dict[str, Any]

_is_name = re.compile(r"[a-zA-Z0-9()\[\] ./\-'@_]{3,128}").fullmatch
_is_device = re.compile(r"[a-zA-Z0-9/]{1,64}").fullmatch
_ARCHITECTURES = ("i386", "x86_64", "arm64")


@ec2.action(
    "RegisterImage",
    accepts=(
        *("Name", "Description", "ImageLocation", "Architecture", "RootDeviceName"),
        *("VirtualizationType", "EnaSupport", "ImdsSupport", "TagSpecifications", "DryRun"),
    ),
)
async def register_image(call: Call, req: RegisterImageRequestTypeDef) -> Result:
    """A new image of the account's own. Without a word on it, it is `x86_64` and `hvm`."""
    image = _checked(call, req)
    wanted = tagging.specified(req.get("TagSpecifications", ()), "image")["image"]

    def work(tx: Tx) -> str:
        there = images.named(tx, call.account, image.name)
        if there is not None:
            raise InvalidAMINameDuplicate(f"AMI name {image.name} is already in use by AMI {there}")
        images.add(tx, image)
        tags.attach(tx, call.account, "image", (image.id,), wanted)
        return image.id

    return {"ImageId": await call.change(work, str)}


def _checked(call: Call, req: RegisterImageRequestTypeDef) -> Image:
    name, description, location = req["Name"], req.get("Description", ""), req.get("ImageLocation", "")
    if not _is_name(name):
        raise InvalidAMINameMalformed
    if len(description) > 255:
        raise InvalidParameterValue("Description is longer than 255 characters")
    if not location:
        raise MissingParameter("ImageLocation")
    if len(location) > 1024 or not location.isprintable():
        raise InvalidParameterValue("ImageLocation must have at most 1024 printable characters")
    device = req.get("RootDeviceName", "/dev/sda1")
    if not _is_device(device):
        raise InvalidParameterValue(f"Value ({device[:100]}) for parameter RootDeviceName is invalid.")
    return Image(
        id=resource_id(call.cloud.entropy, "ami"),
        account_id=call.account,
        owner_alias="",
        name=name,
        description=description,
        location=location,
        architecture=_one_of("Architecture", req.get("Architecture", "x86_64"), _ARCHITECTURES),
        virtualization_type=_virtualization(req.get("VirtualizationType", "hvm")),
        root_device_name=device,
        imds_support=_one_of("ImdsSupport", req.get("ImdsSupport", ""), ("", "v2.0")),
        ena_support=req.get("EnaSupport", False),
        created_ms=call.now_ms,
    )


def _virtualization(given: str) -> str:
    if given == "paravirtual":
        raise UnsupportedOperation("This cloud runs hvm images only.")
    return _one_of("VirtualizationType", given, ("hvm",))


def _one_of(name: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise InvalidParameterValue(f"Value ({given[:100]}) for parameter {name} is invalid.")
    return given


def _own(tx: Tx, account: str, image_id: str) -> Image:
    """An image that the account may do more with than launch it.

    Raises:
        AuthFailure: a public image of another account's.
        InvalidAMIIDNotFound, InvalidAMIIDMalformed: as `images.get`.
    """
    image = images.get(tx, account, image_id)
    if image.account_id != account:
        raise AuthFailure(f"Not authorized for image:{image_id}")
    return image


@ec2.action("DeregisterImage", accepts=("ImageId", "DeleteAssociatedSnapshots", "DryRun"))
async def deregister_image(call: Call, req: DeregisterImageRequestTypeDef) -> Result:
    """Forget an image of the account's own; what runs from it goes on. It never has snapshots."""
    image_id = req["ImageId"]

    def work(tx: Tx) -> None:
        _own(tx, call.account, image_id)
        images.remove(tx, call.account, image_id)
        tags.drop(tx, call.account, (image_id,))

    await call.change(work, type(None))
    return {"Return": True, "DeleteSnapshotResults": []}


@ec2.action("DescribeImageAttribute", accepts=("Attribute", "ImageId", "DryRun"))
async def describe_image_attribute(call: Call, req: DescribeImageAttributeRequestTypeDef) -> Result:
    """One attribute of an image of the account's own; an empty one where the image has none."""
    image = await call.cloud.db.read(lambda tx: _own(tx, call.account, req["ImageId"]))
    description = {"Value": image.description} if image.description else {}
    imds = {"Value": image.imds_support} if image.imds_support else {}
    known: dict[str, Result] = {
        "description": {"Description": description},
        "kernel": {"KernelId": {}},
        "ramdisk": {"RamdiskId": {}},
        "launchPermission": {"LaunchPermissions": [{"Group": "all"}] if image.public else []},
        "productCodes": {"ProductCodes": []},
        "blockDeviceMapping": {"BlockDeviceMappings": []},
        "sriovNetSupport": {"SriovNetSupport": {}},
        "bootMode": {"BootMode": {}},
        "tpmSupport": {"TpmSupport": {}},
        "uefiData": {"UefiData": {}},
        "imdsSupport": {"ImdsSupport": imds},
        "deregistrationProtection": {"DeregistrationProtection": {"Value": "disabled"}},
    }
    attribute = req["Attribute"]
    if attribute == "lastLaunchedTime":
        raise UnsupportedOperation("This cloud does not record when an image was launched last.")
    if attribute not in known:
        raise InvalidParameterValue(f"Value ({attribute}) for parameter attribute is invalid.")
    return {"ImageId": image.id, **known[attribute]}
