"""The pretend guests of one node: pretend processes that live on while the node controller is down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from mallee.domain.guest import Cause, Guest, GuestKey, Phase
from mallee.kernel.errors import Fault, Kind
from mallee.nc.db.fakes import FakeRow, FakeStore
from mallee.nc.driver import Found


class FakeGuests:
    """Rows by key, in memory and on disk; what changes by itself waits in `unasked`."""

    def __init__(self, node: str, store: FakeStore, rows: Mapping[GuestKey, FakeRow]) -> None:
        self._node = node
        self._store = store
        # Half of an image died with the process that received it.
        self.rows = {key: row for key, row in rows.items() if row.phase is not Phase.INCOMING or row.digest}
        self._left_over = [key for key in rows if key not in self.rows]
        self.unwritten: set[GuestKey] = set()  # paused, and the disk does not know yet
        self.unasked: asyncio.Queue[Found] = asyncio.Queue()

    async def clear_left_over(self) -> None:
        """Take half-received copies from the disk as well."""
        left_over, self._left_over = self._left_over, []
        await asyncio.gather(*(self._store.put(self._node, key, None) for key in left_over))

    def get(self, key: GuestKey) -> FakeRow | None:
        return self.rows.get(key)

    def need(self, key: GuestKey) -> FakeRow:
        """The row of a guest that must be here.

        Raises:
            Fault: NOT_FOUND; STALE when only a newer generation is here.
        """
        row = self.rows.get(key)
        if row is not None:
            return row
        newer = any(k.instance_id == key.instance_id and k.generation > key.generation for k in self.rows)
        raise Fault(
            Kind.STALE if newer else Kind.NOT_FOUND,
            f"There is no guest {key.instance_id} of generation {key.generation} on {self._node}.",
            why="A newer generation has taken its place." if newer else "It ended, or was never here.",
            fix="Ask the cluster controller where the instance is.",
            code="stale-generation" if newer else "no-such-guest",
        )

    def latest(self, instance_id: str) -> FakeRow | None:
        """The newest generation of an instance."""
        held = [key for key in self.rows if key.instance_id == instance_id]
        return self.rows[max(held)] if held else None

    async def put(self, key: GuestKey, row: FakeRow) -> FakeRow:
        """Make this the truth; durable when it returns, taken back when the disk refuses."""
        before = self.rows.get(key)
        self.rows[key] = row
        try:
            await self._store.put(self._node, key, row)
        except Exception:
            if self.rows.get(key) is row:
                self._restore(key, before)
                # It may have been written all the same: what is taken back here is taken back there.
                self._store.amend(self._node, key, before)
            raise
        self.unwritten.discard(key)
        return row

    async def pause(self, key: GuestKey) -> None:
        """Stop the guest, whatever the disk says: no hypervisor needs one for that. Raises until it is written."""
        row = self.rows[key] = self.need(key)._replace(phase=Phase.PAUSED)
        self.unwritten.add(key)
        await self._store.put(self._node, key, row)
        self.unwritten.discard(key)

    async def change(self, key: GuestKey, **fields: Any) -> FakeRow:
        return await self.put(key, self.need(key)._replace(**fields))

    async def remove(self, key: GuestKey) -> None:
        before = self.rows.pop(key, None)
        self.unwritten.discard(key)
        if before is None:
            return
        try:
            await self._store.put(self._node, key, None)
        except Exception:
            self.rows.setdefault(key, before)
            raise

    async def end(self, key: GuestKey, cause: Cause) -> None:
        """The guest powers itself off, or dies."""
        row = self.rows.get(key)
        if row is None or row.phase is not Phase.RUNNING:
            return
        await self.change(key, phase=Phase.STOPPED, cause=cause)
        if (now := self.rows.get(key)) is not None:
            self.unasked.put_nowait(found(key, now))

    def _restore(self, key: GuestKey, before: FakeRow | None) -> None:
        if before is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = before


def found(key: GuestKey, row: FakeRow) -> Found:
    """The row as a node controller sees it."""
    return Found(key, row.guest, row.phase, row.cause, row.migration_id, row.reboots)


def conflict(what: str, why: str, code: str, fix: str = "Look at the guest's state and ask again.") -> Fault:
    """Not in this state."""
    return Fault(Kind.CONFLICT, what, why=why, fix=fix, code=code)


def pages_of(guest: Guest) -> int:
    return guest.resources.memory_mib * 256
