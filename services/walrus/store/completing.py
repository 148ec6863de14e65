"""What CompleteMultipartUpload checks and makes, inside its transaction.

Source: "Uploading and copying objects using multipart upload" and the API's CompleteMultipartUpload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, uploads
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.db.objects import ObjectRow
from mallee.walrus.db.parts import PartRow
from mallee.walrus.db.uploads import CompletedRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store import sealing
from mallee.walrus.store.checksums import etag_of_parts, of_parts
from mallee.walrus.store.documents import Claim, Upload, Version
from mallee.walrus.store.reading import PartEntry, pack_parts
from mallee.walrus.store.rows import encode, object_row, texts, version_of

SMALLEST = 5 * 1024 * 1024  # bytes of every part but the last


class Whole(NamedTuple):
    """The object that the parts make; `contents` names their bytes."""

    size: int
    etag: str
    checksums: dict[str, str]
    manifest: bytes
    contents: dict[bytes, None]
    parts: int


_decode_row: Callable[[bytes], ObjectRow] = msgspec.msgpack.Decoder(ObjectRow).decode


def check_order(claims: Sequence[Claim]) -> None:
    """Raises S3Error MalformedXML, InvalidPartOrder."""
    if not claims:
        raise S3Error("MalformedXML")
    if any(before.number >= after.number for before, after in pairwise(claims)):
        raise S3Error("InvalidPartOrder")


def join(upload: Upload, claims: Sequence[Claim], uploaded: Sequence[PartRow]) -> Whole:
    """Raises S3Error InvalidPart, EntityTooSmall."""
    there = {row.number: row for row in uploaded}
    entries = [_claimed(upload, claim, there.get(claim.number)) for claim in claims]
    for entry in entries[:-1]:
        if entry.size < SMALLEST:
            raise S3Error(
                "EntityTooSmall",
                PartNumber=str(entry.number),
                ProposedSize=str(entry.size),
                MinSizeAllowed=str(SMALLEST),
                ETag=entry.etag,
            )
    return Whole(
        size=sum(entry.size for entry in entries),
        etag=etag_of_parts([entry.etag for entry in entries]),
        checksums=_checksums(upload, entries),
        manifest=pack_parts(entries),
        contents=dict.fromkeys(entry.content for entry in entries),
        parts=len(entries),
    )


def check_whole(whole: Whole, checksums: Mapping[str, str], size: int | None) -> None:
    """What the client says of the whole. Raises S3Error InvalidRequest, BadDigest."""
    if size is not None and size != whole.size:
        raise S3Error(
            "InvalidRequest",
            "The provided 'x-amz-mp-object-size' header does not match what was computed.",
        )
    for algorithm, stated in checksums.items():
        if whole.checksums.get(algorithm, stated) not in {stated, f"{stated}-{whole.parts}"}:
            raise S3Error(
                "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
            )


def first_crypt(tx: Tx, whole: Whole) -> bytes:
    """How the first part was sealed: all were by the same client's key, or none."""
    first = contents.find(tx, next(iter(whole.contents)))
    return first.crypt if first else b""


def row_of(upload: Upload, whole: Whole, key: bytes, content: ContentRow, now_ms: int) -> ObjectRow:
    new = replace(
        upload.new,
        etag=whole.etag,
        checksums=whole.checksums,
        checksum_type=upload.checksum_type if whole.checksums else "",
    )
    return object_row(new, key, content, sealing.kind_of(content.crypt), now_ms, parts=whole.parts)


def answer_of(bucket: str, key: str, kept: ObjectRow, content: ContentRow) -> tuple[Version, bytes]:
    """The version, and what is remembered of it."""
    return version_of(bucket, key, kept, content), encode(kept)


def version_again(bucket: str, key: str, answer: bytes) -> Version:
    """The version that was answered the first time; its bytes are to be found anew."""
    return version_of(bucket, key, _decode_row(answer), None)


def remember(
    tx: Tx, upload_id: str, bucket: int, key: bytes, now_ms: int, asked: bytes, answer: bytes
) -> None:
    uploads.complete(tx, CompletedRow(upload_id, bucket, key, now_ms, asked, answer))


def remembered(tx: Tx, bucket: int, key: bytes, upload_id: str, asked: bytes) -> bytes:
    """What this very request was answered before. Raises S3Error NoSuchUpload."""
    row = uploads.find_completed(tx, upload_id)
    if row is None or (row.bucket, row.key, row.claims) != (bucket, key, asked):
        raise S3Error("NoSuchUpload", UploadId=upload_id)
    return row.answer


def _claimed(upload: Upload, claim: Claim, row: PartRow | None) -> PartEntry:
    there: dict[str, Any] = texts(row.checksums) if row else {}
    if (
        row is None
        or row.etag != claim.etag
        or any(there.get(name) != value for name, value in claim.checksums.items())
    ):
        raise S3Error("InvalidPart", UploadId=upload.upload_id, PartNumber=str(claim.number), ETag=claim.etag)
    return PartEntry(row.number, row.content, row.size, row.etag, row.modified_ms, there)


def _checksums(upload: Upload, entries: Sequence[PartEntry]) -> dict[str, str]:
    """Of the whole, where every part has one."""
    algorithm = upload.checksum_algorithm
    if not algorithm or any(algorithm not in entry.checksums for entry in entries):
        return {}
    parts = [(entry.checksums[algorithm], entry.size) for entry in entries]
    return {algorithm: of_parts(algorithm, upload.checksum_type, parts)}
