"""A prepared statement says what Core says, on both stores: the slow twin is Core itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from mallee.kernel.db import Database, Prepared, Tx
from mallee.kernel.db.prepared import EXACT_LIST, LONGEST_LIST

METADATA = sa.MetaData()
THING = sa.Table(
    "thing",
    METADATA,
    sa.Column("id", sa.String(8), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("seen", sa.Boolean),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
T = THING.c


class Thing(NamedTuple):
    id: str
    size: int
    open: bool
    seen: bool | None
    data: bytes


class Size(NamedTuple):
    size: int


ROWS = [
    {"id": f"t-{n:02}", "size": n, "open": n % 2 == 0, "seen": (None, True, False)[n % 3], "data": bytes([n])}
    for n in range(12)
]
ADD = Prepared(sa.insert(THING))
ALL = sa.select(THING).order_by(T.id)
SOME = sa.select(THING).where(T.id.in_(sa.bindparam("ids", expanding=True)), T.size >= 0).order_by(T.id)
SMALL = sa.select(T.id).where(T.size < sa.bindparam("size"), T.open).order_by(T.id).limit(2)
GROW = sa.update(THING).where(T.id == sa.bindparam("at")).values(size=T.size + sa.bindparam("more"))


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with await Database.open(database_url, metadata=METADATA) as opened:
        await opened.transact(lambda tx: tx.execute(ADD, ROWS))
        yield opened


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (ALL, None),
        (SMALL, {"size": 7}),
        (SOME, {"ids": []}),
        (SOME, {"ids": ["t-01"]}),
        (SOME, {"ids": ["t-03", "t-01", "t-99"]}),
        (SOME, {"ids": ("t-03", "t-01")}),
        (SOME, {"ids": [row["id"] for row in ROWS]}),
        (SOME, {"ids": tuple(row["id"] for row in ROWS)}),
        (SOME, {"ids": ["t-05", *(f"n-{n}" for n in range(LONGEST_LIST))]}),
    ],
)
async def test_the_same_rows(db: Database, statement: Any, parameters: Any) -> None:
    prepared = Prepared(statement)
    assert EXACT_LIST < len(ROWS) < LONGEST_LIST
    for _ in range(2):
        mine = await db.read(lambda tx: tx.execute(prepared, parameters).all())
        core = await db.read(lambda tx: tx.execute(statement, parameters).all())
        assert [tuple(row) for row in mine] == [tuple(row) for row in core]
        assert [[type(value) for value in row] for row in mine] == [
            [type(value) for value in row] for row in core
        ]


async def test_one_statement_serves_lists_of_any_length(db: Database) -> None:
    prepared, ids = Prepared(SOME), [row["id"] for row in ROWS]
    for length in (1, 3, 2, 12, 0, 3):
        for kind in (list, tuple):
            found = await db.read(lambda tx: tx.execute(prepared, {"ids": kind(ids[:length])}))  # noqa: B023
            assert [row.id for row in found] == ids[:length]


async def test_rows_are_named(db: Database) -> None:
    row = await db.read(lambda tx: tx.execute(Prepared(ALL)).first())
    assert (row.id, row.size, row.open, row.seen, row.data) == ("t-00", 0, True, None, b"\0")


async def test_named_tuples_are_parameters(db: Database) -> None:
    more = [Thing(f"n-{n}", n, open=n > 0, seen=None, data=b"") for n in range(3)]
    await db.transact(lambda tx: tx.execute(ADD, more[:1]))
    await db.transact(lambda tx: tx.execute(ADD, more[1:]))
    prepared = Prepared(SMALL)
    for _ in range(2):
        assert await db.read(lambda tx: tx.execute(prepared, Size(2)).scalars()) == ["n-1", "t-00"]
    some = await db.read(lambda tx: tx.execute(Prepared(SOME), {"ids": ["n-0", "n-1", "n-2"]}))
    assert [Thing(*row) for row in some] == more


async def test_one_and_many_updates_count_what_they_changed(db: Database) -> None:
    grow = Prepared(GROW)
    assert await db.transact(lambda tx: tx.execute(grow, {"at": "t-01", "more": 5}).rowcount) == 1
    assert await db.transact(lambda tx: tx.execute(grow, {"at": "t-xx", "more": 5}).rowcount) == 0
    await db.transact(lambda tx: tx.execute(grow, [{"at": each, "more": 10} for each in ("t-01", "t-02")]))
    sizes = await db.read(lambda tx: tx.execute(Prepared(sa.select(T.size).order_by(T.id))).scalars())
    assert sizes[:4] == [0, 16, 12, 3]


async def test_a_broken_constraint_is_the_same_error(db: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        await db.transact(lambda tx: tx.execute(ADD, ROWS[0]))


@pytest.mark.parametrize(
    ("take", "error"),
    [
        (lambda tx: tx.execute(Prepared(ALL)).one(), sa.exc.MultipleResultsFound),
        (lambda tx: tx.execute(Prepared(SMALL), {"size": -1}).one(), sa.exc.NoResultFound),
    ],
)
async def test_one_is_one(db: Database, take: Callable[[Tx], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await db.read(take)
    assert await db.read(lambda tx: tx.execute(Prepared(SMALL), {"size": -1}).first()) is None
