"""The parts of uploads that are under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.metadata import metadata

parts = Table(
    "parts",
    metadata,
    Column("upload", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", String(80), nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("checksums", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


class PartRow(NamedTuple):
    upload: str
    number: int
    content: bytes
    size: int
    etag: str
    modified_ms: int
    checksums: bytes


_ADD = Prepared(insert(parts))
_AT = (parts.c.upload == bindparam("at"), parts.c.number == bindparam("of"))
_GET = Prepared(select(parts).where(*_AT))
_DELETE = Prepared(delete(parts).where(*_AT))
_PAGE = Prepared(
    select(parts)
    .where(parts.c.upload == bindparam("at"), parts.c.number > bindparam("after"))
    .order_by(parts.c.number)
    .limit(bindparam("size"))
)
_DELETE_ALL = Prepared(delete(parts).where(parts.c.upload == bindparam("at")))


def put(tx: Tx, row: PartRow) -> PartRow | None:
    """Keep a part; the one of the same number that was there before."""
    at = {"at": row.upload, "of": row.number}
    before = tx.execute(_GET, at).first()
    if before is not None:
        tx.execute(_DELETE, at)
    tx.execute(_ADD, row)
    return PartRow(*before) if before else None


def page(tx: Tx, upload: str, after: int, size: int) -> Sequence[PartRow]:
    """By number, from behind `after`."""
    return [PartRow(*row) for row in tx.execute(_PAGE, {"at": upload, "after": after, "size": size})]


def remove_all(tx: Tx, upload: str) -> None:
    tx.execute(_DELETE_ALL, {"at": upload})
