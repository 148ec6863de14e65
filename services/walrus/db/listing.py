"""Slices of the key order, the raw material of listings: what to skip is decided by who walks.

A slice reads only the columns that a listing shows and touches only rows that it gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, bindparam, or_, select

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.objects import objects, versions

HIGHEST = b"\xff"  # above every key: no byte of UTF-8 is so high


class ListedRow(NamedTuple):
    """As `ObjectRow`; `content` is empty for a delete marker."""

    key: bytes
    rank: int
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: str
    storage_class: str
    checksum: str
    content: bytes


_SHOWN = ListedRow._fields
_OBJECTS = Prepared(
    select(*[objects.c[name] for name in _SHOWN])
    .where(
        objects.c.bucket == bindparam("at"),
        objects.c.key >= bindparam("low"),
        objects.c.key < bindparam("high"),
    )
    .order_by(objects.c.key)
    .limit(bindparam("size"))
)
_NEXT = Prepared(
    select(objects.c.key)
    .where(
        objects.c.bucket == bindparam("at"),
        objects.c.key >= bindparam("low"),
        objects.c.key < bindparam("high"),
    )
    .order_by(objects.c.key)
    .limit(1)
)
_VERSIONS = Prepared(
    select(*[versions.c[name] for name in _SHOWN])
    .where(
        versions.c.bucket == bindparam("at"),
        versions.c.key >= bindparam("low"),
        versions.c.key < bindparam("high"),
        or_(
            versions.c.key > bindparam("low"),
            and_(versions.c.key == bindparam("low"), versions.c.rank > bindparam("after")),
        ),
    )
    .order_by(versions.c.key, versions.c.rank)
    .limit(bindparam("size"))
)


def visible(tx: Tx, bucket: int, low: bytes, high: bytes, size: int) -> Sequence[ListedRow]:
    """Rows of `objects`, `low` <= key < `high`."""
    rows: Sequence[ListedRow] = tx.execute(_OBJECTS, {"at": bucket, "low": low, "high": high, "size": size})
    return rows


def next_visible(tx: Tx, bucket: int, low: bytes, high: bytes) -> bytes | None:
    """The first key of `objects` that is not below `low`."""
    found: bytes | None = tx.execute(_NEXT, {"at": bucket, "low": low, "high": high}).scalar()
    return found


def older(tx: Tx, bucket: int, low: bytes, high: bytes, after: int, size: int) -> Sequence[ListedRow]:
    """Rows of `versions`, by key and rank, `low` <= key < `high`, under `low` itself of a rank above `after`."""
    values = {"at": bucket, "low": low, "high": high, "after": after, "size": size}
    rows: Sequence[ListedRow] = tx.execute(_VERSIONS, values)
    return rows
