"""Migrations: who goes where, how far it is, and everything that was seen on the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mallee.cc.db.schema import METADATA
from mallee.cc.db.upsert import Upsert
from mallee.kernel.db import Tx

OPEN = ("pending", "running")


class Transfer(NamedTuple):
    """A migration as it stands: `doc` is its JSON, the rest is what is searched by."""

    migration_id: str
    instance_id: str
    source: int
    destination: int
    state: str
    stage: int
    started_ms: int
    doc: str


TRANSFERS = sa.Table(
    "migrations",
    METADATA,
    sa.Column("migration_id", sa.String(64), primary_key=True),
    sa.Column("instance_id", sa.String(32), nullable=False),
    sa.Column("source", sa.Integer, nullable=False),
    sa.Column("destination", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Index("migrations_by_instance", "instance_id", "migration_id"),
    sa.Index("migrations_by_state", "state", "migration_id"),
)

_UPSERT = Upsert(TRANSFERS)


def save(tx: Tx, rows: Sequence[Transfer]) -> None:
    _UPSERT(tx, rows)


def load_open(tx: Tx) -> list[Transfer]:
    """Those that have not ended, oldest first."""
    query = sa.select(TRANSFERS).where(TRANSFERS.c.state.in_(OPEN))
    return [
        Transfer(*row) for row in tx.execute(query.order_by(TRANSFERS.c.started_ms, TRANSFERS.c.migration_id))
    ]


def find(tx: Tx, migration_id: str) -> Transfer | None:
    row = tx.execute(sa.select(TRANSFERS).where(TRANSFERS.c.migration_id == migration_id)).one_or_none()
    return None if row is None else Transfer(*row)


def page(
    tx: Tx,
    *,
    migration_ids: Collection[str] = (),
    instance_ids: Collection[str] = (),
    states: Collection[str] = (),
    after: str = "",
    limit: int = 1000,
) -> list[Transfer]:
    """A page by id. Empty collections do not restrict."""
    query = sa.select(TRANSFERS).where(TRANSFERS.c.migration_id > after)
    if migration_ids:
        query = query.where(TRANSFERS.c.migration_id.in_(migration_ids))
    if instance_ids:
        query = query.where(TRANSFERS.c.instance_id.in_(instance_ids))
    if states:
        query = query.where(TRANSFERS.c.state.in_(states))
    return [Transfer(*row) for row in tx.execute(query.order_by(TRANSFERS.c.migration_id).limit(limit))]
