"""When the disk is full, the server goes away, or the process is killed."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from mallee.kernel.db import Database, Tx
from mallee.kernel.db.sqlite import Sqlite
from mallee.kernel.errors import Fault, Kind
from tests.databases import PostgresServer
from tests.unit.kernel.test_db import METADATA, PAYMENT, names, put

BIG = sa.Table("big", METADATA, sa.Column("id", sa.Text, primary_key=True), sa.Column("content", sa.Text))


def put_big(name: str, size: int = 1_000_000):
    return lambda tx: tx.execute(BIG.insert(), {"id": name, "content": "x" * size}).rowcount


@contextlib.contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow: an I/O error as real as they come."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_database_fails_its_group_and_works_again(sqlite_url: str) -> None:
    heard: list[str] = []

    def small(tx: Tx) -> None:
        put("small")(tx)
        tx.on_rollback(lambda: heard.append("rolled back"))
        tx.on_commit(lambda: heard.append("committed"))

    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        await db.transact(put("before"))
        pages = await db.transact(lambda tx: tx.execute(sa.text("PRAGMA page_count")).scalar_one())
        await db.transact(lambda tx: tx.execute(sa.text(f"PRAGMA max_page_count={pages + 20}")).scalar())

        outcomes = await asyncio.gather(
            db.transact(small), db.transact(put_big("b")), db.transact(put("late")), return_exceptions=True
        )
        for outcome in outcomes:
            assert isinstance(outcome, Fault)
            assert outcome.kind is Kind.UNAVAILABLE
            assert "full" in outcome.why
            assert outcome.fix
        assert heard == ["rolled back"]
        assert await db.read(names) == ["before"]

        await db.transact(put("fits"))
        await db.transact(lambda tx: tx.execute(sa.text("PRAGMA max_page_count=100000")).scalar())
        await db.transact(put_big("b"))
        assert await db.read(names) == ["before", "fits"]


async def test_a_commit_that_fails_fails_every_waiter_and_reading_goes_on(sqlite_url: str) -> None:
    heard: list[str] = []

    def watched(tx: Tx) -> None:
        put("watched")(tx)
        tx.on_rollback(lambda: heard.append("rolled back"))
        tx.on_commit(lambda: heard.append("committed"))

    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        await db.transact(put("before"))
        commits = db.commits
        with files_at_most(200_000):
            outcomes = await asyncio.gather(
                db.transact(watched), db.transact(put_big("b")), return_exceptions=True
            )
            read = await db.read(names)
        assert [outcome.kind for outcome in outcomes if isinstance(outcome, Fault)] == [Kind.UNAVAILABLE] * 2
        assert read == ["before"]
        assert heard == ["rolled back"]
        assert db.commits == commits

        await db.transact(watched)
        assert await db.read(names) == ["before", "watched"]
        assert heard == ["rolled back", "committed"]


async def test_a_refused_commit_leaves_no_transaction_open(sqlite_url: str) -> None:
    def orphan(tx: Tx) -> None:
        tx.execute(sa.text("PRAGMA defer_foreign_keys=ON"))
        tx.execute(PAYMENT.insert(), {"id": "p", "account": "nobody"})

    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        with pytest.raises(sqlite3.IntegrityError):
            await db.transact(orphan)
        await db.transact(put("a"))
        assert await db.read(names) == ["a"]


async def test_a_connection_that_cannot_even_roll_back_is_replaced(sqlite_url: str) -> None:
    class Broken:
        in_transaction = True

        def __init__(self, real: sqlite3.Connection) -> None:
            self.real = real

        def execute(self, statement: str) -> object:
            if statement == "ROLLBACK":
                raise sqlite3.OperationalError("I/O error")
            return self.real.execute(statement)

        def commit(self) -> None:
            self.real.rollback()
            raise sqlite3.OperationalError("I/O error")

    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        assert isinstance(db, Sqlite)
        db._writing.raw = Broken(db._writing.raw)  # type: ignore[assignment]
        with pytest.raises(sqlite3.OperationalError):
            await db.transact(put("lost"))
        await db.transact(put("a"))
        assert await db.read(names) == ["a"]


async def test_a_writer_that_is_cancelled_still_hears_how_its_commit_ended(sqlite_url: str) -> None:
    heard: list[str] = []
    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        assert isinstance(db, Sqlite)

        def work(tx: Tx) -> str:
            tx.on_commit(lambda: heard.append("committed"))
            tx.on_rollback(lambda: heard.append("rolled back"))
            assert db._writer is not None
            asyncio.get_running_loop().call_soon(db._writer.cancel)
            return put("a")(tx)

        assert await db.transact(work) == "a"
        assert heard == ["committed"]
        assert await db.read(names) == ["a"]


async def test_many_waiters_are_one_commit(sqlite_url: str) -> None:
    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        await asyncio.gather(*(db.transact(put(f"{number:03}")) for number in range(600)))
        assert db.transactions == 600
        assert db.commits == 3  # a group is bounded
        assert len(await db.read(names)) == 600


async def test_one_who_left_before_its_turn_changed_nothing(sqlite_url: str) -> None:
    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        gone = asyncio.create_task(db.transact(put("gone")))
        stays = asyncio.create_task(db.transact(put("stays")))
        asyncio.get_running_loop().call_soon(gone.cancel)
        await stays
        assert gone.cancelled()
        assert await db.read(names) == ["stays"]


async def test_reading_goes_on_while_the_disk_works(sqlite_url: str) -> None:
    """A snapshot between the beginning and the end of a commit shows what was before."""
    async with await Database.open(sqlite_url, metadata=METADATA) as db:
        seen: list[list[str]] = []

        def work(tx: Tx) -> None:
            put("a")(tx)
            asyncio.get_running_loop().call_soon(lambda: reads.append(asyncio.ensure_future(db.read(names))))

        reads: list[asyncio.Future[list[str]]] = []
        await db.transact(work)
        seen.extend([await read for read in reads])
        assert seen in ([[]], [["a"]])


async def test_a_file_where_none_can_be_is_said() -> None:
    with pytest.raises(Fault, match="cannot be opened") as refused:
        await Database.open("sqlite:////proc/nowhere/state.db", metadata=METADATA)
    assert refused.value.fix


async def test_a_file_that_is_no_database_is_said(tmp_path) -> None:
    (tmp_path / "text").write_text("this is no database " * 100)
    with pytest.raises(Fault, match="not a database"):
        await Database.open(f"sqlite:///{tmp_path}/text", metadata=METADATA)


async def test_the_file_is_its_owners_alone(tmp_path) -> None:
    async with await Database.open(f"sqlite:///{tmp_path}/s.db", metadata=METADATA) as db:
        await db.transact(put("a"))
        assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o600}


async def test_without_threads_everything_is_decided_by_the_loop(sqlite_url: str) -> None:
    async with await Database.open(sqlite_url, metadata=METADATA, durable=False) as db:
        waiting = [asyncio.create_task(db.transact(put(name))) for name in "abc"]
        for _ in range(3):  # begun, run and committed, answered
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turn.set_result, None)
            await turn
        assert [task.result() for task in waiting] == ["a", "b", "c"]


ACKNOWLEDGES = """
import asyncio, sys
from mallee.kernel.db import Database
from tests.unit.kernel.test_db import METADATA, put

async def main(url, first):
    db = await Database.open(url, metadata=METADATA)
    async def client(number):
        while True:
            number += 8
            await db.transact(put(f"{number:09}"))
            print(f"{number:09}", flush=True)
    await asyncio.gather(*(client(first + n) for n in range(8)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def acknowledged_until_killed(url: str, first: int, count: int) -> set[str]:
    """What a process said it had committed before it was killed at its work."""
    told: set[str] = set()
    with subprocess.Popen(
        [sys.executable, "-c", ACKNOWLEDGES, url, str(first)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                told.add(line.strip())
            if len(told) == count:
                process.kill()
    return told


async def test_a_killed_process_has_lost_nothing_it_acknowledged(database_url: str) -> None:
    told: set[str] = set()
    for begin in range(3):
        told |= acknowledged_until_killed(database_url, begin * 1_000_000, 100 + 50 * begin)
    async with await Database.open(database_url, metadata=METADATA) as db:
        there = set(await db.read(names))
    assert len(told) >= 450
    assert told <= there


@pytest.mark.postgres
async def test_a_lost_connection_is_made_again(postgres_server: PostgresServer, postgres_url: str) -> None:
    async with await Database.open(postgres_url, metadata=METADATA) as db:
        await db.transact(put("a"))
        await asyncio.to_thread(postgres_server.disconnect_everybody, postgres_url)
        await db.transact(put("b"))
        await asyncio.to_thread(postgres_server.disconnect_everybody, postgres_url)
        with contextlib.suppress(Fault):  # a read is not tried again: the next one is a new connection's
            await db.read(names)
        assert await db.read(names) == ["a", "b"]


@pytest.mark.postgres
async def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(Fault) as refused:
        await Database.open("postgresql+psycopg://nobody@127.0.0.1:1/none", metadata=METADATA)
    assert refused.value.kind is Kind.UNAVAILABLE


@pytest.mark.postgres
async def test_a_connection_lost_in_the_middle_runs_the_function_again(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    runs: list[int] = []
    heard: list[str] = []

    def work(tx: Tx) -> None:
        runs.append(len(runs))
        tx.on_rollback(lambda: heard.append("rolled back"))
        tx.on_commit(lambda: heard.append("committed"))
        put(f"run-{len(runs)}")(tx)
        if len(runs) == 1:
            postgres_server.disconnect_everybody(postgres_url)
        tx.execute(sa.select(1))

    async with await Database.open(postgres_url, metadata=METADATA) as db:
        await db.transact(work)
        assert await db.read(names) == ["run-2"]
    assert heard == ["rolled back", "committed"]
