"""Where each instance is: node and generation, the wish that was taken over, and what came of it.

A row is what the controller knows durably. Phases that pass by themselves (provisioning, running) are
written late; the node's own facts are the truth about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mallee.cc.db.schema import METADATA
from mallee.cc.db.upsert import Upsert
from mallee.domain.guest import Cause, Phase, Power, Resources
from mallee.kernel.db import Prepared, Tx


class Placement(NamedTuple):
    """One instance. Immutable: a change is a new row, `row._replace(...)`.

    Args:
        host: number of the node that holds it, -1 for none.
        generation: of the newest copy that may run.
        issued: the highest generation ever given out; a failed migration's is never given twice.
        left_host, left_generation: the node where the last copy was when its capacity was given back.
        revision: of the wish that is taken over, 0 while it is a mere claim.
        pinned: number of the only node it may start on, -1 for any.
    """

    instance_id: str
    host: int = -1
    generation: int = 0
    issued: int = 0
    left_host: int = -1
    left_generation: int = 0
    revision: int = 0
    power: str = Power.RUNNING
    force: bool = False
    reboots: int = 0
    phase: str = Phase.CLAIMED
    vcpus: int = 0
    memory_mib: int = 0
    guest: bytes = b""
    pinned: int = -1
    cause_code: str = ""
    cause_message: str = ""
    updated_ms: int = 0

    @property
    def resources(self) -> Resources:
        return Resources(self.vcpus, self.memory_mib)

    @property
    def cause(self) -> Cause | None:
        return Cause(self.cause_code, self.cause_message) if self.cause_code else None

    @property
    def claimed(self) -> bool:
        """Capacity is held, and no order has bound it."""
        return self.host >= 0 and self.phase == Phase.CLAIMED

    @property
    def ended(self) -> bool:
        """A tombstone."""
        return self.phase == Phase.TERMINATED


PLACEMENTS = sa.Table(
    "placements",
    METADATA,
    sa.Column("instance_id", sa.String(32), primary_key=True),
    sa.Column("host", sa.Integer, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("issued", sa.BigInteger, nullable=False),
    sa.Column("left_host", sa.Integer, nullable=False),
    sa.Column("left_generation", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("power", sa.String(16), nullable=False),
    sa.Column("force", sa.Boolean, nullable=False),
    sa.Column("reboots", sa.Integer, nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mib", sa.BigInteger, nullable=False),
    sa.Column("guest", sa.LargeBinary, nullable=False),
    sa.Column("pinned", sa.Integer, nullable=False),
    sa.Column("cause_code", sa.String(96), nullable=False),
    sa.Column("cause_message", sa.Text, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)

_UPSERT = Upsert(PLACEMENTS)
_ALL = Prepared(sa.select(PLACEMENTS))
_DELETE = Prepared(sa.delete(PLACEMENTS).where(PLACEMENTS.c.instance_id == sa.bindparam("gone")))


def save(tx: Tx, rows: Sequence[Placement]) -> None:
    """Write these rows whole, whether they were there or not."""
    _UPSERT(tx, rows)


def load(tx: Tx) -> list[Placement]:
    """Every placement and tombstone."""
    return [Placement(*row) for row in tx.execute(_ALL)]


def forget(tx: Tx, instance_ids: Sequence[str]) -> None:
    """Delete tombstones and claims that nobody bound."""
    if instance_ids:
        tx.execute(_DELETE, [{"gone": instance_id} for instance_id in instance_ids])
