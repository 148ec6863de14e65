"""SQLite: one writer, and one fsync for all who wait (group commit).

The writer runs every waiting function, each in its savepoint, and commits them together. The
commit runs in a thread: while the disk works the loop goes on, and the functions that arrive
meanwhile are the next group. Readers have a connection of their own; in WAL mode a snapshot
neither waits for the writer nor makes it wait, and indexed reads are so short that they run on
the loop itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, NoReturn

import sqlalchemy as sa

from mallee.kernel.db import Database, T, Tx, Work, closed, outlast, settle
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind

# The writer lets the loop breathe after so many functions (each some tenths of a millisecond).
_BREATH = 16
# A group waits for its slowest member: beyond this an fsync is cheap beside the work.
_GROUP = 256

_PASSING = {
    sqlite3.SQLITE_FULL: ("The disk or the database's page limit is full.", "Make room on the disk."),
    sqlite3.SQLITE_IOERR: ("The disk reported an error.", "Look at the kernel's log; replace the disk."),
    sqlite3.SQLITE_BUSY: ("Another process writes to the database file.", "End the other process."),
    sqlite3.SQLITE_READONLY: ("The database file cannot be written.", "Mend its owner and mode."),
    sqlite3.SQLITE_CANTOPEN: ("The database file cannot be opened.", "Mend its folder's owner and mode."),
    sqlite3.SQLITE_NOMEM: ("The process is out of memory.", "Give it more memory."),
    sqlite3.SQLITE_CORRUPT: ("The database file is damaged.", "Restore it from a backup."),
    sqlite3.SQLITE_NOTADB: ("The file is not a database.", "Point to the right file."),
}


class _Waiting(NamedTuple):
    work: Work[Any]
    waiter: asyncio.Future[Any]


class _Ran(NamedTuple):
    waiter: asyncio.Future[Any]
    tx: Tx
    result: object
    error: BaseException | None


def unavailable(error: BaseException, doing: str) -> BaseException:
    """A fault in three parts if `error` is the disk's or another process's; else itself."""
    known = _PASSING.get(_code(error))
    if known is None:
        return error
    why, fix = known
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    code = STORAGE_FULL if _code(error) == sqlite3.SQLITE_FULL else "database-store"
    fault = Fault(Kind.UNAVAILABLE, f"{doing} ({cause}).", why=why, fix=f"{fix} Then try again.", code=code)
    fault.__cause__ = error
    return fault


def _raise_unread(error: BaseException) -> NoReturn:
    fault = unavailable(error, "The database cannot be read")
    if fault is error or _code(error) == sqlite3.SQLITE_READONLY:  # it tried to write: a bug
        raise error
    raise fault from error


def _code(error: BaseException) -> int:
    """SQLite's primary result code, 0 if the error is not SQLite's."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF


class _Line:
    """One connection to the file: Core for statements, the driver for what frames them."""

    def __init__(self, url: sa.URL, *, pragmas: tuple[str, ...]) -> None:
        self._engine = sa.create_engine(
            url,
            poolclass=sa.StaticPool,
            isolation_level="AUTOCOMMIT",  # the frames below are ours
            connect_args={"check_same_thread": False, "cached_statements": 512, "timeout": 10},
        )
        self.core = self._engine.connect()
        self.raw: sqlite3.Connection = self.core.connection.dbapi_connection  # type: ignore[assignment]
        for pragma in pragmas:
            self.raw.execute(f"PRAGMA {pragma}")

    def close(self) -> None:
        self.core.close()
        self._engine.dispose()


class _Glance(Tx):
    """A statement is a snapshot by itself, which needs no transaction around it; two are two snapshots."""

    __slots__ = ()

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        if self._connection is None:
            raise RuntimeError("a look has one statement: use `read`")
        rows = super().execute(statement, parameters)
        self.end()
        return rows


class Sqlite(Database):
    """A SQLite file, opened by one process."""

    def __init__(self, url: sa.URL, *, durable: bool) -> None:
        self.url = url
        self._durable = durable
        self._thread = _Committer() if durable else None
        self._writing = self._write_line()
        self._reading = _Line(url, pragmas=("query_only=ON", "temp_store=MEMORY"))
        self._queue: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    def start(
        cls, url: sa.URL, metadata: sa.MetaData | None, migrations: str | None, *, durable: bool
    ) -> Sqlite:
        if not url.database or url.database == ":memory:":
            raise Fault(
                Kind.INVALID,
                "A SQLite database needs a file.",
                why="Readers and the writer are different connections.",
                fix="Give sqlite:////path/to/file; for a passing one, on a tmpfs.",
                code="database-unknown",
            )
        from mallee.kernel.db.migrate import upgrade

        try:
            _secure(Path(url.database))
            upgrade(url, metadata, migrations)
            return cls(url, durable=durable)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            fault = unavailable(error, f"The database {url.database} cannot be opened")
            if fault is error:
                raise
            raise fault from error

    async def transact(self, work: Work[T]) -> T:
        if self._closed:
            raise closed()
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(work, waiter))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await waiter

    async def read(self, work: Work[T]) -> T:
        if self._closed:
            raise closed()
        tx = Tx(self._reading.core, self._reading.raw)
        try:
            self._reading.raw.execute("BEGIN")
            return work(tx)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            _raise_unread(error)
        finally:
            tx.end()
            if self._reading.raw.in_transaction:
                self._reading.raw.execute("ROLLBACK")

    async def look(self, work: Work[T]) -> T:
        if self._closed:
            raise closed()
        tx = _Glance(self._reading.core, self._reading.raw)
        try:
            return work(tx)
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            _raise_unread(error)
        finally:
            tx.end()

    async def close(self) -> None:
        self._closed = True
        if self._writer is not None:
            await asyncio.wait((self._writer,))
        if self._thread is not None:
            self._thread.close()
        self._reading.close()
        self._writing.close()

    def _write_line(self) -> _Line:
        synchronous = "FULL" if self._durable else "OFF"
        return _Line(
            self.url,
            pragmas=(
                "journal_mode=WAL",
                f"synchronous={synchronous}",
                "foreign_keys=ON",
                "temp_store=MEMORY",
                "wal_autocheckpoint=4000",  # 16 MiB: four times fewer stalls than the default
                "journal_size_limit=67108864",
            ),
        )

    async def _write(self) -> None:
        """Group after group until nobody waits."""
        try:
            while self._queue:
                group, self._queue = self._queue[:_GROUP], self._queue[_GROUP:]
                ran: list[_Ran] = []
                try:
                    await self._run(group, ran)
                    await self._commit()
                except BaseException as error:
                    self._fail(group, ran, error)
                    if not isinstance(error, Exception):
                        raise
                else:
                    self._answer(ran)
        finally:
            self._writer = None
            for waiting in self._queue:  # only if the writer itself was ended
                settle(waiting.waiter, None, closed())
            self._queue.clear()

    async def _run(self, group: list[_Waiting], ran: list[_Ran]) -> None:
        raw = self._writing.raw
        raw.execute("BEGIN IMMEDIATE")
        several = len(group) > 1  # one alone is taken back with the whole
        for count, (work, waiter) in enumerate(group, 1):
            if waiter.done():  # cancelled before it began: nothing happened
                continue
            if several:
                raw.execute("SAVEPOINT work")
            tx = Tx(self._writing.core, self._writing.raw)
            result, error = None, None
            try:
                result = work(tx)
            except Exception as raised:
                error = unavailable(raised, "The transaction was not made")
                if not raw.in_transaction:  # SQLite gave up the whole group (disk full, I/O error)
                    ran.append(_Ran(waiter, tx, None, error))
                    raise
                raw.execute("ROLLBACK TO work" if several else "ROLLBACK")
            finally:
                tx.end()
            if several:
                raw.execute("RELEASE work")
            ran.append(_Ran(waiter, tx, result, error))
            if count % _BREATH == 0 and self._thread is not None:
                await _breath()

    async def _commit(self) -> None:
        commit = self._writing.raw.commit
        if self._thread is None:
            commit()
            return
        await outlast(self._thread.run(commit))

    def _answer(self, ran: list[_Ran]) -> None:
        self.commits += 1
        self.transactions += len(ran)
        for waiter, tx, result, error in ran:
            tx.tell(committed=error is None)
            settle(waiter, result, error)

    def _fail(self, group: list[_Waiting], ran: list[_Ran], error: BaseException) -> None:
        """Nothing of the group stands: take it back, and begin the next one afresh."""
        try:
            if self._writing.raw.in_transaction:
                self._writing.raw.execute("ROLLBACK")
        except sqlite3.Error:
            # The next BEGIN on this connection would fail for ever; a new one starts clean.
            self._writing.close()
            self._writing = self._write_line()
        for waiter, tx, _, own in ran:
            tx.tell(committed=False)
            settle(waiter, None, own or unavailable(error, "The transaction was not committed"))
        for waiting in group:
            settle(waiting.waiter, None, unavailable(error, "The transaction was not begun"))


class _Committer:
    """A thread that commits: an executor for one kind of work, at a third of its cost."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Callable[[], None], asyncio.Future[None]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def run(self, commit: Callable[[], None]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.put((commit, done))
        return done

    def close(self) -> None:
        """Return when what was asked is done."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            commit, done = asked
            error: BaseException | None = None
            try:
                commit()
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever waits
                error = raised
            done.get_loop().call_soon_threadsafe(settle, done, None, error)


def _secure(path: Path) -> None:
    """The file is its owner's alone from its first byte; SQLite gives its companions the same mode."""
    try:
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise Fault(
            Kind.INVALID,
            f"The database {path} cannot be opened.",
            why=f"{error.strerror}.",
            fix="Give a path in a folder that exists and that this user may write.",
            code="database-path",
        ) from error


async def _breath() -> None:
    """One turn of the loop for everybody else."""
    turn = asyncio.get_running_loop().create_future()
    turn.get_loop().call_soon(_wake, turn)
    await turn


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
