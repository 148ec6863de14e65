"""What all actions on images ask first: is the name one, is the image the caller's own, is it the cloud's to make."""

from __future__ import annotations

import re

from mallee.aws.errors import AuthFailure, InvalidParameterValue, UnsupportedOperation
from mallee.clc.call import Call
from mallee.clc.db import images
from mallee.clc.db.images import AVAILABLE, Image
from mallee.clc.errors import (
    InvalidAMIIDUnavailable,
    InvalidAMINameDuplicate,
    InvalidAMINameMalformed,
)
from mallee.clc.s3.objects import ObjectStore
from mallee.kernel.db import Tx

_is_name = re.compile(r"[a-zA-Z0-9()\[\] ./\-'@_]{3,128}").fullmatch


def checked_name(name: str) -> str:
    """Raises InvalidAMINameMalformed."""
    if not _is_name(name):
        raise InvalidAMINameMalformed
    return name


def checked_description(description: str) -> str:
    """Raises InvalidParameterValue."""
    if len(description) > 255:
        raise InvalidParameterValue("Description is longer than 255 characters")
    return description


def one_of(name: str, given: str, known: tuple[str, ...]) -> str:
    """`given`, if it is known. Raises InvalidParameterValue."""
    if given not in known:
        raise InvalidParameterValue(f"Value ({given[:100]}) for parameter {name} is invalid.")
    return given


def check_unused(tx: Tx, account: str, name: str) -> None:
    """Raises InvalidAMINameDuplicate where the account has an image of that name."""
    there = images.named(tx, account, name)
    if there is not None:
        raise InvalidAMINameDuplicate(f"AMI name {name} is already in use by AMI {there}")


def own(tx: Tx, account: str, image_id: str) -> Image:
    """An image that the account may do more with than launch it.

    Raises:
        AuthFailure: another account's, which may be launched.
        InvalidAMIIDNotFound, InvalidAMIIDMalformed: as `images.get`.
    """
    image = images.get(tx, account, image_id)
    if image.account_id != account:
        raise AuthFailure(f"Not authorized for image:{image_id}")
    return image


def available(image: Image) -> Image:
    """The image, if it is. Raises InvalidAMIIDUnavailable."""
    if image.state != AVAILABLE:
        raise InvalidAMIIDUnavailable(f"The image ID '{image.id}' is not available")
    return image


def store(call: Call) -> ObjectStore:
    """The object store. Raises UnsupportedOperation in a cloud that has none."""
    if call.cloud.objects is None:
        raise UnsupportedOperation(
            "This cloud has no object store, and images are files of one. Its operator names it by `objects`"
            " in the section [clc]."
        )
    return call.cloud.objects
