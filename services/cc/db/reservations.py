"""Capacity that a migration holds on its destination, and what its source holds until it has discarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mallee.cc.db.schema import METADATA
from mallee.cc.db.upsert import Upsert
from mallee.domain.guest import Resources
from mallee.kernel.db import Prepared, Tx


class Reservation(NamedTuple):
    """`taker` is the name under which the inventory books it: `incoming:<migration>` or `outgoing:<migration>`."""

    taker: str
    host: int
    vcpus: int
    memory_mib: int

    @property
    def resources(self) -> Resources:
        return Resources(self.vcpus, self.memory_mib)


RESERVATIONS = sa.Table(
    "reservations",
    METADATA,
    sa.Column("taker", sa.String(64), primary_key=True),
    sa.Column("host", sa.Integer, nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mib", sa.BigInteger, nullable=False),
)

_UPSERT = Upsert(RESERVATIONS)
_DELETE = Prepared(sa.delete(RESERVATIONS).where(RESERVATIONS.c.taker == sa.bindparam("gone")))


def save(tx: Tx, rows: Sequence[Reservation]) -> None:
    _UPSERT(tx, rows)


def forget(tx: Tx, takers: Sequence[str]) -> None:
    """Unknown ones are fine."""
    tx.execute(_DELETE, [{"gone": taker} for taker in takers])


def load(tx: Tx) -> list[Reservation]:
    return [Reservation(*row) for row in tx.execute(sa.select(RESERVATIONS))]
