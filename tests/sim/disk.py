"""Disks that are slow, full, broken, or lose what was not written yet.

SQLite itself is real, on a file in memory; what is pretended is the moment of the commit. It takes time, in
which the loop goes on as beside the thread that it stands in for; it may fail; and a process that dies during
it has either committed or not. What is committed is never lost: SQLite in WAL mode with `synchronous=FULL`
promises that, and `tests/unit/kernel/test_db_failures.py` holds it to its word with real processes.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mallee.kernel.db import settle, sqlite
from tests.sim.loop import LIFE, Life

FULL, BROKEN = sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR
_WORDS = {FULL: "database or disk is full", BROKEN: "disk I/O error"}


@dataclass
class Disk:
    """One process's disk; it outlives the process.

    Args:
        chance: decides how long a commit takes.
        told: of each commit that was made, before anybody else.
        point: told of each moment around a commit: `before`, `after`; may kill the process.
    """

    chance: random.Random
    told: Callable[[], None]
    point: Callable[[str], None]
    slow: float = 0.0  # seconds that a commit takes longer
    error: int = 0  # of each commit until it is mended
    errors: list[tuple[int, bool]] = field(
        default_factory=list
    )  # of single commits: which, and whether it was made
    lines: list[sqlite._Line] = field(default_factory=list)

    def let_go(self) -> None:
        """The process has died: its transactions with it."""
        for line in tuple(self.lines):
            line.raw.rollback()
            line.close()


DISKS: dict[Life, Disk] = {}


class Commits:
    """Stands in for the thread that commits."""

    def __init__(self) -> None:
        self._life = LIFE.get()
        self._disk = DISKS[self._life]
        self.elsewhere = False  # a server commits, which goes on when this process hangs

    def run(self, commit: Callable[[], None]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._disk.point("before commit")
        taking = self._disk.chance.uniform(0.0001, 0.002) + self._disk.slow
        if self.elsewhere:
            loop.call_later(taking, self._make, commit, done, context=contextvars.Context())
        else:
            loop.call_later(taking, self._make, commit, done)
        return done

    def close(self) -> None:
        """Nothing is under way when the writer has ended."""

    def _make(self, commit: Callable[[], None], done: asyncio.Future[None]) -> None:
        disk = self._disk
        if not self._life.alive:
            return
        code, made = (disk.error, False) if disk.error else disk.errors.pop(0) if disk.errors else (0, True)
        if made:
            commit()
            disk.told()
            disk.point("after commit")
        if not code:
            asyncio.get_running_loop().call_later(disk.chance.uniform(0, 0.0005), settle, done, None, None)
            return
        error = sqlite3.OperationalError(_WORDS[code])
        error.sqlite_errorcode = code
        settle(done, None, error)


class Line(sqlite._Line):
    """A connection that ends with its process."""

    def __init__(self, url: Any, *, pragmas: tuple[str, ...]) -> None:
        super().__init__(url, pragmas=tuple(each for each in pragmas if "synchronous" not in each))
        self.raw.execute("PRAGMA synchronous=OFF")  # the file lies in memory
        self._disk = DISKS[LIFE.get()]
        self._disk.lines.append(self)

    def close(self) -> None:
        self._disk.lines.remove(self)
        super().close()
