"""On PostgreSQL who loses a race for a name may hear of the key and not of the race: it runs again."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest
import sqlalchemy as sa

from mallee.kernel.db import Database, Tx

metadata = sa.MetaData()
names = sa.Table("names", metadata, sa.Column("name", sa.String(8), primary_key=True))


def take(tx: Tx) -> None:
    tx.execute(sa.insert(names), {"name": "ada"})


@pytest.mark.postgres
async def test_a_lost_race_for_a_name_is_run_again(postgres_url: str) -> None:
    looked, taken = Event(), Event()

    def take_if_free(tx: Tx) -> bool:
        free = tx.execute(sa.select(names.c.name)).first() is None
        looked.set()
        assert taken.wait(10)
        if free:
            take(tx)
        return free

    async with await Database.open(postgres_url, metadata=metadata, durable=False) as db:
        slow = asyncio.create_task(db.transact(take_if_free))
        assert await asyncio.to_thread(looked.wait, 10)
        await db.transact(take)
        taken.set()
        assert await slow is False, "at its second look the name is taken"


async def test_a_key_that_is_there_stays_an_error(database_url: str) -> None:
    async with await Database.open(database_url, metadata=metadata, durable=False) as db:
        await db.transact(take)
        with pytest.raises(sa.exc.IntegrityError):
            await db.transact(take)
