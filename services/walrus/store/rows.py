"""Between what the database keeps and what the store's callers see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from mallee.walrus.db.buckets import BucketRow
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.db.listing import ListedRow
from mallee.walrus.db.objects import ObjectRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store.documents import (
    Bucket,
    ChecksumType,
    Listed,
    Lock,
    NewObject,
    Version,
)
from mallee.walrus.store.sealing import Kind

_LONGEST_KEY = 1024  # bytes

encode = msgspec.msgpack.Encoder().encode


class Details(msgspec.Struct, array_like=True, frozen=True):
    """What of a version only HEAD and GET ask for."""

    headers: dict[str, str]
    checksums: dict[str, str]
    checksum_type: ChecksumType
    encryption: Kind
    parts: int = 0


@dataclass(frozen=True, slots=True)
class UploadDocument:
    """What an upload's row keeps; `crypt` proves the client's key of an SSE-C upload."""

    new: NewObject
    initiator: str
    encryption: Kind
    crypt: bytes
    checksum_algorithm: str
    checksum_type: ChecksumType


_details: Callable[[bytes], Details] = msgspec.msgpack.Decoder(Details).decode
_texts: Callable[[bytes], dict[str, str]] = msgspec.msgpack.Decoder(dict[str, str]).decode
_config: Callable[[bytes], dict[str, bytes]] = msgspec.msgpack.Decoder(dict[str, bytes]).decode
upload_document: Callable[[bytes], UploadDocument] = msgspec.msgpack.Decoder(UploadDocument).decode


def key_bytes(key: str) -> bytes:
    """As the database keeps it. Raises S3Error InvalidURI, KeyTooLongError."""
    found = utf8(key)
    if len(found) > _LONGEST_KEY:
        raise S3Error("KeyTooLongError", Size=str(len(found)), MaxSizeAllowed=str(_LONGEST_KEY))
    return found


def utf8(text: str) -> bytes:
    """Raises S3Error InvalidURI for a lone surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise S3Error("InvalidURI") from error


def pack_texts(texts: Mapping[str, str]) -> bytes:
    return encode(dict(texts)) if texts else b""


def texts(packed: bytes) -> dict[str, str]:
    return _texts(packed) if packed else {}


def pack_config(config: Mapping[str, bytes]) -> bytes:
    return encode(dict(config)) if config else b""


def config(packed: bytes) -> dict[str, bytes]:
    return _config(packed) if packed else {}


def milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else 0


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def bucket_of(row: BucketRow) -> Bucket:
    return Bucket(
        number=row.number,
        name=row.name,
        owner=row.owner,
        region=row.region,
        created=moment(row.created_ms),
        versioning=row.versioning,  # type: ignore[arg-type]  # only such are written
        object_lock=row.object_lock,
        config=config(row.config),
    )


def object_row(
    new: NewObject, key: bytes, content: ContentRow, encryption: Kind, now_ms: int, *, parts: int = 0
) -> ObjectRow:
    """A version before it has a bucket, a rank and an id."""
    details = Details(dict(new.headers), dict(new.checksums), new.checksum_type, encryption, parts)
    algorithms = ",".join(new.checksums)
    return ObjectRow(
        bucket=0,
        key=key,
        rank=0,
        version_id="",
        size=content.size,
        etag=new.etag,
        modified_ms=now_ms,
        owner=new.owner,
        storage_class=new.storage_class,
        checksum=f"{algorithms}:{new.checksum_type}" if algorithms else "",
        content=content.id,
        details=encode(details),
        acl=new.acl,
        tags=pack_texts(new.tags),
        lock_mode=new.lock.mode,
        lock_until_ms=milliseconds(new.lock.until),
        legal_hold=new.lock.legal_hold,
    )


def lock_of(row: ObjectRow) -> Lock:
    if not row.lock_mode and not row.legal_hold:
        return _FREE
    until = moment(row.lock_until_ms) if row.lock_until_ms else None
    return Lock(row.lock_mode, until, row.legal_hold)  # type: ignore[arg-type]  # only such are written


def version_of(
    bucket: str, key: str, row: ObjectRow, content: ContentRow | None, *, latest: bool = True
) -> Version:
    details = _details(row.details) if row.details else _NO_DETAILS
    return Version(
        bucket,
        key,
        row.version_id,
        row.size,
        row.etag,
        row.modified_ms,
        row.owner,
        latest,
        not row.content,
        details.headers,
        details.checksums,
        details.checksum_type,
        row.storage_class,
        details.encryption,
        details.parts,
        row.acl,
        texts(row.tags),
        lock_of(row),
        content,
    )


def listed_of(row: ListedRow, *, latest: bool) -> Listed:
    return Listed(
        row.key.decode(),
        row.version_id,
        row.size,
        row.etag,
        row.modified_ms,
        row.owner,
        row.storage_class,
        row.checksum,
        latest,
        not row.content,
    )


_FREE = Lock()
_NO_DETAILS = Details({}, {}, "", "")
