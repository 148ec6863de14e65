"""Decided at once, durable before told, and taken back whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.cc.db import METADATA, reservations
from mallee.cc.db.reservations import Reservation
from mallee.cc.journal import Book, Journal
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database, Tx
from mallee.kernel.errors import Fault, Kind

ONE, TWO = Reservation("t", 1, 1, 1), Reservation("t", 2, 2, 2)
LOST = Fault(Kind.UNAVAILABLE, "The answer to the commit was lost.")


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with await Database.open(f"sqlite:///{tmp_path}/j.db", metadata=METADATA, durable=False) as db:
        yield db


def a_journal(db: Database) -> tuple[Journal, Book[str, Reservation]]:
    book = Book[str, Reservation](reservations.save, reservations.forget)
    return Journal(db, [book], lambda _tx: None), book


async def test_one_transaction_for_all_who_wait(db: Database) -> None:
    journal, book = a_journal(db)
    before = db.transactions
    for number in range(50):
        book.put(str(number), ONE._replace(taker=str(number)))
    await asyncio.gather(*(journal.commit() for _ in range(50)))
    assert db.transactions - before == 1
    assert len(await db.read(reservations.load)) == 50
    await journal.commit()
    assert db.transactions - before == 1


async def test_a_failure_takes_back_what_was_decided_upon_it(db: Database) -> None:
    journal, book = a_journal(db)
    book.put("t", ONE)
    await journal.commit()

    def breaks(_tx: Tx) -> None:
        raise LOST

    book.put("t", TWO)
    first = asyncio.ensure_future(journal.commit(breaks))
    await ManualClock().settle(1)
    book.put("u", ONE._replace(taker="u"))
    second = asyncio.ensure_future(journal.commit())
    assert book.durable("t") == ONE
    assert book.rows["t"] == TWO
    assert await asyncio.gather(first, second, return_exceptions=True) == [LOST, LOST]
    assert book.rows == {"t": ONE}


async def test_a_commit_whose_answer_was_lost_is_undone_there_too(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, book = a_journal(db)
    book.put("t", ONE)
    await journal.commit()
    real = db.transact

    async def lost_answer(work):
        await real(work)
        raise LOST

    monkeypatch.setattr(db, "transact", lost_answer)
    book.put("t", TWO)
    book.put("u", ONE._replace(taker="u"))
    with pytest.raises(Fault):
        await journal.commit()
    monkeypatch.undo()
    await journal.commit()
    assert await db.read(reservations.load) == [ONE]
