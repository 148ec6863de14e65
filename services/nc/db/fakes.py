"""The pretend guests of all fake nodes of this process, written in batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from mallee.domain.guest import Cause, Guest, GuestKey, Phase
from mallee.kernel.db import Database, Prepared, Tx
from mallee.nc.db import metadata
from mallee.nc.db.batch import Batches

fake_guests = sa.Table(
    "fake_guest",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("instance_id", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, primary_key=True),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("guest", sa.LargeBinary, nullable=False),
    sa.Column("reboots", sa.Integer, nullable=False),
    sa.Column("boots", sa.LargeBinary, nullable=False),
    sa.Column("cause_code", sa.Text, nullable=False),
    sa.Column("cause_message", sa.Text, nullable=False),
    sa.Column("migration_id", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
)


class FakeRow(NamedTuple):
    """One pretend guest. `boots`: milliseconds since 1970 of each boot; `digest`: of a whole suspended image."""

    phase: Phase
    guest: Guest
    reboots: int = 0
    boots: tuple[int, ...] = ()
    cause: Cause | None = None
    migration_id: str = ""
    digest: str = ""


_Name = tuple[str, GuestKey]
_KEY = ("node", "instance_id", "generation")
_encode = msgspec.msgpack.Encoder().encode
_decode_guest = msgspec.msgpack.Decoder(Guest).decode
_decode_boots = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_DELETE = Prepared(
    sa.delete(fake_guests).where(*(fake_guests.c[name] == sa.bindparam(f"the_{name}") for name in _KEY))
)
_INSERT = Prepared(sa.insert(fake_guests))


def _columns(node: str, key: GuestKey, row: FakeRow) -> dict[str, Any]:
    return {
        "node": node,
        "instance_id": key.instance_id,
        "generation": key.generation,
        "phase": row.phase.value,
        "guest": _encode(row.guest),
        "reboots": row.reboots,
        "boots": _encode(row.boots),
        "cause_code": row.cause.code if row.cause else "",
        "cause_message": row.cause.message if row.cause else "",
        "migration_id": row.migration_id,
        "digest": row.digest,
    }


def _write(tx: Tx, changed: Mapping[_Name, FakeRow | None]) -> None:
    tx.execute(
        _DELETE,
        [
            {"the_node": node, "the_instance_id": key.instance_id, "the_generation": key.generation}
            for node, key in changed
        ],
    )
    rows = [_columns(node, key, row) for (node, key), row in changed.items() if row is not None]
    if rows:
        tx.execute(_INSERT, rows)


class FakeStore:
    """Rows of all fake nodes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._changes: Batches[_Name, FakeRow | None] = Batches(db, _write)

    async def load(self) -> dict[str, dict[GuestKey, FakeRow]]:
        """Every guest, by node."""
        return await self._db.read(_read)

    async def put(self, node: str, key: GuestKey, row: FakeRow | None) -> None:
        """Write a row, None to remove it; durable when this returns."""
        await self._changes.put({(node, key): row})

    def amend(self, node: str, key: GuestKey, row: FakeRow | None) -> None:
        """Write a row with the next one that is put."""
        self._changes.amend({(node, key): row})

    async def settle(self) -> None:
        """Wait for what is being written."""
        await self._changes.settle()


def _read(tx: Tx) -> dict[str, dict[GuestKey, FakeRow]]:
    found: dict[str, dict[GuestKey, FakeRow]] = {}
    for row in tx.execute(sa.select(fake_guests)):
        found.setdefault(row.node, {})[GuestKey(row.instance_id, row.generation)] = FakeRow(
            Phase(row.phase),
            _decode_guest(row.guest),
            row.reboots,
            _decode_boots(row.boots),
            Cause(row.cause_code, row.cause_message) if row.cause_code else None,
            row.migration_id,
            row.digest,
        )
    return found
