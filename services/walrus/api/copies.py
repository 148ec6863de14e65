"""CopyObject: an object made from another one's bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mallee.walrus.access.authorise import source_of
from mallee.walrus.api import Req, s3
from mallee.walrus.api.conditions import READING, check, writing
from mallee.walrus.api.finding import find
from mallee.walrus.api.headers import (
    checksums,
    customer_key,
    encrypted,
    encryption,
    etag,
    header_tags,
    kept,
    version_id,
)
from mallee.walrus.api.settings.encryption import encrypts_by_default
from mallee.walrus.api.writes import NEW, new_object
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Bucket, Encryption, NewObject, Version

LARGEST: Final = 5 * 1024**3  # bytes that one copy may have
SOURCE: Final = (
    *("CopySource", "ExpectedSourceBucketOwner", *(f"CopySource{name}" for name in READING)),
    *(f"CopySourceSSECustomer{part}" for part in ("Algorithm", "Key", "KeyMD5")),
)


async def source(call: Call, req: Req) -> tuple[Bucket, Version]:
    """What is copied from, under the request's conditions and with the key that it needs.

    Raises:
        S3Error: InvalidArgument, InvalidRequest, NoSuchBucket, NoSuchKey, PreconditionFailed, AccessDenied.
    """
    bucket, key, wanted = source_of(req["CopySource"])
    home: Bucket = call.home if bucket == call.bucket else await call.store.head_bucket(bucket)
    try:
        found = await find(call, wanted, key=key, home=home)
    except S3Error as error:
        if error.code != "MethodNotAllowed":
            raise
        raise S3Error(
            "InvalidRequest",
            "The source of a copy request may not specifically refer to a delete marker by version id.",
        ) from None
    call.store.check_customer_key(found, customer_key(req, "CopySource"))
    check(req, found, "CopySource")
    return home, found


@s3.operation(
    "CopyObject",
    accepts=(
        *("Bucket", "Key", "ExpectedBucketOwner", "RequestPayer", *SOURCE, *NEW),
        *("MetadataDirective", "TaggingDirective", "IfMatch", "IfNoneMatch"),
    ),
)
async def copy_object(call: Call, req: Req) -> Result:
    """A new object of another one's bytes, which are shared, not moved, while their encryption is the same."""
    home, original = await source(call, req)
    if original.size > LARGEST:
        raise S3Error(
            "InvalidRequest",
            f"The specified copy source is larger than the maximum allowable size for a copy source: {LARGEST}",
        )
    asked = req.get("ChecksumAlgorithm")
    if asked and asked not in original.checksums:
        raise S3Error(
            "NotImplemented", "A copy keeps the checksums of its source.", Header="x-amz-checksum-algorithm"
        )
    new = await _new(call, req, original)
    keeping = encryption(req, by_default=encrypts_by_default(call.home) or original.encryption == "AES256")
    _check_changes(call, req, original, new, keeping)
    version = await call.store.copy(
        original,
        call.bucket,
        call.key,
        new,
        encryption=keeping,
        source_key=customer_key(req, "CopySource"),
        conditions=writing(req),
    )
    answer: dict[str, Any] = {
        "CopyObjectResult": {"ETag": etag(version), "LastModified": version.modified, **checksums(version)},
        **encrypted(req, version.encryption),
        **version_id(version.version_id, call.home.versioning),
    }
    if home.versioning:
        answer["CopySourceVersionId"] = original.version_id
    return answer


async def _new(call: Call, req: Req, original: Version) -> NewObject:
    new = await new_object(call, req, tags=False)
    headers = kept(req) if _replaces(req, "MetadataDirective") else dict(original.headers)
    if not _replaces(req, "MetadataDirective") and req.get("WebsiteRedirectLocation"):
        headers["x-amz-website-redirect-location"] = req["WebsiteRedirectLocation"]
    tags = header_tags(req.get("Tagging")) if _replaces(req, "TaggingDirective") else original.tags
    return replace(
        new, headers=headers, tags=tags, checksums=original.checksums, checksum_type=original.checksum_type
    )


def _replaces(req: Req, name: str) -> bool:
    directive = req.get(name) or "COPY"
    if directive not in {"COPY", "REPLACE"}:
        raise S3Error("InvalidArgument", f"Unknown {name}.", ArgumentValue=directive[:64])
    return bool(directive == "REPLACE")


def _check_changes(
    call: Call, req: Req, original: Version, new: NewObject, keeping: Encryption | None
) -> None:
    """A copy onto itself must change something, else it is a mistake."""
    if (original.bucket, original.key) != (call.bucket, call.key):
        return
    asks = (keeping is not None and keeping.customer_key is not None) or req.get("ServerSideEncryption")
    if not (
        _replaces(req, "MetadataDirective")
        or _replaces(req, "TaggingDirective")
        or asks
        or not original.is_latest
        or new.storage_class != original.storage_class
        or new.headers != original.headers
    ):
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )
