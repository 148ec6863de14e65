"""The database: a transaction is a plain function, and it is durable when its caller goes on.

`await db.transact(work)` runs `work(tx) -> result`. The function is synchronous, so nobody can
wait for another service while holding a transaction, and it must reach nothing but its `tx`: it
may run again after a conflict and, on PostgreSQL, in a thread. What it has to tell the rest of
the program goes through `tx.on_commit`. `await db.read(work)` is the same on a snapshot that
cannot write; fetch the rows inside the function, a result is dead when the function returns.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, TypeVarTuple, overload

import sqlalchemy as sa
import structlog

from mallee.kernel.db.prepared import Prepared, Rows, Values, for_core
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy.sql.selectable import TypedReturnsRows

__all__ = ["Database", "Parameters", "Prepared", "Rows", "Tx", "Work", "closed", "outlast", "settle"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Hook = Callable[[], None]

_log = structlog.get_logger()


class Tx:
    """A transaction as its work function sees it. Dead once the function has returned.

    Args:
        connection: for Core.
        driver: SQLite's own connection below it, which runs prepared statements.
    """

    __slots__ = ("_committed", "_connection", "_driver", "_rolled_back")

    def __init__(self, connection: sa.Connection, driver: sqlite3.Connection | None = None) -> None:
        self._connection: sa.Connection | None = connection
        self._driver = driver
        self._committed: list[Hook] = []
        self._rolled_back: list[Hook] = []

    @overload
    def execute(self, statement: Prepared, parameters: Values | None = None) -> Rows: ...
    @overload
    def execute(
        self, statement: TypedReturnsRows[*Ts], parameters: Parameters | None = None
    ) -> sa.CursorResult[*Ts]: ...
    @overload
    def execute(
        self, statement: sa.Executable, parameters: Parameters | None = None
    ) -> sa.CursorResult[*tuple[Any, ...]]: ...
    def execute(
        self, statement: sa.Executable | Prepared, parameters: Any = None
    ) -> sa.CursorResult[*tuple[Any, ...]] | Rows:
        """Run one Core statement; a sequence of parameters runs it once for each.

        Statements that are built once, at import, with `bindparam` cost a third less than
        statements that are built for each call; as `Prepared` they cost a quarter on SQLite,
        and their parameters may be named tuples.
        """
        if self._connection is None:
            raise RuntimeError("a transaction was used after its work function had returned")
        if not isinstance(statement, Prepared):
            return self._connection.execute(statement, parameters)
        if self._driver is not None:
            rows = statement.run(self._driver, self._connection.dialect, parameters)
            if rows is not None:
                return rows
        result = self._connection.execute(statement.core, for_core(parameters))
        return Rows(result.all() if result.returns_rows else (), result.rowcount)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Whatever raises inside is taken back alone, so a constraint may be tried and caught."""
        self.execute(_SAVEPOINT)
        try:
            yield
        except BaseException:
            self.execute(_ROLLBACK_TO)
            self.execute(_RELEASE)
            raise
        self.execute(_RELEASE)

    def on_commit(self, then: Hook) -> None:
        """Call `then` on the event loop once this is durable, even if nobody waits any more."""
        self._committed.append(then)

    def on_rollback(self, then: Hook) -> None:
        """Call `then` on the event loop if this attempt came to nothing."""
        self._rolled_back.append(then)

    def end(self) -> None:
        """The function has returned: refuse further statements."""
        self._connection = None

    def tell(self, *, committed: bool) -> None:
        """Call the hooks, on the event loop. A hook that raises is logged and stops no other."""
        for then in self._committed if committed else self._rolled_back:
            try:
                then()
            except Exception:  # noqa: BLE001 - the commit stands whatever a listener thinks of it
                _log.exception("a transaction's hook failed", hook=repr(then), committed=committed)


_SAVEPOINT = sa.text("SAVEPOINT attempt")
_ROLLBACK_TO = sa.text("ROLLBACK TO SAVEPOINT attempt")
_RELEASE = sa.text("RELEASE SAVEPOINT attempt")

Work = Callable[[Tx], T]


class Waiter(Protocol):
    """What a store needs of a future."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


def settle(waiter: Waiter, result: object, error: BaseException | None) -> None:
    """Answer whoever waits, if anybody still does."""
    if waiter.done():
        return
    if error is None:
        waiter.set_result(result)
    elif isinstance(error, StopIteration):  # asyncio refuses it, and nobody would ever wake
        waiter.set_exception(RuntimeError(f"a work function raised {error!r}"))
    else:
        waiter.set_exception(error)


async def outlast(ending: asyncio.Future[T]) -> T:
    """The result of a thread's work. A thread cannot be called back, so neither is this."""
    while not ending.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(ending)
    return ending.result()


def closed() -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        "The database is closed.",
        why="The service is stopping.",
        fix="Send the request again; another process or the next start will answer it.",
        code="database-closed",
    )


class Database(ABC):
    """One service's database. `commits` and `transactions` count since it was opened.

    Faults of every method: UNAVAILABLE when the store cannot write or be reached just now (disk
    full, I/O error, connection lost); errors of the statements themselves pass as SQLAlchemy
    raises them.
    """

    url: sa.URL
    commits: int = 0
    transactions: int = 0

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        metadata: sa.MetaData | None = None,
        migrations: str | None = None,
        durable: bool = True,
    ) -> Database:
        """The database at `url`, its tables brought up to date under a lock.

        Args:
            url: `sqlite:////absolute/path` or `postgresql+psycopg://...`.
            metadata: the tables. A database that holds none yet gets them in one step.
            migrations: the package whose folder `migrations` holds the Alembic versions, e.g.
                `mallee.clc.db`; without it, `metadata` is created where it is missing.
            durable: False gives up fsync and threads on SQLite, for tests and simulation: what
                happens is then decided by the event loop alone.
        """
        parsed = sa.make_url(url)
        match parsed.get_backend_name():
            case "sqlite":
                from mallee.kernel.db.sqlite import Sqlite

                return Sqlite.start(parsed, metadata, migrations, durable=durable)
            case "postgresql":
                from mallee.kernel.db.postgres import Postgres

                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, Postgres.start, parsed, metadata, migrations)
            case other:
                raise Fault(
                    Kind.INVALID,
                    f"Mallee keeps no state in {other}.",
                    why=f"The database address is {parsed.render_as_string()}.",
                    fix="Give sqlite:////path/to/file or postgresql+psycopg://user@host/name.",
                    code="database-unknown",
                )

    @abstractmethod
    async def transact(self, work: Work[T]) -> T:
        """Run `work` in a transaction; it is durable when this returns.

        If `work` raises, only its own changes are taken back and the exception comes out here.
        A cancelled caller does not stop a transaction that has begun; its hooks are called.
        """

    @abstractmethod
    async def read(self, work: Work[T]) -> T:
        """Run `work` on a consistent snapshot that holds every commit answered so far."""

    async def look(self, work: Work[T]) -> T:
        """As `read`, for work of a single statement: on SQLite that costs a third less.

        Raises:
            RuntimeError: on SQLite, for a second statement: it would see another moment.
        """
        return await self.read(work)

    @abstractmethod
    async def close(self) -> None:
        """Finish what waits and let go of every connection. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
