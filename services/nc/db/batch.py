"""Many small changes, one transaction: what is put while a commit is under way shares the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from mallee.kernel.db import Database, Tx

K = TypeVar("K")
V = TypeVar("V")


class Batches(Generic[K, V]):
    """Collects changes by key, the latest wins, and hands each lot to `write` in one transaction."""

    def __init__(self, db: Database, write: Callable[[Tx, Mapping[K, V]], None]) -> None:
        self._db = db
        self._write = write
        self._waiting: dict[K, V] = {}
        self._durable: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def put(self, changed: Mapping[K, V]) -> None:
        """Durable when this returns. A cancelled caller's changes are written all the same."""
        if not changed:
            return
        self._waiting.update(changed)
        if self._durable is None:
            self._durable = asyncio.get_running_loop().create_future()
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())
        await asyncio.shield(self._durable)

    def amend(self, changed: Mapping[K, V]) -> None:
        """Have this written with the next put, unless a newer one is waiting; nobody is told."""
        self._waiting = {**changed, **self._waiting}

    async def settle(self) -> None:
        """Wait until everything put so far is written, or has failed."""
        if self._running is not None:
            await asyncio.wait((self._running,))

    async def _run(self) -> None:
        while self._durable is not None:
            batch, durable = self._waiting, self._durable
            self._waiting, self._durable = {}, None
            try:
                await self._db.transact(lambda tx, batch=batch: self._write(tx, batch))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - it belongs to those who put, each of them gets it
                durable.set_exception(error)
                durable.exception()  # all of them may have been cancelled meanwhile
            else:
                durable.set_result(None)
        self._running = None
