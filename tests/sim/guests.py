"""What really runs, by nobody's word: the pretend guests themselves, at every change of any of them.

While a node controller lives its guests are what its driver holds; when it dies they are what is on its disk.
A host that is off or hangs runs nothing. One that wakes runs its guests again until its controller has
noticed: no software on the host could be quicker, so for `NOTICES` seconds that is nobody's mistake. Nor is what guests
do whose controller has been dead for about as long as a lease, because it was killed again and again or its disk would
not let it start: nobody is there to pause them (`docs/reliability.md`, what the simulation does not show).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mallee.domain.guest import Cause, Guest, GuestKey, Phase
from mallee.nc.db.fakes import FakeRow
from mallee.nc.drivers import fake_guests
from tests.sim.loop import LIFE

if TYPE_CHECKING:
    from tests.sim.world import Process, World

NOTICES = 3.0
DESERTED = 8.0  # seconds; a lease lasts ten, by clocks that differ
HELD = frozenset({Phase.RUNNING, Phase.PAUSED, Phase.INCOMING})


class Copy(NamedTuple):
    """One guest on one node."""

    node: str
    instance_id: str
    generation: int
    phase: Phase
    vcpus: int
    memory_mib: int
    migration_id: str
    slow: bool = False  # its owner asked for that


class Rows(dict[GuestKey, Any]):
    """The guests of one living node; tells of each change."""

    changed: Callable[[GuestKey], None]

    def __setitem__(self, key: GuestKey, row: Any) -> None:
        super().__setitem__(key, row)
        self.changed(key)

    def __delitem__(self, key: GuestKey) -> None:
        super().__delitem__(key)
        self.changed(key)

    def pop(self, key: GuestKey, *default: Any) -> Any:
        had = key in self
        row = super().pop(key, *default)
        if had:
            self.changed(key)
        return row

    def setdefault(self, key: GuestKey, row: Any = None) -> Any:
        kept = super().setdefault(key, row)
        self.changed(key)
        return kept


class Guests:
    """All guests of a world. Args: `told`, called after each change with the node, the instance, and whether somebody did it."""

    def __init__(self, world: World, told: Callable[[str, str, bool], None]) -> None:
        self._world = world
        self._told = told
        self._rows: dict[str, dict[GuestKey, Any]] = {}  # by process: each has one node
        self.awake_since: dict[str, float] = {}
        self._alone_since: dict[str, float] = {}  # whose controller is dead
        world.on_death.append(self._died)
        _watch(self._opened)

    def of(self, node: str) -> Iterator[Copy]:
        for key, row in self._rows.get(node, {}).items():
            size = row.guest.resources
            slow = "mallee:slow" in row.guest.tags
            yield Copy(node, *key, row.phase, size.vcpus, size.memory_mib, row.migration_id, slow)

    def every(self) -> Iterator[Copy]:
        for node in self._rows:
            yield from self.of(node)

    def runs(self, node: str) -> bool:
        """Whether what this node's guests do is its controller's doing."""
        process = self._world.processes[node]
        if process.off or process.life.frozen or self._is_deserted(process):
            return False
        return self._world.loop.now - self.awake_since.get(node, -NOTICES) >= NOTICES

    def _is_deserted(self, process: Process) -> bool:
        deserted = self._world.loop.now - self._alone_since.get(process.name, self._world.loop.now) > DESERTED
        if process.up and self._alone_since.pop(process.name, None) is not None and deserted:
            self.woke(process.name)
        return deserted

    def running(self, instance_id: str) -> list[Copy]:
        """The copies of an instance that are awake now, on hosts that are."""
        return [
            copy
            for copy in self.every()
            if copy.instance_id == instance_id and copy.phase is Phase.RUNNING and self.runs(copy.node)
        ]

    def woke(self, node: str) -> None:
        """The host goes on after a while in which it did not run."""
        self.awake_since[node] = self._world.loop.now

    def power_off(self, process: Process) -> None:
        """The host has lost its power: what ran does not run, what arrived is gone; disks stay."""
        database = process.post.folder / "nc.db"
        with closing(sqlite3.connect(database)) as db, db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'fake_guest'").fetchone():
                db.execute(
                    "UPDATE fake_guest SET phase = 'stopped', migration_id = '', digest = '', "
                    "cause_code = '', cause_message = '' WHERE phase IN ('running', 'paused')"
                )
                db.execute("DELETE FROM fake_guest WHERE phase = 'incoming'")
        self._read(process)

    def lose(self, process: Process, copy: Copy, *, quietly: bool) -> None:
        """A guest crashes; or it is gone as if it had never been, and nobody is told."""
        driver = process.service.nodes[process.post.name].driver
        key = GuestKey(copy.instance_id, copy.generation)
        self._world.trace(f"{process.name} loses {copy.instance_id}{' quietly' if quietly else ''}")
        cause = Cause("guest-crashed", "The guest crashed.")
        process.do(driver.lose(key) if quietly else driver.end(key, cause))

    def _opened(self, rows: Rows) -> None:
        life = LIFE.get()
        node, process = life.name, self._world.processes[life.name]

        def changed(key: GuestKey) -> None:
            if life.alive and process.life is life:
                row = rows.get(key)
                self._world.trace(f"{node} {key.instance_id}/{key.generation} {row.phase if row else 'gone'}")
                self._told(node, key.instance_id, True)

        rows.changed = changed
        self._rows[node] = rows
        for instance_id in {key.instance_id: None for key in rows}:
            self._told(node, instance_id, False)

    def _died(self, process: Process) -> None:
        if process.post.role == "nc":
            self._alone_since.setdefault(process.name, self._world.loop.now)
            self._read(process)

    def _read(self, process: Process) -> None:
        """What is on the disk of a node whose controller is dead."""
        with closing(sqlite3.connect(process.post.folder / "nc.db")) as db:
            there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'fake_guest'").fetchone()
            query = "SELECT instance_id, generation, phase, guest, migration_id FROM fake_guest"
            rows = db.execute(query).fetchall() if there else []
        self._rows[process.name] = {
            GuestKey(name, generation): FakeRow(Phase(phase), _decode(guest), migration_id=migration_id)
            for name, generation, phase, guest, migration_id in rows
        }
        for name, *_ in rows:
            self._told(process.name, name, False)


_decode = msgspec.msgpack.Decoder(Guest).decode
_BEGIN = fake_guests.FakeGuests.__init__


def _watch(opened: Callable[[Rows], None]) -> None:
    def begin(self: Any, node: str, store: Any, rows: Any) -> None:
        _BEGIN(self, node, store, rows)
        self.rows = Rows(self.rows)
        opened(self.rows)

    fake_guests.FakeGuests.__init__ = begin  # type: ignore[method-assign]
