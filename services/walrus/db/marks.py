"""How far a long walk has come, and what it found: it goes on after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, Text, bindparam, delete, insert, select

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.metadata import metadata

marks = Table(
    "marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("at", LargeBinary, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
)
damages = Table(
    "damages",
    metadata,
    Column("content", LargeBinary, primary_key=True),
    Column("found_ms", BigInteger, nullable=False),
    Column("why", Text, nullable=False),
)


class Mark(NamedTuple):
    """Everything up to `at` is done; the walk began at `began_ms`."""

    name: str
    at: bytes
    began_ms: int


class Damage(NamedTuple):
    """Bytes that are not what was written."""

    content: bytes
    found_ms: int
    why: str


_GET = Prepared(select(marks).where(marks.c.name == bindparam("of")))
_DELETE = Prepared(delete(marks).where(marks.c.name == bindparam("of")))
_MEND = Prepared(delete(damages).where(damages.c.content == bindparam("of")))
_DAMAGES = Prepared(select(damages).order_by(damages.c.content).limit(bindparam("size")))


def find(tx: Tx, name: str) -> Mark | None:
    row = tx.execute(_GET, {"of": name}).first()
    return Mark(*row) if row else None


def put(tx: Tx, mark: Mark) -> None:
    tx.execute(_DELETE, {"of": mark.name})
    tx.execute(insert(marks), mark._asdict())


def add_damage(tx: Tx, damage: Damage) -> None:
    tx.execute(insert(damages), damage._asdict())


def remove_damages(tx: Tx, ids: Sequence[bytes]) -> None:
    """They were looked at again."""
    if ids:
        tx.execute(_MEND, [{"of": content} for content in ids])


def damaged(tx: Tx, size: int = 1000) -> list[Damage]:
    return [Damage(*row) for row in tx.execute(_DAMAGES, {"size": size})]
