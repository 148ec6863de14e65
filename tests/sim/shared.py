"""Databases that several processes share, as PostgreSQL is shared.

The file is SQLite's, which lets one write at a time. PostgreSQL promises that transactions which are answered
could have run one after another; here they do. Each process has its own line to the database, so a commit fails,
is slow or is made without an answer for one of them alone (`disk.py`); who dies loses what was not committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from mallee.kernel.db.sqlite import Sqlite
from tests.sim.loop import LIFE, Life

TURNS: dict[str, Turns] = {}  # by the path of a shared database


class Turns:
    """Who may write: one transaction at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._holder: tuple[Life, object] | None = None
        self._waiting: deque[tuple[Life, object, asyncio.Future[None]]] = deque()

    async def take(self, of: object) -> None:
        life = LIFE.get()
        if self._holder is not None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((life, of, turn))
            await turn
        else:
            self._holder = life, of

    def give(self, of: object) -> None:
        """The turn of `of`, if it is its turn, has ended."""
        if self._holder is None or self._holder[1] is not of:
            return
        self._holder = None
        while self._waiting and self._holder is None:
            life, who, turn = self._waiting.popleft()
            if life.alive and not turn.done():
                self._holder = life, who
                turn.set_result(None)

    def bury(self, life: Life) -> None:
        """The server has noticed that a client died; its transaction is taken back already."""
        if self._holder is not None and self._holder[0] is life:
            self.give(self._holder[1])


class PossiblyShared(Sqlite):
    """A database as the services open it; one that is shared waits for its turn."""

    def __init__(self, url: Any, *, durable: bool) -> None:
        super().__init__(url, durable=durable)
        self._turns = TURNS.get(url.database)
        if self._turns is not None and self._thread is not None:
            self._thread.elsewhere = True  # type: ignore[attr-defined]

    async def _run(self, group: Any, ran: Any) -> None:
        if self._turns is not None:
            await self._turns.take(self)
        await super()._run(group, ran)

    async def _commit(self) -> None:
        await super()._commit()
        if self._turns is not None:
            self._turns.give(self)

    def _fail(self, group: Any, ran: Any, error: BaseException) -> None:
        super()._fail(group, ran, error)
        if self._turns is not None:
            self._turns.give(self)
