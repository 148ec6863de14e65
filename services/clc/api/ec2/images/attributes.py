"""DescribeImageAttribute, ModifyImageAttribute, ResetImageAttribute: who may launch it, and what is said of it.

Source: "Share an AMI with specific AWS accounts" and "Make your AMI publicly available" of the user guide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mallee.aws.errors import (
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from mallee.clc.api.ec2 import disks, ec2
from mallee.clc.api.ec2.images import checks
from mallee.clc.call import Call
from mallee.clc.db import accounts, images
from mallee.clc.db.images import AVAILABLE, Image
from mallee.clc.errors import IncorrectState, InvalidAMIAttributeItemValue
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DescribeImageAttributeRequestTypeDef,
        ModifyImageAttributeRequestTypeDef,
        ResetImageAttributeRequestTypeDef,
    )

Result = dict[str, Any]


@ec2.action("DescribeImageAttribute", accepts=("Attribute", "ImageId", "DryRun"))
async def describe_image_attribute(call: Call, req: DescribeImageAttributeRequestTypeDef) -> Result:
    """One attribute of an image of the account's own; an empty one where the image has none."""
    attribute = req["Attribute"]

    def look(tx: Tx) -> tuple[Image, list[str]]:
        image = checks.own(tx, call.account, req["ImageId"])
        return image, images.permitted(tx, image.id)

    image, allowed = await call.cloud.db.read(look)
    more = image.more
    public: list[dict[str, str]] = [{"Group": "all"}] if image.public else []
    known: dict[str, Result] = {
        "description": {"Description": _value(image.description)},
        "kernel": {"KernelId": _value(more.kernel_id)},
        "ramdisk": {"RamdiskId": _value(more.ramdisk_id)},
        "launchPermission": {"LaunchPermissions": [*public, *({"UserId": each} for each in allowed)]},
        "productCodes": {"ProductCodes": []},
        "blockDeviceMapping": {"BlockDeviceMappings": disks.shown(image)},
        "sriovNetSupport": {"SriovNetSupport": {}},
        "bootMode": {"BootMode": {}},
        "tpmSupport": {"TpmSupport": {}},
        "uefiData": {"UefiData": {}},
        "imdsSupport": {"ImdsSupport": _value(image.imds_support)},
        "deregistrationProtection": {"DeregistrationProtection": {"Value": more.protection}},
    }
    if attribute == "lastLaunchedTime":
        raise UnsupportedOperation("This cloud does not record when an image was launched last.")
    if attribute not in known:
        raise InvalidParameterValue(f"Value ({attribute}) for parameter attribute is invalid.")
    return {"ImageId": image.id, **known[attribute]}


def _value(text: str) -> dict[str, str]:
    return {"Value": text} if text else {}


class _Sharing(NamedTuple):
    """Who is to be let launch the image, and who no more. `all` among them is everybody."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@ec2.action(
    "ModifyImageAttribute",
    accepts=(
        *("ImageId", "Attribute", "OperationType", "Value", "UserIds", "UserGroups", "Description", "DryRun"),
        *(f"LaunchPermission.{way}.{who}" for way in ("Add", "Remove") for who in ("UserId", "Group")),
    ),
)
async def modify_image_attribute(call: Call, req: ModifyImageAttributeRequestTypeDef) -> None:
    """Share an image of the account's own, or describe it otherwise."""
    sharing, description = _sharing(req), _description(req)
    if sharing == _Sharing() and description is None:
        raise MissingParameter("attribute")

    def work(tx: Tx) -> None:
        image = checks.own(tx, call.account, req["ImageId"])
        if description is not None:
            image = image._replace(description=description)
        if sharing != _Sharing():
            image = _shared(tx, image, sharing)
        images.save(tx, image)

    await call.change(work, type(None))


@ec2.action("ResetImageAttribute", accepts=("ImageId", "Attribute", "DryRun"))
async def reset_image_attribute(call: Call, req: ResetImageAttributeRequestTypeDef) -> None:
    """Nobody but the owner may launch it."""
    if req["Attribute"] != "launchPermission":
        raise InvalidParameterValue(f"Value ({req['Attribute']}) for parameter attribute is invalid.")

    def work(tx: Tx) -> None:
        image = checks.own(tx, call.account, req["ImageId"])
        images.forbid_all(tx, image.id)
        images.save(tx, image._replace(public=False))

    await call.change(work, type(None))


def _description(req: ModifyImageAttributeRequestTypeDef) -> str | None:
    given = req.get("Description")
    if given is not None:
        return checks.checked_description(given.get("Value", ""))
    if req.get("Attribute") == "description":
        return checks.checked_description(req.get("Value", ""))
    return None


def _sharing(req: ModifyImageAttributeRequestTypeDef) -> _Sharing:
    """From either form: the structure, or Attribute with OperationType and flat lists."""
    attribute = req.get("Attribute", "")
    if attribute not in {"", "description", "launchPermission"}:
        raise UnsupportedOperation(f"The attribute '{attribute[:64]}' of an image cannot be changed here.")
    structure: Mapping[str, Any] = req.get("LaunchPermission", {})
    flat = frozenset([*req.get("UserIds", ()), *req.get("UserGroups", ())])
    if flat and structure:
        raise InvalidParameterCombination("Name accounts in LaunchPermission or in UserIds, not in both.")
    if flat:
        way = checks.one_of("operationType", req.get("OperationType", ""), ("add", "remove"))
        return _checked(_Sharing(flat) if way == "add" else _Sharing(removed=flat))
    return _checked(_Sharing(_names(structure.get("Add", ())), _names(structure.get("Remove", ()))))


def _names(permissions: Sequence[Mapping[str, str]]) -> frozenset[str]:
    return frozenset(name for each in permissions for name in (each.get("UserId"), each.get("Group")) if name)


def _checked(sharing: _Sharing) -> _Sharing:
    for name in sharing.added | sharing.removed:
        if name != "all" and not (len(name) == 12 and name.isascii() and name.isdigit()):
            raise InvalidAMIAttributeItemValue(name[:64], "userId" if name[:1].isdigit() else "group")
    return sharing


def _shared(tx: Tx, image: Image, sharing: _Sharing) -> Image:
    if image.state != AVAILABLE and sharing.added:
        raise IncorrectState(f"The image '{image.id}' is {image.state}; only an available one is shared.")
    added, removed = sharing.added - {"all"}, sharing.removed - {"all"}
    unknown = [each for each in sorted(added) if accounts.account(tx, each) is None]
    if unknown:
        raise InvalidAMIAttributeItemValue(unknown[0], "userId")
    images.permit(tx, image.id, added)
    images.forbid(tx, image.id, removed)
    if "all" in sharing.added | sharing.removed:
        image = image._replace(public="all" in sharing.added)
    return image
