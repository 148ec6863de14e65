"""The lives of images: deregistered, disabled and enabled, deprecated, protected.

Sources: "Deregister an AMI", "Disable an AMI", "Deprecate an AMI" and "Protect an AMI from deregistration"
of the EC2 user guide.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterValue, OperationNotPermitted
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.images import checks
from mallee.clc.call import Call
from mallee.clc.db import images, tags
from mallee.clc.db.images import AVAILABLE, DISABLED, Image
from mallee.clc.errors import IncorrectState, InvalidAMIIDUnavailable
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DeregisterImageRequestTypeDef,
        DisableImageDeprecationRequestTypeDef,
        DisableImageDeregistrationProtectionRequestTypeDef,
        DisableImageRequestTypeDef,
        EnableImageDeprecationRequestTypeDef,
        EnableImageDeregistrationProtectionRequestTypeDef,
        EnableImageRequestTypeDef,
    )

Result = dict[str, Any]

_DAY_MS = 24 * 3600 * 1000
_MINUTE_MS = 60 * 1000
_YEARS_AHEAD = 10  # that a deprecation may lie ahead


@ec2.action("DeregisterImage", accepts=("ImageId", "DeleteAssociatedSnapshots", "DryRun"))
async def deregister_image(call: Call, req: DeregisterImageRequestTypeDef) -> Result:
    """Forget an image of the account's own; what runs from it goes on, and its files stay where they are."""
    image_id, now_ms = req["ImageId"], call.now_ms

    def work(tx: Tx) -> None:
        more = checks.own(tx, call.account, image_id).more
        if more.protection != "disabled" or more.protected_until_ms > now_ms:
            raise OperationNotPermitted(
                f"The image '{image_id}' is protected from deregistration. Disable its protection first; one with a"
                " cooldown ends a day after that."
            )
        images.remove(tx, call.account, image_id)
        tags.drop(tx, call.account, (image_id,))

    await call.change(work, type(None))
    return {"Return": True, "DeleteSnapshotResults": []}


async def _change(call: Call, image_id: str, change: Callable[[Tx, Image], Image]) -> None:
    """Write back what becomes of an image of the account's own."""

    def work(tx: Tx) -> None:
        image = checks.own(tx, call.account, image_id)
        images.save(tx, change(tx, image))

    await call.change(work, type(None))


@ec2.action("DisableImage", accepts=("ImageId", "DryRun"))
async def disable_image(call: Call, req: DisableImageRequestTypeDef) -> Result:
    """Nobody launches it any more; with that it is private again, and stays so when it is enabled."""

    def disabled(tx: Tx, image: Image) -> Image:
        if image.state not in {AVAILABLE, DISABLED}:
            raise InvalidAMIIDUnavailable(f"The image ID '{image.id}' is not available")
        images.forbid_all(tx, image.id)
        return image._replace(state=DISABLED, public=False)

    await _change(call, req["ImageId"], disabled)
    return {"Return": True}


@ec2.action("EnableImage", accepts=("ImageId", "DryRun"))
async def enable_image(call: Call, req: EnableImageRequestTypeDef) -> Result:
    """A disabled image is available again, to its owner."""

    def enabled(_: Tx, image: Image) -> Image:
        if image.state not in {AVAILABLE, DISABLED}:
            raise IncorrectState(f"The image '{image.id}' is {image.state}, not disabled.")
        return image._replace(state=AVAILABLE)

    await _change(call, req["ImageId"], enabled)
    return {"Return": True}


@ec2.action("EnableImageDeprecation", accepts=("ImageId", "DeprecateAt", "DryRun"))
async def enable_image_deprecation(call: Call, req: EnableImageDeprecationRequestTypeDef) -> Result:
    """From then on others do not find it in lists; who knows its id may still launch it. To the minute."""
    at_ms = _milliseconds(req["DeprecateAt"]) // _MINUTE_MS * _MINUTE_MS
    if not call.now_ms - _MINUTE_MS < at_ms <= call.now_ms + _YEARS_AHEAD * 366 * _DAY_MS:
        raise InvalidParameterValue(
            f"The deprecation date must be in the future and no more than {_YEARS_AHEAD} years ahead."
        )
    await _change(call, req["ImageId"], lambda _, image: image.with_more(deprecated_ms=at_ms))
    return {"Return": True}


@ec2.action("DisableImageDeprecation", accepts=("ImageId", "DryRun"))
async def disable_image_deprecation(call: Call, req: DisableImageDeprecationRequestTypeDef) -> Result:
    """It is not deprecated, or will not be."""
    await _change(call, req["ImageId"], lambda _, image: image.with_more(deprecated_ms=0))
    return {"Return": True}


@ec2.action("EnableImageDeregistrationProtection", accepts=("ImageId", "WithCooldown", "DryRun"))
async def enable_image_deregistration_protection(
    call: Call, req: EnableImageDeregistrationProtectionRequestTypeDef
) -> Result:
    """It cannot be deregistered until the protection is lifted, with a cooldown until a day after that."""
    word = "enabled-with-cooldown" if req.get("WithCooldown") else "enabled-without-cooldown"
    change = {"protection": word, "protected_until_ms": 0}
    await _change(call, req["ImageId"], lambda _, image: image.with_more(**change))
    return {"Return": word}


@ec2.action("DisableImageDeregistrationProtection", accepts=("ImageId", "DryRun"))
async def disable_image_deregistration_protection(
    call: Call, req: DisableImageDeregistrationProtectionRequestTypeDef
) -> Result:
    """Lift it. One with a cooldown holds for another 24 hours."""
    now_ms = call.now_ms

    def lifted(_: Tx, image: Image) -> Image:
        if image.more.protection == "disabled":
            return image
        cooling = image.more.protection == "enabled-with-cooldown"
        return image.with_more(protection="disabled", protected_until_ms=now_ms + _DAY_MS if cooling else 0)

    await _change(call, req["ImageId"], lifted)
    return {"Return": "disabled"}


def _milliseconds(when: Any) -> int:
    assert isinstance(when, datetime), "the parser has read it"
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)
