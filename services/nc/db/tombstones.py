"""What may never come back on a node: ended generations, and migrations that were called off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa

from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Prepared, Tx
from mallee.nc.db import metadata
from mallee.nc.db.batch import Batches

tombstones = sa.Table(
    "tombstone",
    metadata,
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),  # an instance, or a migration
    sa.Column("generation", sa.BigInteger, nullable=False),  # the highest ended one; 0 for a migration
    sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
)

KEPT_DAYS = 30  # no message and no saga lives that long


class _Subject(NamedTuple):
    node: str
    subject: str


class _Stone(NamedTuple):
    generation: int
    at_ms: int


_DELETE = Prepared(
    sa.delete(tombstones).where(
        tombstones.c.node == sa.bindparam("the_node"), tombstones.c.subject == sa.bindparam("the_subject")
    )
)
_INSERT = Prepared(sa.insert(tombstones))


def _write(tx: Tx, changed: Mapping[_Subject, _Stone]) -> None:
    tx.execute(_DELETE, [{"the_node": each.node, "the_subject": each.subject} for each in changed])
    tx.execute(_INSERT, [{**name._asdict(), **stone._asdict()} for name, stone in changed.items()])


class Graveyard:
    """The tombstones of every node of this process, in memory and on disk."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._changes: Batches[_Subject, _Stone] = Batches(db, _write)
        self._by_node: dict[str, dict[str, int]] = {}

    async def load(self) -> None:
        """Read what is on disk, and forget what is older than any message can be."""
        oldest = self._now_ms() - KEPT_DAYS * 86_400_000

        def work(tx: Tx) -> list[tuple[str, str, int]]:
            tx.execute(sa.delete(tombstones).where(tombstones.c.at_ms < oldest))
            columns = (tombstones.c.node, tombstones.c.subject, tombstones.c.generation)
            return [(row[0], row[1], row[2]) for row in tx.execute(sa.select(*columns))]

        for node, subject, generation in await self._db.transact(work):
            self._by_node.setdefault(node, {})[subject] = generation

    def ended(self, node: str, instance_id: str) -> int:
        """The highest generation of the instance that has ended on the node; 0 for none."""
        return self._by_node.get(node, {}).get(instance_id, 0)

    def is_dead(self, node: str, migration_id: str) -> bool:
        """Whether the migration was called off on the node."""
        return migration_id in self._by_node.get(node, {})

    async def end(self, node: str, instance_id: str, generation: int) -> None:
        """Nothing of this generation or an older one starts on the node from now on."""
        if generation > self.ended(node, instance_id):
            await self._bury(node, instance_id, generation)

    async def call_off(self, node: str, migration_id: str) -> None:
        """The migration is dead on the node, whatever arrives late."""
        if not self.is_dead(node, migration_id):
            await self._bury(node, migration_id, 0)

    async def _bury(self, node: str, subject: str, generation: int) -> None:
        # In memory first: an order that comes during the commit must meet the stone already.
        stones = self._by_node.setdefault(node, {})
        before = stones.get(subject)
        stones[subject] = generation
        try:
            await self._changes.put({_Subject(node, subject): _Stone(generation, self._now_ms())})
        except Exception:
            # Not on disk: whoever tries again must not take it for done.
            if stones.get(subject) == generation:
                if before is None:
                    del stones[subject]
                else:
                    stones[subject] = before
            raise

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
