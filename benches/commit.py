"""Durable transactions a second: six statements each, by 1, 8 and 32 clients.

    python benches/commit.py [database url] [--seconds N]

Prints transactions/s, CPU microseconds a transaction, and transactions a commit (an fsync).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from mallee.kernel.db import Database, Tx

METADATA = sa.MetaData()
TABLES = [
    sa.Table(
        name,
        METADATA,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer),
        sa.Column("account", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("document", sa.Text),
        sa.Index(f"{name}_account", "account", "id"),
    )
    for name in ("token", "reservation", "instance", "interface", "tag")
]
TOKEN, INSTANCE, TAG = TABLES[0], TABLES[2], TABLES[4]
SEEN = sa.select(TOKEN.c.document).where(TOKEN.c.id == sa.bindparam("wanted"))
INSERTS = [table.insert() for table in TABLES[:4]]
TAGS = TAG.insert()
PAGE = (
    sa.select(INSTANCE.c.id, INSTANCE.c.version)
    .where(INSTANCE.c.account == "123456789012", INSTANCE.c.id > sa.bindparam("after"))
    .order_by(INSTANCE.c.id)
    .limit(100)
)
DOCUMENT = json.dumps({f"key-{i}": "v" * 30 for i in range(12)})
_numbers = itertools.count()


def launch(tx: Tx) -> str:
    """What a RunInstances writes: the token's look-up, four rows, and two tags at once."""
    name = f"i-{next(_numbers):017x}"
    tx.execute(SEEN, {"wanted": name}).first()
    row = {"id": name, "version": 1, "account": "123456789012", "state": "pending", "document": DOCUMENT}
    for insert in INSERTS:
        tx.execute(insert, row)
    tx.execute(TAGS, [{**row, "id": name + "a"}, {**row, "id": name + "b"}])
    return name


async def run(url: str, clients: int, seconds: float) -> None:
    async with await Database.open(url, metadata=METADATA) as db:
        await db.transact(launch)
        commits, transactions = db.commits, db.transactions
        until = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < until:
                await db.transact(launch)

        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        done, groups = db.transactions - transactions, db.commits - commits
        print(
            f"clients {clients:3}: {done / wall:7.0f} transactions/s  "
            f"{cpu / done * 1e6:5.0f} us CPU each  {done / groups:5.1f} per commit"
        )


async def pages(url: str, count: int = 500) -> None:
    async with await Database.open(url, metadata=METADATA) as db:
        cpu = time.process_time()
        for number in range(count):
            after = {"after": f"i-{number:017x}"}
            await db.read(lambda tx, after=after: tx.execute(PAGE, after).all())  # type: ignore[misc]
        print(f"page of 100 ids and versions: {(time.process_time() - cpu) / count * 1e6:.0f} us CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--seconds", type=float, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        url = asked.url or f"sqlite:///{folder}/bench.db"
        for clients in (1, 8, 32):
            asyncio.run(run(url, clients, asked.seconds))
        asyncio.run(pages(url))


if __name__ == "__main__":
    main()
