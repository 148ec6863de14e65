"""Conditional requests and ranges, by RFC 9110 and by what S3 does where that leaves a choice."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from mallee.aws.protocol.scalars import http_date
from mallee.walrus.api import Req
from mallee.walrus.api.headers import etag, unquoted
from mallee.walrus.errors import S3Error
from mallee.walrus.store import ALWAYS, Conditions, Version

READING: Final = ("IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince")
_ASKED: Final = frozenset(READING)
_range = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII).fullmatch


def check(req: Req, version: Version, prefix: str = "") -> None:
    """Whether an object may be read under the request's conditions; `prefix`: `CopySource`.

    Raises:
        S3Error: PreconditionFailed; NotModified, for a reader (a copy never answers so).
    """
    if not prefix and _ASKED.isdisjoint(req):
        return  # nearly every request
    match, none_match, since, unmodified = (req.get(prefix + name) for name in READING)
    modified = version.modified.replace(microsecond=0)
    if match is not None:
        if not _matches(match, version):
            raise _failed("If-Match")
    elif isinstance(unmodified, datetime) and modified > unmodified.astimezone(UTC):
        raise _failed("If-Unmodified-Since")
    if none_match is not None:
        if _matches(none_match, version):
            raise _failed("If-None-Match") if prefix else _not_modified(version)
    elif isinstance(since, datetime) and modified <= since.astimezone(UTC):
        raise _failed("If-Modified-Since") if prefix else _not_modified(version)


def _matches(stated: str, version: Version) -> bool:
    return any(unquoted(part) in {version.etag, "*"} for part in stated.split(","))


def _failed(header: str) -> S3Error:
    return S3Error("PreconditionFailed", Condition=header)


def _not_modified(version: Version) -> S3Error:
    headers = {"ETag": etag(version), "Last-Modified": http_date(version.modified)}
    for name in ("Cache-Control", "Expires"):
        if name in version.headers:
            headers[name] = version.headers[name]
    return S3Error("NotModified", headers=headers)


def writing(req: Req) -> Conditions:
    """What must hold when an object is written.

    Raises:
        S3Error: NotImplemented, for what S3 does not take on a write either.
    """
    none_match, match = req.get("IfNoneMatch"), req.get("IfMatch")
    if none_match is None and match is None:
        return ALWAYS
    if none_match is not None and unquoted(none_match) != "*":
        raise S3Error("NotImplemented", "A write can only be made If-None-Match: *.", Header="If-None-Match")
    return Conditions(if_match=unquoted(match), if_none_match=unquoted(none_match))


def byte_range(text: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of what a Range asks for; None for all of it, which is the answer to nonsense too.

    Raises:
        S3Error: InvalidRange, when none of it is there.
    """
    found = _range(text.strip()) if text else None
    if found is None or not (found[1] or found[2]):
        return None
    if found[1] and found[2] and int(found[1]) > int(found[2]):
        return None
    if not found[1]:  # the last so many bytes
        first, last = max(size - int(found[2]), 0), size - 1
        empty = int(found[2]) == 0
    else:
        first, last = int(found[1]), min(int(found[2]), size - 1) if found[2] else size - 1
        empty = False
    if empty or first >= size:
        raise S3Error("InvalidRange", ActualObjectSize=str(size), RangeRequested=str(text)[:64])
    return first, last
