"""Buckets: names are one of a kind in the whole cloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.metadata import metadata

buckets = Table(
    "buckets",
    metadata,
    Column("number", Integer, primary_key=True),
    # PostgreSQL would else order as the language of its machine does.
    Column("name", String(255).with_variant(String(255, collation="C"), "postgresql"), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("region", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("versioning", String(9), nullable=False),
    Column("object_lock", Boolean, nullable=False),
    Column("config", LargeBinary, nullable=False),  # documents by name
    Index("ux_buckets_name", "name", unique=True),
    Index("ix_buckets_owner", "owner", "name"),
    sqlite_autoincrement=True,  # a number is never given twice
)


class BucketRow(NamedTuple):
    """A bucket as it is kept."""

    number: int
    name: str
    owner: str
    region: str
    created_ms: int
    versioning: str
    object_lock: bool
    config: bytes


_GET = Prepared(select(buckets).where(buckets.c.name == bindparam("name")))
_OWNED = Prepared(
    select(buckets)
    .where(
        buckets.c.owner == bindparam("owner"),
        buckets.c.name >= bindparam("low"),
        buckets.c.name < bindparam("high"),
    )
    .order_by(buckets.c.name)
    .limit(bindparam("size"))
)
_COUNT = Prepared(select(func.count()).where(buckets.c.owner == bindparam("owner")))
_CONFIG = Prepared(
    update(buckets).where(buckets.c.number == bindparam("at")).values(config=bindparam("config"))
)
_VERSIONING = Prepared(
    update(buckets)
    .where(buckets.c.number == bindparam("at"))
    .values(versioning=bindparam("versioning"), object_lock=bindparam("object_lock"))
)
_DELETE = Prepared(delete(buckets).where(buckets.c.number == bindparam("at")))
_ALL = Prepared(
    select(buckets)
    .where(buckets.c.name > bindparam("after"))
    .order_by(buckets.c.name)
    .limit(bindparam("size"))
)


def find(tx: Tx, name: str) -> BucketRow | None:
    row = tx.execute(_GET, {"name": name}).first()
    return BucketRow(*row) if row else None


def owned(tx: Tx, owner: str, low: str, high: str, size: int) -> Sequence[BucketRow]:
    """The account's, by name, `low` <= name < `high`."""
    rows = tx.execute(_OWNED, {"owner": owner, "low": low, "high": high, "size": size})
    return [BucketRow(*row) for row in rows]


def page(tx: Tx, after: str, size: int) -> Sequence[BucketRow]:
    """Everybody's, by name, from behind `after`."""
    return [BucketRow(*row) for row in tx.execute(_ALL, {"after": after, "size": size})]


def count(tx: Tx, owner: str) -> int:
    found: int = tx.execute(_COUNT, {"owner": owner}).scalar_one()
    return found


def add(tx: Tx, row: BucketRow) -> BucketRow:
    """Keep a new bucket; its number is the database's choice. Its name is free."""
    values = row._asdict()
    del values["number"]
    number = tx.execute(insert(buckets).returning(buckets.c.number), values).scalar_one()
    return row._replace(number=number)


def set_config(tx: Tx, number: int, config: bytes) -> None:
    tx.execute(_CONFIG, {"at": number, "config": config})


def set_versioning(tx: Tx, number: int, versioning: str, *, object_lock: bool) -> None:
    tx.execute(_VERSIONING, {"at": number, "versioning": versioning, "object_lock": object_lock})


def remove(tx: Tx, number: int) -> None:
    tx.execute(_DELETE, {"at": number})
