"""What a cloud decides once and every process of it must know: a name, a value."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, String, Table, bindparam, insert, select, update

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

_GET = Prepared(select(settings.c.value).where(settings.c.name == bindparam("name")))
_SET = Prepared(update(settings).where(settings.c.name == bindparam("b_name")).values(value=bindparam("new")))


# How often something that a launch may stand on was changed or taken away, whoever's it was.
GROUND = "ground"


def once(tx: Tx, name: str, value: bytes) -> bytes:
    """The value of that name; `value` from now on, if it had none."""
    there: bytes | None = tx.execute(_GET, {"name": name}).scalar()
    if there is not None:
        return there
    tx.execute(insert(settings), {"name": name, "value": value})
    return value


def count(tx: Tx, name: str) -> int:
    """How often `count_one` was called for that name."""
    there: bytes | None = tx.execute(_GET, {"name": name}).scalar()
    return int(there or b"0")


def count_one(tx: Tx, name: str) -> None:
    """One more."""
    there = count(tx, name)
    if there:
        tx.execute(_SET, {"b_name": name, "new": b"%d" % (there + 1)})
    else:
        tx.execute(insert(settings), {"name": name, "value": b"1"})
