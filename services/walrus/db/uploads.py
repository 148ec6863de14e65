"""Uploads in parts, and for a while what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.metadata import metadata

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("bucket", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("initiated_ms", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),  # what the object will be
    Index("ix_uploads_key", "bucket", "key", "id"),
)
# Clients ask again for the end of an upload whose answer they lost.
completed = Table(
    "completed",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("bucket", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("claims", LargeBinary, nullable=False),  # a digest of what was asked
    Column("answer", LargeBinary, nullable=False),
)


class UploadRow(NamedTuple):
    id: str
    bucket: int
    key: bytes
    initiated_ms: int
    document: bytes


class CompletedRow(NamedTuple):
    id: str
    bucket: int
    key: bytes
    at_ms: int
    claims: bytes
    answer: bytes


_ADD = Prepared(insert(uploads))
_GET = Prepared(select(uploads).where(uploads.c.id == bindparam("of")))
_DELETE = Prepared(delete(uploads).where(uploads.c.id == bindparam("of")))
_PAGE = Prepared(
    select(uploads)
    .where(
        uploads.c.bucket == bindparam("at"),
        uploads.c.key >= bindparam("low"),
        uploads.c.key < bindparam("high"),
        or_(
            uploads.c.key > bindparam("low"),
            and_(uploads.c.key == bindparam("low"), uploads.c.id > bindparam("after")),
        ),
    )
    .order_by(uploads.c.key, uploads.c.id)
    .limit(bindparam("size"))
)
_COMPLETE = Prepared(insert(completed))
_COMPLETED = Prepared(select(completed).where(completed.c.id == bindparam("of")))
_FORGET = Prepared(delete(completed).where(completed.c.at_ms < bindparam("before")))
_FORGET_BUCKET = Prepared(delete(completed).where(completed.c.bucket == bindparam("at")))


def add(tx: Tx, row: UploadRow) -> None:
    tx.execute(_ADD, row)


def find(tx: Tx, upload_id: str) -> UploadRow | None:
    row = tx.execute(_GET, {"of": upload_id}).first()
    return UploadRow(*row) if row else None


def page(tx: Tx, bucket: int, low: bytes, high: bytes, after: str, size: int) -> Sequence[UploadRow]:
    """By key and id, `low` <= key < `high`, and under `low` itself from behind `after`."""
    values = {"at": bucket, "low": low, "high": high, "after": after, "size": size}
    return [UploadRow(*row) for row in tx.execute(_PAGE, values)]


def remove(tx: Tx, upload_id: str) -> None:
    tx.execute(_DELETE, {"of": upload_id})


def complete(tx: Tx, row: CompletedRow) -> None:
    """Remember how an upload ended."""
    tx.execute(_COMPLETE, row)


def find_completed(tx: Tx, upload_id: str) -> CompletedRow | None:
    row = tx.execute(_COMPLETED, {"of": upload_id}).first()
    return CompletedRow(*row) if row else None


def forget_completed(tx: Tx, before_ms: int) -> int:
    """How many answers of before that time were forgotten."""
    return tx.execute(_FORGET, {"before": before_ms}).rowcount


def forget_bucket(tx: Tx, bucket: int) -> None:
    tx.execute(_FORGET_BUCKET, {"at": bucket})
