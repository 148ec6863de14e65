"""Objects, read: GetObject, HeadObject and GetObjectAttributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mallee.aws.protocol.scalars import http_date
from mallee.walrus.api import CUSTOMER_KEY, OBJECT, Req, s3
from mallee.walrus.api.conditions import READING, byte_range, check
from mallee.walrus.api.finding import find
from mallee.walrus.api.headers import checksums, customer_key, encrypted, etag, shown, version_id
from mallee.walrus.api.settings.lifecycle_rules import expiration
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Lock, Part, Version

_RESPONSES: Final = (
    *("ResponseCacheControl", "ResponseContentDisposition", "ResponseContentEncoding"),
    *("ResponseContentLanguage", "ResponseContentType", "ResponseExpires"),
)
_READS: Final = (
    *OBJECT,
    *READING,
    *CUSTOMER_KEY,
    *_RESPONSES,
    "VersionId",
    "Range",
    "PartNumber",
    "ChecksumMode",
)
_OVERRIDES: Final = frozenset(_RESPONSES)
_ATTRIBUTES: Final = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


@s3.operation("HeadObject", accepts=_READS)
async def head_object(call: Call, req: Req) -> Result:
    """What is known of an object, without its bytes."""
    version = await _readable(call, req)
    return (await _span(call, req, version))[2]


@s3.operation("GetObject", accepts=_READS)
async def get_object(call: Call, req: Req) -> Result:
    """An object or a range of it, verified before it leaves."""
    version = await _readable(call, req)
    first, last, answer = await _span(call, req, version)
    if last < first:
        return answer | {"Body": b""}
    body = await call.store.read(version, first, last, customer_key=customer_key(req))
    answer["Body"] = body if body.whole is None else body.whole
    return answer


async def _readable(call: Call, req: Req) -> Version:
    """The version, under the request's conditions and with the key that it needs."""
    if call.principal is None and any(req[name] for name in _OVERRIDES & req.keys()):
        raise S3Error(
            "InvalidRequest",
            "Request specific response headers cannot be used for anonymous GET requests.",
        )
    version = await find(call, req.get("VersionId"))
    call.store.check_customer_key(version, customer_key(req))
    check(req, version)
    return version


async def _span(call: Call, req: Req, version: Version) -> tuple[int, int, dict[str, Any]]:
    """First and last byte that are asked for, and the answer that goes with them."""
    answer = _described(call, req, version)
    first, last, partial = 0, version.size - 1, False
    whole = True
    if req.get("PartNumber") is not None:
        if req.get("Range"):
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        first, size, part = await _part(call, version, req["PartNumber"])
        last, partial, whole = first + size - 1, True, part is None
        if version.parts:
            answer["PartsCount"] = version.parts
        if part is not None and _wants_checksums(req):
            answer |= {f"Checksum{name}": value for name, value in part.checksums.items()}
            answer["ChecksumType"] = version.checksum_type or "COMPOSITE"
    else:
        span = byte_range(req.get("Range"), version.size)
        if span is not None:
            first, last = span
            partial, whole = True, last - first + 1 == version.size
    if whole and _wants_checksums(req):
        answer |= checksums(version)
    answer["ContentLength"] = last - first + 1
    if partial and version.size:
        answer["ContentRange"] = f"bytes {first}-{last}/{version.size}"
    return first, last, answer


async def _part(call: Call, version: Version, number: int) -> tuple[int, int, Part | None]:
    if version.parts:
        found: tuple[int, int, Part] = await call.store.part_range(version, number)
        return found
    if number != 1:
        raise S3Error("InvalidPartNumber", ActualPartCount="1", PartNumberRequested=str(number))
    return 0, version.size, None


def _wants_checksums(req: Req) -> bool:
    return bool(req.get("ChecksumMode") == "ENABLED")


def _described(call: Call, req: Req, version: Version) -> dict[str, Any]:
    answer = shown(version.headers)
    answer["AcceptRanges"] = "bytes"
    answer["ETag"] = etag(version)
    answer["LastModified"] = version.modified
    if call.home.versioning:
        answer |= version_id(version.version_id, call.home.versioning)
    if version.encryption:
        answer |= encrypted(req, version.encryption)
    if version.lock != _FREE:
        answer |= _locked(version.lock)
    if version.storage_class != "STANDARD":
        answer["StorageClass"] = version.storage_class
    if version.tags:
        answer["TagCount"] = len(version.tags)
    ends = expiration(call.home, version)
    if ends:
        answer["Expiration"] = ends
    for name in _OVERRIDES & req.keys():
        if req[name]:
            asked = req[name]  # all are texts but one, a time, which an answer carries as a text too
            answer[name.removeprefix("Response")] = asked if isinstance(asked, str) else http_date(asked)
    return answer


_FREE: Final = Lock()


def _locked(lock: Lock) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if lock.mode:
        found |= {"ObjectLockMode": lock.mode, "ObjectLockRetainUntilDate": lock.until}
    if lock.legal_hold:
        found["ObjectLockLegalHoldStatus"] = "ON"
    return found


@s3.operation(
    "GetObjectAttributes",
    accepts=(*OBJECT, *CUSTOMER_KEY, "VersionId", "ObjectAttributes", "MaxParts", "PartNumberMarker"),
)
async def get_object_attributes(call: Call, req: Req) -> Result:
    """What is asked for of an object: etag, checksums, parts, class, size."""
    asked = req.get("ObjectAttributes") or []
    for name in asked:
        if name not in _ATTRIBUTES:
            raise S3Error("InvalidArgument", "Invalid attribute name specified.", ArgumentValue=name[:64])
    version = await find(call, req.get("VersionId"))
    call.store.check_customer_key(version, customer_key(req))
    answer: dict[str, Any] = {
        "LastModified": version.modified,
        **version_id(version.version_id, call.home.versioning),
    }
    if "ETag" in asked:
        answer["ETag"] = version.etag
    if "StorageClass" in asked:
        answer["StorageClass"] = version.storage_class
    if "ObjectSize" in asked:
        answer["ObjectSize"] = version.size
    if "Checksum" in asked and version.checksums:
        answer["Checksum"] = checksums(version)
    if "ObjectParts" in asked and version.parts:
        answer["ObjectParts"] = await _parts(call, req, version)
    return answer


async def _parts(call: Call, req: Req, version: Version) -> Mapping[str, Any]:
    after, size = int(req.get("PartNumberMarker") or 0), min(req.get("MaxParts", 1000), 1000)
    answer: dict[str, Any] = {
        "TotalPartsCount": version.parts,
        "PartNumberMarker": after,
        "MaxParts": size,
        "IsTruncated": False,
    }
    # Parts without checksums are only counted, as on S3.
    parts = [part for part in await call.store.parts_of(version, after, size + 1) if part.checksums]
    if parts:
        answer["Parts"] = [
            {"PartNumber": part.number, "Size": part.size}
            | {f"Checksum{name}": value for name, value in part.checksums.items()}
            for part in parts[:size]
        ]
        answer["IsTruncated"] = len(parts) > size
        answer["NextPartNumberMarker"] = parts[:size][-1].number if parts[:size] else after
    return answer
