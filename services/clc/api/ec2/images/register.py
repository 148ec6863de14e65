"""RegisterImage: an object of the object store becomes an image; or a kernel, or a ramdisk.

Images are of instance-store kind, fully virtualised. As on Eucalyptus a `KernelId` of `true` says that the
object is a kernel itself, `RamdiskId` the same of a ramdisk, and their ids are what a machine image names.
Source: "Amazon Machine Images" of the EC2 user guide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import (
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from mallee.clc.api.ec2 import disks, ec2, tagging
from mallee.clc.api.ec2.images import checks, sources
from mallee.clc.api.ec2.images.sources import BUILT_IN
from mallee.clc.call import Call
from mallee.clc.db import images, tags
from mallee.clc.db.images import KERNEL, MACHINE, RAMDISK, Image
from mallee.domain.guest import GuestImage, ImageFile
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RegisterImageRequestTypeDef

Result = dict[str, Any]

_is_device = re.compile(r"[a-zA-Z0-9/]{1,64}").fullmatch
_ARCHITECTURES = ("i386", "x86_64", "arm64")
_ITSELF = "true"  # as a KernelId or RamdiskId: the object is one


@ec2.action(
    "RegisterImage",
    accepts=(
        *("Name", "Description", "ImageLocation", "Architecture", "RootDeviceName", "KernelId", "RamdiskId"),
        *("VirtualizationType", "EnaSupport", "ImdsSupport", "TagSpecifications", "DryRun", *disks.ACCEPTS),
    ),
)
async def register_image(call: Call, req: RegisterImageRequestTypeDef) -> Result:
    """A new image of the account's own, from an object that the account may read: raw or qcow2, looked at first."""
    image = _checked(call, req)
    wanted = tagging.specified(req.get("TagSpecifications", ()), "image")["image"]
    sizes = disks.read(req.get("BlockDeviceMappings", ()))
    image = await _with_files(call, req, image)
    gib = disks.root_gib(sizes, image)
    if gib:
        image = image.with_more(root_gib=gib)

    def work(tx: Tx) -> str:
        checks.check_unused(tx, call.account, image.name)
        images.add(tx, image)
        tags.attach(tx, call.account, "image", (image.id,), wanted)
        return image.id

    return {"ImageId": await call.change(work, str)}


def _checked(call: Call, req: RegisterImageRequestTypeDef) -> Image:
    """What the request alone can tell."""
    location, device = req.get("ImageLocation", ""), req.get("RootDeviceName", "/dev/sda1")
    name, description = (
        checks.checked_name(req["Name"]),
        checks.checked_description(req.get("Description", "")),
    )
    if not location:
        raise MissingParameter("ImageLocation")
    if len(location) > 1024 or not location.isprintable():
        raise InvalidParameterValue("ImageLocation must have at most 1024 printable characters")
    if not _is_device(device):
        raise InvalidParameterValue(f"Value ({device[:100]}) for parameter RootDeviceName is invalid.")
    return Image(
        id=resource_id(call.cloud.entropy, _kind(req)),
        account_id=call.account,
        owner_alias="",
        name=name,
        description=description,
        location=location,
        architecture=checks.one_of("Architecture", req.get("Architecture", "x86_64"), _ARCHITECTURES),
        virtualization_type=_virtualization(req.get("VirtualizationType", "hvm")),
        root_device_name=device,
        imds_support=checks.one_of("ImdsSupport", req.get("ImdsSupport", ""), ("", "v2.0")),
        ena_support=req.get("EnaSupport", False),
        created_ms=call.now_ms,
    )


def _kind(req: RegisterImageRequestTypeDef) -> str:
    asked = {KERNEL: req.get("KernelId", ""), RAMDISK: req.get("RamdiskId", "")}
    are = [kind for kind, given in asked.items() if given == _ITSELF]
    if not are:
        for kind, given in asked.items():
            if given:
                images.check_id(given, kind)
        return MACHINE
    if len(are) > 1 or any(given for given in asked.values() if given != _ITSELF):
        raise InvalidParameterCombination(
            "An image is a kernel or a ramdisk or has such, and only one of these."
        )
    return are[0]


def _virtualization(given: str) -> str:
    if given == "paravirtual":
        raise UnsupportedOperation("This cloud runs hvm images only.")
    return checks.one_of("VirtualizationType", given, ("hvm",))


async def _with_files(call: Call, req: RegisterImageRequestTypeDef, image: Image) -> Image:
    """The image with its own file and those of the kernel and ramdisk that it names."""
    if image.location.startswith(BUILT_IN):
        return _built_in(call, image)
    file = await sources.examined(call, image.location, image.kind, image.architecture)
    if image.kind == KERNEL:
        return image.with_more(files=GuestImage(kernel=file))
    if image.kind == RAMDISK:
        return image.with_more(files=GuestImage(ramdisk=file))
    kernel_id, ramdisk_id = req.get("KernelId", ""), req.get("RamdiskId", "")
    if ramdisk_id and not kernel_id:
        raise InvalidParameterCombination("An image that has a ramdisk needs a kernel, too.")

    def look(tx: Tx) -> GuestImage:
        return GuestImage(
            file,
            _file_of(tx, call.account, kernel_id, KERNEL),
            _file_of(tx, call.account, ramdisk_id, RAMDISK),
        )

    files = await call.cloud.db.read(look)
    return image.with_more(files=files, kernel_id=kernel_id, ramdisk_id=ramdisk_id)


def _file_of(tx: Tx, account: str, image_id: str, kind: str) -> ImageFile | None:
    """The file of a kernel or ramdisk that the account may use. Raises InvalidAMIIDNotFound."""
    if not image_id:
        return None
    files = checks.available(images.get(tx, account, image_id, kind)).more.files
    assert files is not None, "a kernel or ramdisk has its file"
    return files.kernel if kind == KERNEL else files.ramdisk


def _built_in(call: Call, image: Image) -> Image:
    """One that every node has in a folder of its own: the operator's matter."""
    if (
        not call.is_cloud_admin
        or image.kind != MACHINE
        or not image.location.removeprefix(BUILT_IN).isalnum()
    ):
        raise InvalidParameterValue(
            f"Value ({image.location[:100]}) for parameter imageLocation is invalid. Built-in images are the"
            " operator's to register; upload an image, and name bucket/key."
        )
    return image
