"""The database's promises, on both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database, Tx

METADATA = sa.MetaData()
ACCOUNT = sa.Table(
    "account",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("amount", sa.Integer, nullable=False),
)
PAYMENT = sa.Table(
    "payment",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account", sa.ForeignKey("account.id"), nullable=False),
)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with await Database.open(database_url, metadata=METADATA) as opened:
        yield opened


def put(name: str, amount: int = 0):
    def work(tx: Tx) -> str:
        tx.execute(ACCOUNT.insert(), {"id": name, "amount": amount})
        return name

    return work


def names(tx: Tx) -> list[str]:
    return list(tx.execute(sa.select(ACCOUNT.c.id).order_by(ACCOUNT.c.id)).scalars())


async def test_what_is_answered_is_read(db: Database) -> None:
    assert await db.transact(put("a")) == "a"
    assert await db.read(names) == ["a"]


async def test_a_failing_function_takes_back_only_itself(db: Database) -> None:
    def fails(tx: Tx) -> None:
        put("lost")(tx)
        raise LookupError("mine")

    outcomes = await asyncio.gather(
        db.transact(put("a")), db.transact(fails), db.transact(put("b")), return_exceptions=True
    )

    assert [outcomes[0], outcomes[2]] == ["a", "b"]
    assert isinstance(outcomes[1], LookupError)
    assert await db.read(names) == ["a", "b"]


async def test_a_constraint_comes_out_as_it_is_and_the_next_one_works(db: Database) -> None:
    await db.transact(put("a"))

    with pytest.raises(sa.exc.IntegrityError):
        await db.transact(put("a"))

    await db.transact(put("b"))
    assert await db.read(names) == ["a", "b"]


async def test_foreign_keys_are_held(db: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        await db.transact(lambda tx: tx.execute(PAYMENT.insert(), {"id": "p", "account": "nobody"}).rowcount)


async def test_a_savepoint_catches_a_constraint_and_goes_on(db: Database) -> None:
    def put_or_leave(tx: Tx) -> None:
        put("first")(tx)
        try:
            with tx.savepoint():
                put("inner")(tx)
                put("first")(tx)
        except sa.exc.IntegrityError:
            put("second")(tx)

    await db.transact(put_or_leave)
    assert await db.read(names) == ["first", "second"]


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await db.read(put("a"))
    assert await db.read(names) == []


async def test_a_transaction_is_dead_after_its_function(db: Database) -> None:
    kept = await db.transact(lambda tx: tx)
    with pytest.raises(RuntimeError, match="after its work function"):
        kept.execute(sa.select(1))


async def test_hooks_are_called_on_the_loop_before_the_answer(db: Database) -> None:
    heard: list[object] = []

    def work(tx: Tx) -> None:
        tx.on_commit(lambda: heard.append(asyncio.get_running_loop()))
        tx.on_rollback(lambda: heard.append("rolled back"))

    await db.transact(work)
    assert heard == [asyncio.get_running_loop()]


async def test_rollback_hooks_of_a_failing_function(db: Database) -> None:
    heard: list[str] = []

    def work(tx: Tx) -> None:
        tx.on_commit(lambda: heard.append("committed"))
        tx.on_rollback(lambda: heard.append("rolled back"))
        raise LookupError

    with pytest.raises(LookupError):
        await db.transact(work)
    assert heard == ["rolled back"]


async def test_a_hook_that_raises_stops_nothing(db: Database) -> None:
    heard: list[str] = []

    def work(tx: Tx) -> int:
        tx.on_commit(lambda: heard.append(1 // 0 and "never"))
        tx.on_commit(lambda: heard.append("second"))
        return 7

    assert await db.transact(work) == 7
    assert heard == ["second"]


async def test_a_cancelled_waiter_loses_no_hook(db: Database) -> None:
    heard = asyncio.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(tx: Tx) -> None:
        put("a")(tx)
        tx.on_commit(heard.set)
        loop.call_soon_threadsafe(begun.set)

    waiting = asyncio.create_task(db.transact(work))
    await begun.wait()
    waiting.cancel()

    await heard.wait()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await db.read(names) == ["a"]


async def test_no_update_is_lost(db: Database) -> None:
    await db.transact(put("a"))

    def add(tx: Tx) -> None:
        amount = tx.execute(sa.select(ACCOUNT.c.amount)).scalar_one()
        tx.execute(ACCOUNT.update().values(amount=amount + 1))

    await asyncio.gather(*(db.transact(add) for _ in range(40)))
    assert await db.read(lambda tx: tx.execute(sa.select(ACCOUNT.c.amount)).scalar_one()) == 40


async def test_stop_iteration_reaches_its_caller(db: Database) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await db.transact(lambda _tx: next(iter(())))


async def test_closing_finishes_what_waits_and_refuses_the_rest(database_url: str) -> None:
    db = await Database.open(database_url, metadata=METADATA)
    waiting = [asyncio.create_task(db.transact(put(name))) for name in "abc"]
    await ManualClock().settle(1)
    await db.close()
    assert await asyncio.gather(*waiting) == ["a", "b", "c"]

    with pytest.raises(Exception, match="closed"):
        await db.transact(put("d"))
    await db.close()


async def test_it_opens_again_with_what_was_there(database_url: str) -> None:
    async with await Database.open(database_url, metadata=METADATA) as db:
        await db.transact(put("a"))
    async with await Database.open(database_url, metadata=METADATA) as db:
        assert await db.read(names) == ["a"]


async def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(Exception, match="keeps no state in mysql"):
        await Database.open("mysql://x/y")


async def test_a_look_is_one_statement_that_sees_every_commit(db: Database) -> None:
    await db.transact(put("a", 7))
    amounts = sa.select(ACCOUNT.c.amount)
    assert await db.look(lambda tx: tx.execute(amounts).scalar_one()) == 7
    await db.transact(put("b", 8))
    assert await db.look(lambda tx: tx.execute(amounts).scalars().all()) == [7, 8]

    if db.url.get_backend_name() == "sqlite":
        with pytest.raises(RuntimeError, match="one statement"):
            await db.look(lambda tx: (tx.execute(amounts), tx.execute(amounts)))
    with pytest.raises(sa.exc.DBAPIError):
        await db.look(put("c"))
    assert await db.look(lambda tx: tx.execute(amounts).scalars().all()) == [7, 8]
