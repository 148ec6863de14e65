"""What a cloud decides once and every process of it must know: a name, a value."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, String, Table, bindparam, insert, select

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

_GET = Prepared(select(settings.c.value).where(settings.c.name == bindparam("name")))


def once(tx: Tx, name: str, value: bytes) -> bytes:
    """The value of that name; `value` from now on, if it had none."""
    there: bytes | None = tx.execute(_GET, {"name": name}).scalar()
    if there is not None:
        return there
    tx.execute(insert(settings), {"name": name, "value": value})
    return value
