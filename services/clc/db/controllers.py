"""The cloud controllers that share this database, and a beat of each."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, String, Table, bindparam, delete, insert, select, update

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

controllers = Table(
    "controllers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("beat", BigInteger, nullable=False),
)

_of = controllers.c
_BEAT = Prepared(update(controllers).where(_of.id == bindparam("me")).values(beat=_of.beat + 1))
_ALL = Prepared(select(_of.id, _of.beat))
_FORGET = Prepared(delete(controllers).where(_of.id.in_(bindparam("ids", expanding=True))))


def beat(tx: Tx, me: str) -> dict[str, int]:
    """Show that the controller `me` lives; the beat of each."""
    if tx.execute(_BEAT, {"me": me}).rowcount == 0:
        tx.execute(insert(controllers), {"id": me, "beat": 1})
    return {row.id: row.beat for row in tx.execute(_ALL)}


def forget(tx: Tx, ids: Sequence[str]) -> None:
    """Take the dead off the list; one that lives all the same comes back with its next beat."""
    tx.execute(_FORGET, {"ids": list(ids)})
