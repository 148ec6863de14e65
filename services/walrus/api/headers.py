"""What stands in headers: of new objects, as they are kept, and of objects as they are read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from mallee.walrus.api import CUSTOMER_KEY, Req
from mallee.walrus.errors import S3Error
from mallee.walrus.store import Encryption, Version

CHECKSUMS: Final = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
STORAGE_CLASSES: Final = (
    *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"),
)
_ARCHIVES: Final = ("GLACIER", "DEEP_ARCHIVE", "SNOW", "OUTPOSTS", "EXPRESS_ONEZONE")
_PLAIN: Final = {
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentEncoding": "Content-Encoding",
    "ContentLanguage": "Content-Language",
    "ContentType": "Content-Type",
    "Expires": "Expires",
    "WebsiteRedirectLocation": "x-amz-website-redirect-location",
}
_SHOWN: Final = {wire: name for name, wire in _PLAIN.items()}
KEPT: Final = (*_PLAIN, "Metadata")  # the parameters that are kept as headers
_META: Final = "x-amz-meta-"
_CUSTOMER_KEY: Final = frozenset(CUSTOMER_KEY)
_MOST_METADATA: Final = 2048  # bytes of names and values
_UNTYPED: Final = "binary/octet-stream"


def kept(req: Req) -> dict[str, str]:
    """The headers that a new object is kept with.

    Raises:
        S3Error: MetadataTooLarge, InvalidArgument.
    """
    found = {_PLAIN[name]: str(req[name]) for name in _PLAIN.keys() & req.keys() if req[name]}
    found.setdefault("Content-Type", _UNTYPED)
    if "Content-Encoding" in found:
        # How the body came is no property of the object.
        codings = [part.strip() for part in found["Content-Encoding"].split(",")]
        left = ",".join(part for part in codings if part and part.lower() != "aws-chunked")
        found.pop("Content-Encoding")
        if left:
            found["Content-Encoding"] = left
    metadata: Mapping[str, str] = req.get("Metadata") or {}
    if not metadata:
        return found
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > _MOST_METADATA:
        raise S3Error("MetadataTooLarge")
    return found | {f"{_META}{name}": value for name, value in metadata.items()}


def shown(headers: Mapping[str, str]) -> dict[str, Any]:
    """The kept headers as members of an answer."""
    found: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for wire, value in headers.items():
        name = _SHOWN.get(wire)
        if name is not None:
            found[name] = value
        elif wire.startswith(_META):
            metadata[wire[len(_META) :]] = value
    if metadata:
        found["Metadata"] = metadata
    return found


def storage_class(req: Req) -> str:
    """The class of a new object.

    Raises:
        S3Error: InvalidStorageClass; NotImplemented for an archive, from which nothing could be restored.
    """
    asked: str = req.get("StorageClass") or STORAGE_CLASSES[0]
    if asked in _ARCHIVES:
        raise S3Error(
            "NotImplemented", f"This cloud has no storage of the class {asked}.", Header="x-amz-storage-class"
        )
    if asked not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", StorageClassRequested=asked[:64])
    return asked


def encryption(req: Req, *, by_default: bool = False) -> Encryption | None:
    """How a request asks its bytes to be kept; None for plain.

    Args:
        req: the parameters.
        by_default: the bucket's configuration asks for SSE-S3.

    Raises:
        S3Error: InvalidArgument, InvalidEncryptionAlgorithmError, NotImplemented (SSE-KMS).
    """
    customer, asked = customer_key(req), req.get("ServerSideEncryption")
    if customer is not None:
        if asked:
            raise S3Error(
                "InvalidArgument",
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                ArgumentName="x-amz-server-side-encryption",
                ArgumentValue=asked[:64],
            )
        return Encryption(customer)
    check_algorithm(asked)
    return Encryption() if asked or by_default else None


def check_algorithm(asked: str | None) -> None:
    """Refuse what is not SSE-S3. Raises S3Error NotImplemented, InvalidEncryptionAlgorithmError."""
    if asked in {"aws:kms", "aws:kms:dsse", "aws:fsx"}:
        raise S3Error(
            "NotImplemented",
            "This cloud has no key management service: encrypt with AES256 or with keys of your own.",
            Header="x-amz-server-side-encryption",
        )
    if asked not in {None, "", "AES256"}:
        raise S3Error(
            "InvalidEncryptionAlgorithmError",
            ArgumentName="x-amz-server-side-encryption",
            ArgumentValue=str(asked)[:64],
        )


def customer_key(req: Req, prefix: str = "") -> bytes | None:
    """The key of SSE-C, 32 bytes; None when none came. `prefix`: `CopySource` for the source's.

    Raises:
        S3Error: InvalidArgument, InvalidEncryptionAlgorithmError.
    """
    if not prefix and _CUSTOMER_KEY.isdisjoint(req):
        return None
    start = f"{prefix}SSECustomer"
    algorithm, key, digest = req.get(start + "Algorithm"), req.get(start + "Key"), req.get(start + "KeyMD5")
    if not (algorithm or key or digest):
        return None
    wire = f"x-amz-{'copy-source-' if prefix else ''}server-side-encryption-customer-"
    if algorithm != "AES256":
        raise S3Error(
            "InvalidEncryptionAlgorithmError",
            ArgumentName=f"{wire}algorithm",
            ArgumentValue=str(algorithm)[:64],
        )
    try:
        plain = base64.b64decode(key or "", validate=True)
    except ValueError:  # of base64, and of what is no ASCII
        plain = b""
    if len(plain) != 32:
        raise S3Error(
            "InvalidArgument",
            "The secret key was invalid for the specified algorithm.",
            ArgumentName=f"{wire}key",
        )
    if digest is not None and digest != key_digest(plain):
        raise S3Error(
            "InvalidArgument",
            "The calculated MD5 hash of the key did not match the hash that was provided.",
            ArgumentName=f"{wire}key-MD5",
        )
    return plain


def key_digest(key: bytes) -> str:
    """What S3 answers in place of a customer's key."""
    return base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()


def encrypted(req: Req, how: str) -> dict[str, str]:
    """The members of an answer that tell how an object is kept: `AES256`, `customer` or nothing."""
    if how == "AES256":
        return {"ServerSideEncryption": "AES256"}
    key = customer_key(req) if how == "customer" else None
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKeyMD5": key_digest(key)} if key else {}


def checksums(version: Version) -> dict[str, str]:
    """The members of an answer that tell an object's checksums."""
    found = {f"Checksum{name}": value for name, value in version.checksums.items()}
    if found:
        found["ChecksumType"] = version.checksum_type or "FULL_OBJECT"
    return found


def header_tags(text: str | None) -> dict[str, str]:
    """The tags of `x-amz-tagging`, which look like a query. Raises S3Error InvalidArgument, InvalidTag."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without "
            "tag name duplicates.",
            ArgumentName="x-amz-tagging",
            ArgumentValue=text[:256],
        ) from None
    return checked_tags(pairs, most=10)


def checked_tags(pairs: list[tuple[str, str]], *, most: int) -> dict[str, str]:
    """Tags, each key once.

    Raises:
        S3Error: InvalidTag; BadRequest for too many.
    """
    if len(pairs) > most:
        raise S3Error(
            "BadRequest", f"{'Object' if most == 10 else 'Bucket'} tags cannot be greater than {most}"
        )
    found: dict[str, str] = {}
    for key, value in pairs:
        if not key or len(key) > 128 or key.lower().startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key[:128])
        if len(value) > 256:
            raise S3Error(
                "InvalidTag", "The TagValue you have provided is invalid", TagKey=key, TagValue=value[:256]
            )
        if key in found:
            raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=key)
        found[key] = value
    return found


def etag(version: Version) -> str:
    """As headers and documents carry it."""
    return f'"{version.etag}"'


def unquoted(text: str | None) -> str | None:
    """An etag of a condition as the store compares it."""
    return text.strip().removeprefix("W/").strip('"') if text else None


def version_id(version_or_id: str, versioning: str) -> dict[str, str]:
    """`VersionId` of an answer: not in a bucket that never had versions."""
    return {"VersionId": version_or_id} if versioning and version_or_id else {}
