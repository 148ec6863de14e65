"""Listings: objects by key (the old way and the new), and versions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from mallee.walrus.access import acl
from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Listed, Page

PAGE: Final = 1000
_WHERE: Final = (*BUCKET, "RequestPayer", "Prefix", "Delimiter", "EncodingType", "OptionalObjectAttributes")


def page_size(req: Req, name: str) -> int:
    """How many entries an answer may have. Raises S3Error InvalidArgument."""
    asked = req.get(name, PAGE)
    if asked < 0:
        raise S3Error(
            "InvalidArgument",
            f"Argument {name} must be an integer between 0 and 2147483647",
            ArgumentName=name,
        )
    return min(int(asked), PAGE)


def common(req: Req, prefixes: Sequence[str]) -> dict[str, Any]:
    """The members that every listing has. Raises S3Error InvalidArgument."""
    if req.get("EncodingType") not in {None, "url"}:
        raise S3Error(
            "InvalidArgument", "Invalid Encoding Method specified in Request", ArgumentName="encoding-type"
        )
    answer: dict[str, Any] = {"Prefix": req.get("Prefix") or ""}
    if req.get("Delimiter"):
        answer["Delimiter"] = req["Delimiter"]
    if req.get("EncodingType"):
        answer["EncodingType"] = "url"
    if prefixes:
        answer["CommonPrefixes"] = [{"Prefix": prefix} for prefix in prefixes]
    return answer


async def _page(call: Call, req: Req, after: str, size: int) -> Page:
    if size == 0:
        return Page(())
    page: Page = await call.store.list(
        call.bucket,
        prefix=req.get("Prefix") or "",
        delimiter=req.get("Delimiter") or "",
        after=after,
        limit=size,
    )
    return page


async def owners(call: Call, ids: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """The `Owner` elements of accounts."""
    return {each: acl.owner_of(await call.identity.shown(each)) for each in set(ids)}


def _entries(entries: Sequence[Listed], named: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [_entry(one) if named is None else _entry(one) | {"Owner": named[one.owner]} for one in entries]


def _entry(one: Listed) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Key": one.key,
        "LastModified": moment(one.modified_ms),
        "ETag": f'"{one.etag}"',
        "Size": one.size,
        "StorageClass": one.storage_class,
    }
    if one.checksum:
        algorithm, _, kind = one.checksum.partition(":")
        entry["ChecksumAlgorithm"] = [algorithm]
        entry["ChecksumType"] = kind
    return entry


def moment(milliseconds: int) -> datetime:
    """The time that the store keeps as milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@s3.operation("ListObjects", accepts=(*_WHERE, "Marker", "MaxKeys"))
async def list_objects(call: Call, req: Req) -> Result:
    """Objects by key, from behind a marker."""
    size, marker = page_size(req, "MaxKeys"), req.get("Marker") or ""
    page = await _page(call, req, marker, size)
    named = await owners(call, (one.owner for one in page.entries))
    answer = common(req, page.prefixes) | {
        "Name": call.bucket,
        "Marker": marker,
        "MaxKeys": size,
        "IsTruncated": page.truncated,
        "Contents": _entries(page.entries, named),
    }
    if page.truncated and req.get("Delimiter"):
        answer["NextMarker"] = page.next_key
    return answer


@s3.operation("ListObjectsV2", accepts=(*_WHERE, "ContinuationToken", "StartAfter", "FetchOwner", "MaxKeys"))
async def list_objects_v2(call: Call, req: Req) -> Result:
    """Objects by key, from where a token says or from behind a key."""
    size, token = page_size(req, "MaxKeys"), req.get("ContinuationToken")
    start = req.get("StartAfter") or ""
    page = await _page(call, req, start if token is None else _opened(token), size)
    named = await owners(call, (one.owner for one in page.entries)) if req.get("FetchOwner") else None
    answer = common(req, page.prefixes) | {
        "Name": call.bucket,
        "MaxKeys": size,
        "KeyCount": len(page.entries) + len(page.prefixes),
        "IsTruncated": page.truncated,
        "Contents": _entries(page.entries, named),
    }
    if token is not None:
        answer["ContinuationToken"] = token
    if start:
        answer["StartAfter"] = start
    if page.truncated:
        answer["NextContinuationToken"] = _token(page.next_key)
    return answer


def _token(key: str) -> str:
    """Where a listing goes on. It holds no secret and is trusted with nothing: any key may be listed from."""
    return base64.urlsafe_b64encode(b"1" + key.encode()).decode()


def _opened(token: str) -> str:
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        key = raw[1:].decode()
    except (ValueError, binascii.Error):
        raw, key = b"", ""
    if raw[:1] != b"1":
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        )
    return key


@s3.operation("ListObjectVersions", accepts=(*_WHERE, "KeyMarker", "VersionIdMarker", "MaxKeys"))
async def list_object_versions(call: Call, req: Req) -> Result:
    """Every version and delete marker by key, the newest of each first."""
    size, after, version = (
        page_size(req, "MaxKeys"),
        req.get("KeyMarker") or "",
        req.get("VersionIdMarker") or "",
    )
    if version and not after:
        raise S3Error(
            "InvalidArgument",
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
        )
    page = Page(())
    if size:
        page = await call.store.list_versions(
            call.bucket,
            prefix=req.get("Prefix") or "",
            delimiter=req.get("Delimiter") or "",
            after=after,
            after_version=version,
            limit=size,
        )
    named = await owners(call, (one.owner for one in page.entries))
    answer = common(req, page.prefixes) | {
        "Name": call.bucket,
        "KeyMarker": after,
        "VersionIdMarker": version,
        "MaxKeys": size,
        "IsTruncated": page.truncated,
        "Versions": [_version(one, named) for one in page.entries if not one.is_delete_marker],
        "DeleteMarkers": [_marker(one, named) for one in page.entries if one.is_delete_marker],
    }
    if page.truncated:
        answer["NextKeyMarker"] = page.next_key
        answer["NextVersionIdMarker"] = page.next_version or None
    return answer


def _version(one: Listed, named: Mapping[str, Any]) -> dict[str, Any]:
    return _entry(one) | {
        "VersionId": one.version_id,
        "IsLatest": one.is_latest,
        "Owner": named[one.owner],
    }


def _marker(one: Listed, named: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Key": one.key,
        "VersionId": one.version_id,
        "IsLatest": one.is_latest,
        "LastModified": moment(one.modified_ms),
        "Owner": named[one.owner],
    }
