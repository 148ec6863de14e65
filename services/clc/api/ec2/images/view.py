"""Images as they are described: the account's own, those shared with it, and every public one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.protocol.scalars import milliseconds
from mallee.clc.api.ec2 import disks, ec2, tagging
from mallee.clc.api.ec2.listing import (
    TAG_LOOKS,
    Listing,
    Looks,
    Sought,
    listed,
    member,
    missing,
    nothing,
    page_of,
    slice_of,
)
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import images, tags
from mallee.clc.db.images import DISABLED, KERNEL, MACHINE, RAMDISK, Image
from mallee.clc.errors import InvalidAMIIDNotFound, InvalidUserIDMalformed
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeImagesRequestTypeDef

Result = dict[str, Any]
Fetch = Callable[[Tx, str, int], Sequence[Image]]

_TYPES = {MACHINE: "machine", KERNEL: "kernel", RAMDISK: "ramdisk"}
_ALIASES = ("amazon", "aws-backup-vault", "aws-marketplace")
_VOLUME = ("snapshot-id", "volume-type", "encrypted")
_WATERMARK = (
    *("source-image-creation-time", "source-image-id", "source-image-region"),
    *("watermark-creation-time", "watermark-key"),
)
_SCAN = (
    *("critical-fix-available-since", "finding-scan-date", "high-fix-available-since"),
    *("highest-finding-severity-label", "informational-fix-available-since"),
    *("low-fix-available-since", "medium-fix-available-since"),
)
_NONE = (
    *(f"block-device-mapping.{name}" for name in _VOLUME),
    *(f"image-watermark.{name}" for name in _WATERMARK),
    *(f"scan-result.{name}" for name in _SCAN),
    *("boot-mode", "platform", "product-code", "product-code.type", "sriov-net-support"),
    "instance-type-specification.supported-instance-type",
    *("instance-type-specification.unsupported-instance-type", "public-ssm-parameter-name"),
)
_LOOKS: Looks = {
    **TAG_LOOKS,
    **dict.fromkeys(_NONE, nothing),
    "architecture": member("Architecture"),
    "block-device-mapping.delete-on-termination": member("BlockDeviceMappings", "Ebs", "DeleteOnTermination"),
    "block-device-mapping.device-name": member("BlockDeviceMappings", "DeviceName"),
    "block-device-mapping.volume-size": member("BlockDeviceMappings", "Ebs", "VolumeSize"),
    "creation-date": member("CreationDate"),
    "description": member("Description"),
    "ena-support": member("EnaSupport"),
    "free-tier-eligible": member("FreeTierEligible"),
    "hypervisor": member("Hypervisor"),
    "image-allowed": member("ImageAllowed"),
    "image-id": member("ImageId"),
    "image-type": member("ImageType"),
    "is-public": member("Public"),
    "kernel-id": member("KernelId"),
    "manifest-location": member("ImageLocation"),
    "name": member("Name"),
    "owner-alias": member("ImageOwnerAlias"),
    "owner-id": member("OwnerId"),
    "ramdisk-id": member("RamdiskId"),
    "root-device-name": member("RootDeviceName"),
    "root-device-type": member("RootDeviceType"),
    "source-image-id": member("SourceImageId"),
    "source-image-region": member("SourceImageRegion"),
    "source-instance-id": member("SourceInstanceId"),
    "state": member("State"),
    "state-reason-code": member("StateReason", "Code"),
    "state-reason-message": member("StateReason", "Message"),
    "virtualization-type": member("VirtualizationType"),
}


@ec2.action(
    "DescribeImages",
    accepts=(
        *("ImageIds", "Owners", "ExecutableUsers", "Filters", "IncludeDeprecated", "IncludeDisabled"),
        *("MaxResults", "NextToken", "DryRun"),
    ),
    filters=_LOOKS,
)
async def describe_images(call: Call, req: DescribeImagesRequestTypeDef) -> Result:
    """The images that the account may launch, its own disabled ones only when asked for.

    Another account's that is deprecated is found by its id, or when asked for.
    """
    sought, page, wanted = (
        Sought(req.get("Filters"), _LOOKS),
        page_of(call, req, low=1),
        req.get("ImageIds", ()),
    )
    owners, users = _owners(call, req.get("Owners", ())), _users(call, req.get("ExecutableUsers", ()))
    for image_id in wanted:
        images.check_id(image_id)

    deprecated, disabled = req.get("IncludeDeprecated", False), req.get("IncludeDisabled", False)

    def work(tx: Tx) -> Listing:
        look = _asked(tx, call.account, wanted) if wanted else _narrowed(tx, call, sought, owners)
        shared = images.shared_with(tx, users - {"all"})

        def meant(image: Image) -> bool:
            if image.state == DISABLED and not disabled:
                return False
            foreign = image.account_id != call.account
            if foreign and not (deprecated or wanted) and 0 < image.more.deprecated_ms <= call.now_ms:
                return False
            owned = not owners or image.account_id in owners or (image.owner_alias or None) in owners
            return owned and (not users or image.id in shared or ("all" in users and image.public))

        def fetch(tx: Tx, after: str, size: int) -> Sequence[Image]:
            """Images that are meant, `size` of them unless there are no more."""
            found: list[Image] = []
            while True:
                rows = look(tx, after, size)
                found += [image for image in rows if meant(image)]
                if len(rows) < size or len(found) >= size:
                    return found[:size]
                after = rows[-1].id

        return listed(
            tx,
            page,
            fetch=fetch,
            show=lambda tx, rows: _shown(tx, call, rows),
            key=lambda image: image.id,
            sought=sought,
        )

    return (await call.cloud.db.read(work)).answer(call, "Images")


def _owners(call: Call, given: Sequence[str]) -> frozenset[str]:
    for owner in given:
        if owner not in {"self", *_ALIASES} and not _is_account(owner):
            raise InvalidUserIDMalformed(owner)
    return frozenset(call.account if owner == "self" else owner for owner in given)


def _users(call: Call, given: Sequence[str]) -> frozenset[str]:
    """Account ids, `self` as the caller's; `all` is everybody."""
    for user in given:
        if user not in {"self", "all"} and not _is_account(user):
            raise InvalidUserIDMalformed(user)
    return frozenset(call.account if user == "self" else user for user in given)


def _is_account(text: str) -> bool:
    return len(text) == 12 and text.isascii() and text.isdigit()


def _asked(tx: Tx, account: str, wanted: Sequence[str]) -> Fetch:
    rows = images.by_ids(tx, account, wanted)
    unknown = missing(wanted, {image.id for image in rows})
    if unknown:
        raise InvalidAMIIDNotFound(*unknown)
    return slice_of(rows, lambda image: image.id)


def _narrowed(tx: Tx, call: Call, sought: Sought, owners: frozenset[str]) -> Fetch:
    ids = sought.exact("image-id")
    if ids is not None:
        return slice_of(images.by_ids(tx, call.account, ids), lambda image: image.id)
    look = images.owned if owners == {call.account} else images.page
    return lambda tx, after, size: look(tx, call.account, after, size)


def _shown(tx: Tx, call: Call, rows: Sequence[Image]) -> list[Result]:
    tagged = tags.of(tx, call.account, [image.id for image in rows])
    return [_image(image, tagged.get(image.id, {}), call.account, call.cloud.config.region) for image in rows]


def _image(image: Image, tagged: Mapping[str, str], account: str, region: str) -> Result:
    shown: Result = {
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "BlockDeviceMappings": disks.shown(image),
        "EnaSupport": image.ena_support,
        "Hypervisor": "xen",  # EC2's word for its own too
        "Name": image.name,
        "RootDeviceName": image.root_device_name,
        "RootDeviceType": "instance-store",
        "Tags": tagging.shown(tagged),
        "VirtualizationType": image.virtualization_type,
        "ImageAllowed": True,
        "FreeTierEligible": False,
        "ImageId": image.id,
        "ImageLocation": image.location,
        "State": image.state,
        "OwnerId": image.account_id,
        "CreationDate": milliseconds(moment(image.created_ms)),
        "Public": image.public,
        "ProductCodes": [],
        "Architecture": image.architecture,
        "ImageType": _TYPES[image.kind],
    }
    more = image.more
    given = {
        "Description": image.description,
        "ImageOwnerAlias": image.owner_alias,
        "ImdsSupport": image.imds_support,
        "KernelId": more.kernel_id,
        "RamdiskId": more.ramdisk_id,
    }
    if image.account_id == account:  # what it was made from is its owner's to know
        given |= {"SourceImageId": more.source_image_id, "SourceInstanceId": more.source_instance_id}
        shown["DeregistrationProtection"] = more.protection
    if more.source_image_id and "SourceImageId" in given:
        given["SourceImageRegion"] = region
    if more.reason_code:
        shown["StateReason"] = {"Code": more.reason_code, "Message": more.reason_message}
    if more.deprecated_ms:
        shown["DeprecationTime"] = milliseconds(moment(more.deprecated_ms))
    return shown | {name: text for name, text in given.items() if text}
