"""Which bucket and key a request is about: from its path, or its host and its path.

A key is whatever the path holds after the bucket, decoded once: dots, empty segments and trailing
slashes are part of it, for it is a name and never a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from mallee.aws.rest_xml import BUCKET, KEY, SERVICE
from mallee.walrus.errors import S3Error

LONGEST_KEY: Final = 1024  # bytes of UTF-8
_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_no_text = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class Address(NamedTuple):
    """What a request is about; `depth` is the router's."""

    bucket: str
    key: str
    depth: int


def locate(host: bytes, path: bytes, domains: Sequence[str]) -> Address:
    """The address of a request.

    Args:
        host: the header, perhaps with a port.
        path: as on the request line.
        domains: names of this service, before which a host may have a bucket: `s3.example.org`.

    Raises:
        S3Error: InvalidURI, KeyTooLongError.
    """
    if not path.startswith(b"/"):
        raise S3Error("InvalidURI", URI=path[:1024].decode("latin-1"))
    bucket = _bucket_of(host, domains) if domains else ""
    rest = path[1:]
    if not bucket:
        first, _, rest = rest.partition(b"/")
        bucket = _decoded(first)
        if not bucket:
            if rest:
                raise S3Error("InvalidBucketName", BucketName="")
            return Address("", "", SERVICE)
    if not rest:
        return Address(bucket, "", BUCKET)
    key = _decoded(rest)
    return Address(bucket, checked_key(key), KEY)


def checked_key(key: str) -> str:
    """The key, if it may be one.

    Raises:
        S3Error: KeyTooLongError, InvalidURI.
    """
    size = len(key) if key.isascii() else len(key.encode())
    if size > LONGEST_KEY:
        raise S3Error("KeyTooLongError", Size=str(size), MaxSizeAllowed=str(LONGEST_KEY))
    if "\0" in key:
        raise S3Error("InvalidURI", "A key cannot hold the character U+0000.")
    return key


def _bucket_of(host: bytes, domains: Sequence[str]) -> str:
    name = host.decode("latin-1").lower()
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    for domain in domains:
        if name.endswith("." + domain):
            return name[: -len(domain) - 1]
    return ""


def _decoded(raw: bytes) -> str:
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode()
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", URI=raw[:1024].decode("latin-1")) from error


def decoded_query(raw: bytes) -> dict[str, str]:
    """The parameters of a query; of those that come twice, the first.

    Raises:
        S3Error: InvalidURI.
    """
    found: dict[str, str] = {}
    for part in raw.split(b"&"):
        name, _, value = part.partition(b"=")
        if part:
            found.setdefault(_decoded(name.replace(b"+", b" ")), _decoded(value.replace(b"+", b" ")))
    return found


def as_headers(fields: Mapping[str, str]) -> dict[bytes, bytes]:
    """Fields of a query or a form that stand for headers: what could be no header is refused.

    Raises:
        S3Error: InvalidArgument.
    """
    for name, value in fields.items():
        if not _is_token(name) or _no_text(value):
            raise S3Error("InvalidArgument", "A header cannot hold this.", ArgumentName=name[:256])
    return {name.lower().encode(): value.encode() for name, value in fields.items()}
