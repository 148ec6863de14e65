"""Usage of each bucket, counted by the transactions that change it.

In stripes by key: PostgreSQL's writers of one bucket would else all wait for one row.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    SmallInteger,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.buckets import buckets
from mallee.walrus.db.metadata import metadata

_STRIPES = 8

usage = Table(
    "usage",
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("stripe", SmallInteger, primary_key=True, autoincrement=False),
    Column("objects", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("uploading", BigInteger, nullable=False),
)


class UsageRow(NamedTuple):
    """Versions that have bytes, their bytes, and the bytes of open uploads' parts."""

    objects: int
    size: int
    uploading: int


_CHANGE = Prepared(
    update(usage)
    .where(usage.c.bucket == bindparam("at"), usage.c.stripe == bindparam("of"))
    .values(
        objects=usage.c.objects + bindparam("more_objects"),
        size=usage.c.size + bindparam("more_size"),
        uploading=usage.c.uploading + bindparam("more_uploading"),
    )
)
_SUMS = (func.sum(usage.c.objects), func.sum(usage.c.size), func.sum(usage.c.uploading))
_BUCKET = Prepared(select(*_SUMS).where(usage.c.bucket == bindparam("at")))
_ACCOUNT = Prepared(
    select(buckets.c.name, *_SUMS)
    .join(usage, usage.c.bucket == buckets.c.number)
    .where(buckets.c.owner == bindparam("owner"))
    .group_by(buckets.c.name)
    .order_by(buckets.c.name)
)
_DELETE = Prepared(delete(usage).where(usage.c.bucket == bindparam("at")))


def begin(tx: Tx, bucket: int) -> None:
    """A new bucket is empty."""
    rows = [
        {"bucket": bucket, "stripe": stripe, "objects": 0, "size": 0, "uploading": 0}
        for stripe in range(_STRIPES)
    ]
    tx.execute(insert(usage), rows)


def change(tx: Tx, bucket: int, key: bytes, *, objects: int = 0, size: int = 0, uploading: int = 0) -> None:
    """Count what a change under `key` adds; less than nothing takes away."""
    if objects or size or uploading:
        values = {"at": bucket, "of": zlib.crc32(key) % _STRIPES}
        tx.execute(
            _CHANGE, {**values, "more_objects": objects, "more_size": size, "more_uploading": uploading}
        )


def of_bucket(tx: Tx, bucket: int) -> UsageRow:
    return UsageRow(*map(int, tx.execute(_BUCKET, {"at": bucket}).one()))


def of_account(tx: Tx, owner: str) -> Sequence[tuple[str, UsageRow]]:
    """Each of the account's buckets, by name."""
    return [(row[0], UsageRow(*map(int, row[1:]))) for row in tx.execute(_ACCOUNT, {"owner": owner})]


def end(tx: Tx, bucket: int) -> None:
    tx.execute(_DELETE, {"at": bucket})
