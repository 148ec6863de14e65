"""The object that an image is registered from: found, and looked at before anything opens it.

It is read as its registrant may read it, so nobody's private object becomes somebody else's image. What it
is to be is declared, never guessed: by its metadata `disk-format`, else by its name, else it is raw; what
its first bytes say must agree. Source of the refusals: `mallee.domain.disk_image`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mallee.aws.errors import AwsError, InvalidParameterValue
from mallee.clc.api.ec2.images.checks import store
from mallee.clc.call import Call
from mallee.clc.db.images import KERNEL, RAMDISK
from mallee.clc.errors import InvalidManifest
from mallee.clc.faults import as_aws_error
from mallee.clc.s3.objects import Stored
from mallee.domain import disk_image
from mallee.domain.boot_files import check_kernel, check_ramdisk
from mallee.domain.disk_image import HEAD_BYTES, Format
from mallee.domain.guest import ImageFile
from mallee.kernel.errors import Fault, Kind

BUILT_IN: Final = "builtin:"  # then the name of an image that every node has
FORMAT_HEADER: Final = "x-amz-meta-disk-format"
_STATUS: Final = {Kind.NOT_FOUND: "404 (Not Found)", Kind.FORBIDDEN: "403 (Forbidden)"}
_FORMATS: Final = {".qcow2": Format.QCOW2, ".qcow": Format.QCOW2}


def place_of(location: str) -> tuple[str, str]:
    """Bucket and key of `bucket/key` or `s3://bucket/key`. Raises InvalidParameterValue."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not bucket or not key or len(key.encode()) > 1024:
        raise InvalidParameterValue(
            f"Value ({location[:100]}) for parameter imageLocation is invalid. Expected bucket/key, where an image"
            " has been uploaded to."
        )
    return bucket, key


async def examined(call: Call, location: str, kind: str, architecture: str) -> ImageFile:
    """The object at a location that the caller may read, pinned as what it is now.

    `kind` is `ami` for a disk, `aki` for a kernel, `ari` for a ramdisk.

    Raises:
        InvalidManifest: it is not there, not the account's to read, or refused.
        Unavailable: the store cannot be asked now.
    """
    objects, (bucket, key) = store(call), place_of(location)
    try:
        found = await objects.stat(bucket, key, reader=call.account)
        head = await objects.head(found, HEAD_BYTES, reader=call.account)
    except Fault as fault:
        raise _not_readable(fault, location) from fault
    try:
        return _LOOKS[kind](found, head, architecture)
    except Fault as fault:
        raise InvalidManifest(f"{location[:200]}: {fault}") from fault


def _disk(found: Stored, head: bytes, _: str) -> ImageFile:
    declared = _declared(found)
    try:
        disk = disk_image.inspect(head, found.size, declared)
    except Fault as fault:
        if declared is Format.RAW and head.startswith(b"QFI\xfb"):
            hint = f"Name it .qcow2, or upload it with the metadata {FORMAT_HEADER}: qcow2."
            raise Fault(fault.kind, fault.what, why=fault.why, fix=hint, code=fault.code) from fault
        raise
    return found.pinned(disk.format.value, disk.virtual_bytes)


def _kernel(found: Stored, head: bytes, architecture: str) -> ImageFile:
    check_kernel(head, found.size, architecture)
    return found.pinned()


def _ramdisk(found: Stored, _head: bytes, _: str) -> ImageFile:
    check_ramdisk(found.size)
    return found.pinned()


_LOOKS: Final[dict[str, Callable[[Stored, bytes, str], ImageFile]]] = {
    "ami": _disk,
    KERNEL: _kernel,
    RAMDISK: _ramdisk,
}


def _declared(found: Stored) -> Format:
    said = found.headers.get(FORMAT_HEADER, "").lower()
    if said:
        if said not in set(Format):
            raise Fault(
                Kind.INVALID,
                "The disk image is refused.",
                why=f"Its metadata says that it is {said[:32]}; raw and qcow2 are taken.",
                code="bad-image",
            )
        return Format(said)
    ends = found.key.lower()
    return next((kind for suffix, kind in _FORMATS.items() if ends.endswith(suffix)), Format.RAW)


def _not_readable(fault: Fault, location: str) -> AwsError:
    """In EC2's words, which do not tell a private object from one that is not there but by the status."""
    status = _STATUS.get(fault.kind)
    if status is None:
        return (
            InvalidManifest(f"{location[:200]}: {fault}")
            if fault.kind is Kind.INVALID
            else as_aws_error(fault)
        )
    return InvalidManifest(
        f"HTTP {status} response for {location[:200]}: check your image location is correct, and that you may read"
        " the object there."
    )
