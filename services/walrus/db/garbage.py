"""Garbage: bytes that no object has any more, listed by the transaction that took the last one away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    LargeBinary,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.metadata import metadata

garbage = Table(
    "garbage",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("since_ms", BigInteger, nullable=False, index=True),
    Column("doomed", Boolean, nullable=False),  # its content is forgotten, only the blob may be there
)


class GarbageRow(NamedTuple):
    id: bytes
    since_ms: int
    doomed: bool


_ADD = Prepared(insert(garbage))
_DOOM = Prepared(update(garbage).where(garbage.c.id == bindparam("of")).values(doomed=True))
_REMOVE = Prepared(delete(garbage).where(garbage.c.id == bindparam("of")))
_DUE = Prepared(
    select(garbage)
    .where(garbage.c.since_ms <= bindparam("before"))
    .order_by(garbage.c.since_ms)
    .limit(bindparam("size"))
)
_SINCE = Prepared(select(garbage.c.since_ms).where(garbage.c.id == bindparam("of")))
_PRESENT = Prepared(select(garbage.c.id).where(garbage.c.id.in_(bindparam("ids", expanding=True))))


def add(tx: Tx, content: bytes, now_ms: int) -> None:
    tx.execute(_ADD, GarbageRow(content, now_ms, doomed=False))


def add_blobs(tx: Tx, ids: Sequence[bytes], now_ms: int) -> None:
    """Blobs whose contents are forgotten."""
    tx.execute(_ADD, [GarbageRow(blob, now_ms, doomed=True) for blob in ids])


def due(tx: Tx, before_ms: int, size: int) -> list[GarbageRow]:
    """The oldest that are garbage since `before_ms` or longer."""
    return [GarbageRow(*row) for row in tx.execute(_DUE, {"before": before_ms, "size": size})]


def since(tx: Tx, content: bytes) -> int:
    """When it became garbage; 0 for what is none."""
    found: int = tx.execute(_SINCE, {"of": content}).scalar() or 0
    return found


def doom(tx: Tx, ids: Sequence[bytes]) -> None:
    tx.execute(_DOOM, [{"of": content} for content in ids])


def rescue(tx: Tx, content: bytes) -> None:
    """Somebody has it again; its content is still known."""
    tx.execute(_REMOVE, {"of": content})


def remove(tx: Tx, ids: Sequence[bytes]) -> None:
    """The blobs are gone."""
    tx.execute(_REMOVE, [{"of": content} for content in ids])


def present(tx: Tx, ids: Sequence[bytes]) -> set[bytes]:
    """Which of them are listed."""
    return {bytes(row[0]) for row in tx.execute(_PRESENT, {"ids": list(ids)})} if ids else set()
