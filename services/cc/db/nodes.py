"""The nodes that have ever attended, in the order in which they first did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mallee.cc.db.schema import METADATA
from mallee.cc.db.upsert import Upsert
from mallee.kernel.db import Prepared, Tx


class NodeRow(NamedTuple):
    """A node as it was last heard of.

    Attributes:
        number: that of its host id.
        speaker: the name in the certificate that spoke for it; a node that was last heard of before this was
            written down has to attend again before anybody dials it.
    """

    number: int
    name: str
    zone: str
    vcpus: int
    memory_mib: int
    cpu_model: str
    hypervisor: str
    address: str
    boot_id: str
    cordoned: bool
    lost: bool
    joined_ms: int
    speaker: str = "nobody"

    @property
    def host_id(self) -> str:
        return f"h-{self.number}"


NODES = sa.Table(
    "nodes",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("zone", sa.String(64), nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mib", sa.BigInteger, nullable=False),
    sa.Column("cpu_model", sa.String(128), nullable=False),
    sa.Column("hypervisor", sa.String(32), nullable=False),
    sa.Column("address", sa.String(255), nullable=False),
    sa.Column("boot_id", sa.String(64), nullable=False),
    sa.Column("cordoned", sa.Boolean, nullable=False),
    sa.Column("lost", sa.Boolean, nullable=False),
    sa.Column("joined_ms", sa.BigInteger, nullable=False),
    sa.Column("speaker", sa.String(64), nullable=False, server_default="nobody"),
)

_UPSERT = Upsert(NODES)
_ALL = Prepared(sa.select(NODES).order_by(NODES.c.number))


def save(tx: Tx, rows: Sequence[NodeRow]) -> None:
    """Write these rows whole, whether they were there or not."""
    _UPSERT(tx, rows)


def load(tx: Tx) -> list[NodeRow]:
    """Every node."""
    return [NodeRow(*row) for row in tx.execute(_ALL)]
