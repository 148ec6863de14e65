"""Decided in memory, durable before anybody is told: the one writer of the controller's rows.

A decision changes its books at once, without an await, so two decisions never see the same free capacity.
`commit` returns when everything decided so far is in the database: one transaction at a time
takes all rows that changed since the last one, so many requests share one. If it fails, *every*
change that is not yet durable is taken back, in memory too, and everyone who waited is told; what is built
on an undone decision cannot survive it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

from mallee.kernel.db import Database, Tx

K = TypeVar("K")
V = TypeVar("V")


class Book(Generic[K, V]):
    """The rows of one table, by key. `rows` is what is decided, `durable` what is written.

    Args:
        save: writes rows whole.
        forget: deletes by key.
        changed: told of each change (key, old, new) of what is decided, undoing included.
        told: told which rows a transaction has made durable.
    """

    def __init__(
        self,
        save: Callable[[Tx, Sequence[V]], None],
        forget: Callable[[Tx, Sequence[K]], None],
        changed: Callable[[K, V | None, V | None], None] = lambda _key, _old, _new: None,
        told: Callable[[Collection[K]], None] = lambda _keys: None,
    ) -> None:
        self.rows: dict[K, V] = {}
        self._save = save
        self._forget = forget
        self._changed = changed
        self._told = told
        self._before: dict[K, V | None] = {}
        self._dirty: dict[K, None] = {}  # in the order of their change: one seed is one order

    def load(self, key: K, row: V) -> None:
        """A row as the database has it."""
        self.rows[key] = row
        self._changed(key, None, row)

    def put(self, key: K, row: V) -> None:
        """Decide that the row is this."""
        old = self.rows.get(key)
        self._before.setdefault(key, old)
        self._dirty[key] = None
        self.rows[key] = row
        self._changed(key, old, row)

    def drop(self, key: K) -> None:
        """Decide that there is no such row."""
        old = self.rows.pop(key, None)
        if old is not None:
            self._before.setdefault(key, old)
            self._dirty[key] = None
            self._changed(key, old, None)

    def durable(self, key: K) -> V | None:
        """The row as the database has it."""
        return self._before[key] if key in self._before else self.rows.get(key)

    @property
    def clean(self) -> bool:
        """Whether everything that is decided is written or being written."""
        return not self._dirty

    def take(self) -> tuple[Callable[[Tx], None], dict[K, V | None]]:
        """The writing of what changed, and what it will have made durable."""
        batch = {key: self.rows.get(key) for key in self._dirty}
        self._dirty.clear()
        kept = [row for row in batch.values() if row is not None]
        gone = [key for key, row in batch.items() if row is None]

        def write(tx: Tx) -> None:
            if gone:
                self._forget(tx, gone)
            if kept:
                self._save(tx, kept)

        return write, batch

    def written(self, batch: dict[K, V | None]) -> None:
        """The batch is durable; what was decided upon it meanwhile is still ahead."""
        for key, row in batch.items():
            if key in self._dirty:
                self._before[key] = row
            else:
                self._before.pop(key, None)
        if batch:
            self._told(batch)

    def undo(self) -> None:
        """Back to what is durable, and write that again with the next transaction.

        A commit whose answer was lost may have happened: what was undone here must be undone there too.
        """
        for key, row in self._before.items():
            old = self.rows.pop(key, None)
            if row is not None:
                self.rows[key] = row
            self._changed(key, old, row)
        self._dirty = dict.fromkeys(self._before)


Also = Callable[[Tx], None]


class Journal:
    """Writes the books, one transaction at a time.

    Args:
        fence: raises, inside the transaction, when this process may not write any more.
    """

    def __init__(self, db: Database, books: Sequence[Book], fence: Also) -> None:  # type: ignore[type-arg]
        self.db = db
        self._books = books
        self._fence = fence
        self._also: list[Also] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: asyncio.Task[None] | None = None

    async def commit(self, also: Also | None = None) -> None:
        """Return when all that is decided so far is durable, `also` in the same transaction.

        Raises:
            Fault: it is not, and is undone.
        """
        if also is not None:
            self._also.append(also)
        elif self._writing is None and all(book.clean for book in self._books):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await waiter

    async def close(self) -> None:
        """Finish what is being written."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))

    async def _write(self) -> None:
        try:
            while self._waiters:
                waiters, self._waiters = self._waiters, []
                also, self._also = self._also, []
                taken = [book.take() for book in self._books]
                try:
                    await self.db.transact(_together(self._fence, [write for write, _ in taken], also))
                except Exception as error:  # noqa: BLE001 - told to everyone who waits
                    self._undo(waiters, error)
                    continue
                for book, (_, batch) in zip(self._books, taken, strict=True):
                    book.written(batch)
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        finally:
            self._writing = None

    def _undo(self, waiters: list[asyncio.Future[None]], error: Exception) -> None:
        for book in reversed(self._books):
            book.undo()
        later, self._waiters = self._waiters, []
        self._also.clear()
        for waiter in (*waiters, *later):
            if not waiter.done():
                waiter.set_exception(error)


def _together(fence: Also, writes: Sequence[Also], also: Sequence[Also]) -> Also:
    def work(tx: Tx) -> None:
        fence(tx)
        for write in (*writes, *also):
            write(tx)

    return work
