"""What the store keeps, as its callers see it: buckets, versions, uploads, parts and pages of them.

All are values: a change is a call of the store, never an assignment. Keys are text; the store
keeps their UTF-8 bytes and orders by these. Times are UTC. Policies, ACLs and other configuration
documents are opaque bytes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from mallee.walrus.db.contents import ContentRow

Versioning = Literal["", "Enabled", "Suspended"]
ChecksumType = Literal["", "COMPOSITE", "FULL_OBJECT"]
NULL = "null"  # the version id of what was written without versioning


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket.

    Attributes:
        number: the store's own; a bucket of the same name made later has another.
        owner: the account's id.
        config: configuration documents by a name of the caller's choice (`policy`, `cors`...).
        object_lock: object lock was enabled; versioning then stays enabled.
    """

    number: int
    name: str
    owner: str
    region: str
    created: datetime
    versioning: Versioning = ""
    object_lock: bool = False
    config: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a version from being deleted: retention until a time, and a legal hold."""

    mode: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    until: datetime | None = None
    legal_hold: bool = False


@dataclass(frozen=True, slots=True)
class Encryption:
    """How the bytes of a new object are kept.

    Attributes:
        customer_key: 32 bytes for SSE-C, which the store forgets at once; None for SSE-S3.
    """

    customer_key: bytes | None = field(default=None, repr=False)


@dataclass(slots=True)  # not frozen, as `Version`
class NewObject:
    """What a writer says of an object; the store adds size, time, version and place.

    Attributes:
        owner: the account's id.
        etag: without quotes. For uploads in parts the store computes it at the end.
        headers: what GET and HEAD give back: `Content-Type`, `Cache-Control`, `x-amz-meta-...`.
        checksums: of the whole object, algorithm (`CRC64NVME`) to base64.
        acl: opaque.
    """

    owner: str
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: ChecksumType = ""
    storage_class: str = "STANDARD"
    acl: bytes = b""
    tags: Mapping[str, str] = field(default_factory=dict)
    lock: Lock = Lock()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold when the change is made; etags without quotes, `*` for any object.

    `size` and `modified` (to the second) are DeleteObject's further conditions.
    """

    if_match: str | None = None
    if_none_match: str | None = None
    size: int | None = None
    modified: datetime | None = None

    def __bool__(self) -> bool:
        return self != ALWAYS


ALWAYS = Conditions()


@dataclass(slots=True)  # not frozen: that takes several times as long, and every read makes one
class Version:
    """One version of an object, or a delete marker.

    Attributes:
        version_id: `null` where versioning did not give one.
        size: in bytes, as the client sent it.
        encryption: empty, `AES256` (SSE-S3) or `customer` (SSE-C).
        parts: how many the object was uploaded in; 0 for one that was put whole.
        content: where its bytes are; the store's own business. None for a delete marker.
    """

    bucket: str
    key: str
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: str
    is_latest: bool = True
    is_delete_marker: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: ChecksumType = ""
    storage_class: str = "STANDARD"
    encryption: Literal["", "AES256", "customer"] = ""
    parts: int = 0
    acl: bytes = b""
    tags: Mapping[str, str] = field(default_factory=dict)
    lock: Lock = Lock()
    content: ContentRow | None = field(default=None, repr=False)

    @property
    def modified(self) -> datetime:
        return datetime.fromtimestamp(self.modified_ms / 1000, UTC)


class Listed(NamedTuple):
    """An entry of a listing. `checksum` is `CRC64NVME:FULL_OBJECT` or empty."""

    key: str
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: str
    storage_class: str
    checksum: str
    is_latest: bool = True
    is_delete_marker: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, entries and common prefixes each in key order.

    Attributes:
        truncated: there is more; ask again with `after=next_key` (and `after_version=next_version`).
        next_key: the last entry's key or common prefix of this page.
        next_version: the last entry's version id; empty after a common prefix or in a listing of objects.
    """

    entries: Sequence[Listed]
    prefixes: Sequence[str] = ()
    truncated: bool = False
    next_key: str = ""
    next_version: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What DeleteObject answers.

    Attributes:
        version_id: of what was deleted, or of the marker that was made; empty in an unversioned bucket.
        delete_marker: a marker was made or removed.
    """

    version_id: str = ""
    delete_marker: bool = False


class Doomed(NamedTuple):
    """One of many to delete."""

    key: str
    version_id: str | None = None
    conditions: Conditions = ALWAYS


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that is under way.

    Attributes:
        initiator: the ARN or id of who began it; its owner is `new.owner`.
        checksum_algorithm: what each part carries; empty for none.
    """

    bucket: str
    key: str
    upload_id: str
    initiated: datetime
    initiator: str
    new: NewObject
    encryption: Literal["", "AES256", "customer"] = ""
    checksum_algorithm: str = ""
    checksum_type: ChecksumType = ""


class Part(NamedTuple):
    """A part that was uploaded; `checksums` algorithm to base64."""

    number: int
    size: int
    etag: str
    modified_ms: int
    checksums: Mapping[str, str]


class Claim(NamedTuple):
    """A part as CompleteMultipartUpload names it."""

    number: int
    etag: str
    checksums: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class PartsPage:
    """Parts by number from behind a marker; `next_number` continues it."""

    upload: Upload
    parts: Sequence[Part]
    truncated: bool = False
    next_number: int = 0


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """Uploads by key, then by time; the next page begins after (`next_key`, `next_upload`)."""

    uploads: Sequence[Upload]
    prefixes: Sequence[str] = ()
    truncated: bool = False
    next_key: str = ""
    next_upload: str = ""


class Usage(NamedTuple):
    """What is kept: `objects` counts every version that has bytes, `size` their bytes, `uploading` those of open uploads."""

    objects: int = 0
    size: int = 0
    uploading: int = 0
