"""PostgreSQL: every function its own serializable transaction, in a small thread pool.

PostgreSQL groups the commits itself. A function that loses to another one (serialization
failure, deadlock) runs again from its beginning; after a few losses it waits for its turn
among this process's losers, so that somebody always gets through.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from mallee.kernel.db import Database, T, Tx, Work, closed, outlast, settle
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind

_THREADS = 8
_ATTEMPTS = 20
_PATIENCE = 3  # losses before a function asks for its turn
_LOST = {"40001", "40P01"}  # serialization_failure, deadlock_detected
# unique_violation: who looked before the winner committed and inserts after it hears of the key
# and not of the race. Looked at again the key is there, so a second violation is a real one.
_TAKEN = "23505"
_DISK_FULL = "53100"
# Classes of SQLSTATE that pass: connection, resources (disk full), operator (shutdown), I/O.
_PASSING = ("08", "53", "57P", "58")


class _Lost(Exception):  # noqa: N818 - not an error: it runs again
    """Another transaction won; or the connection died before anything could have happened."""

    def __init__(self, tx: Tx, cause: sa.exc.DBAPIError) -> None:
        super().__init__(str(cause.orig))
        self.tx = tx
        self.cause = cause


class _Failed(Exception):  # noqa: N818 - an envelope from the thread to the loop
    def __init__(self, tx: Tx | None, cause: BaseException) -> None:
        super().__init__()
        self.tx = tx
        self.cause = cause


class Postgres(Database):
    """A PostgreSQL database, which other processes may use too."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self._engine = sa.create_engine(
            url, pool_size=_THREADS, max_overflow=0, connect_args={"connect_timeout": 5}
        )
        self._writing = self._engine.execution_options(isolation_level="SERIALIZABLE")
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._threads = ThreadPoolExecutor(_THREADS, "postgres")
        self._running: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._closed = False

    @classmethod
    def start(cls, url: sa.URL, metadata: sa.MetaData | None, migrations: str | None) -> Postgres:
        """Blocks; for a thread."""
        from mallee.kernel.db.migrate import upgrade

        try:
            upgrade(url, metadata, migrations)
        except sa.exc.DBAPIError as error:
            fault = unavailable(error)
            if fault is error:
                raise
            raise fault from error
        return cls(url)

    async def transact(self, work: Work[T]) -> T:
        if self._closed:
            raise closed()
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(self._transact(work, waiter))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return await waiter

    async def read(self, work: Work[T]) -> T:
        if self._closed:
            raise closed()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._read, work)
        except sa.exc.DBAPIError as error:
            fault = unavailable(error)
            if fault is error:
                raise
            raise fault from error

    async def close(self) -> None:
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        self._threads.shutdown()
        self._engine.dispose()

    async def _transact(self, work: Work[T], waiter: asyncio.Future[T]) -> None:
        try:
            result = await self._attempt(work)
        except _Failed as failed:
            if failed.tx is not None:
                failed.tx.tell(committed=False)
            settle(waiter, None, unavailable(failed.cause))
        except BaseException as error:
            settle(waiter, None, error)
            if not isinstance(error, Exception):
                raise
        else:
            settle(waiter, result, None)

    async def _attempt(self, work: Work[T]) -> T:
        for _ in range(_PATIENCE):
            try:
                return await self._once(work)
            except _Lost as lost:
                lost.tx.tell(committed=False)
        async with self._turn:
            for _ in range(_PATIENCE, _ATTEMPTS):
                try:
                    return await self._once(work)
                except _Lost as lost:
                    lost.tx.tell(committed=False)
                    cause = lost.cause
        raise unavailable(cause)

    async def _once(self, work: Work[T]) -> T:
        """One attempt, which nobody can call back once its thread has it; then its hooks."""
        loop = asyncio.get_running_loop()
        try:
            result, tx = await outlast(loop.run_in_executor(self._threads, self._run, work))
        except _Failed as failed:
            if failed.tx is None or not _is_taken(failed.cause):
                raise
            failed.tx.tell(committed=False)
            result, tx = await outlast(loop.run_in_executor(self._threads, self._run, work))
        self.commits += 1
        self.transactions += 1
        tx.tell(committed=True)
        return result

    def _run(self, work: Work[T]) -> tuple[T, Tx]:
        tx: Tx | None = None
        committing = False
        try:
            with self._writing.connect() as connection:
                tx = Tx(connection)
                try:
                    result = work(tx)
                finally:
                    tx.end()
                committing = True
                connection.commit()
        except sa.exc.DBAPIError as error:
            again = _sqlstate(error) in _LOST or (error.connection_invalidated and not committing)
            if again and tx is not None:
                raise _Lost(tx, error) from error
            raise _Failed(tx, error) from error
        except BaseException as error:
            raise _Failed(tx, error) from error
        return result, tx

    def _read(self, work: Work[T]) -> T:
        with self._reading.connect() as connection:
            tx = Tx(connection)
            try:
                return work(tx)
            finally:
                tx.end()


def _is_taken(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and _sqlstate(error) == _TAKEN


def _sqlstate(error: sa.exc.DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def unavailable(error: BaseException) -> BaseException:
    """A fault in three parts if `error` is the server's or the line's and passes; else itself."""
    if not isinstance(error, sa.exc.DBAPIError):
        return error
    state = _sqlstate(error)
    line = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) and state is None
    if not (line or error.connection_invalidated or (state or "").startswith(_PASSING) or state in _LOST):
        return error
    fault = Fault(
        Kind.UNAVAILABLE,
        "PostgreSQL did not complete the transaction.",
        why=f"{str(error.orig).strip()}.",
        fix="Try again: with the same client token, for the commit itself may have been made.",
        code=STORAGE_FULL if state == _DISK_FULL else "database-store",
    )
    fault.__cause__ = error
    return fault
