"""The free addresses of each subnet, kept as ranges: an address is an integer.

A subnet hands its addresses out in a circle, from behind the one that was given last, so a
released address rests as long as the subnet has others. Ranges keep every step a look into an
index, however full the subnet and however large.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, String, Table, bindparam, delete, insert, select, update

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

free_addresses = Table(
    "free_addresses",
    metadata,
    Column("subnet_id", String(32), primary_key=True),
    Column("low", BigInteger, primary_key=True),
    Column("high", BigInteger, nullable=False),  # the last one of the range
)


class _Range(NamedTuple):
    low: int
    high: int


_AT_ONCE = 64
_C = free_addresses.c
_HERE = _C.subnet_id == bindparam("subnet")
_BEHIND = Prepared(
    select(_C.low, _C.high)
    .where(_HERE, _C.low > bindparam("after"))
    .order_by(_C.low)
    .limit(bindparam("limit"))
)
_LAST_UP_TO = Prepared(
    select(_C.low, _C.high).where(_HERE, _C.low <= bindparam("at")).order_by(_C.low.desc()).limit(1)
)
_ADD = Prepared(insert(free_addresses))
_DROP = Prepared(delete(free_addresses).where(_HERE, _C.low == bindparam("at")))
_MOVE_LOW = Prepared(
    update(free_addresses).where(_HERE, _C.low == bindparam("at")).values(low=bindparam("to_low"))
)
_MOVE_HIGH = Prepared(
    update(free_addresses).where(_HERE, _C.low == bindparam("at")).values(high=bindparam("to_high"))
)
_ABANDON = Prepared(delete(free_addresses).where(_HERE))


def found(tx: Tx, subnet_id: str, low: int, high: int) -> None:
    """Begin a subnet whose addresses from `low` to `high` may be given."""
    tx.execute(_ADD, {"subnet_id": subnet_id, "low": low, "high": high})


def abandon(tx: Tx, subnet_id: str) -> None:
    """Forget a subnet."""
    tx.execute(_ABANDON, {"subnet": subnet_id})


def take(tx: Tx, subnet_id: str, count: int, cursor: int) -> list[int]:
    """The next `count` free addresses behind `cursor`, around the circle.

    The caller knows that so many are free.
    """
    given: list[int] = []
    for around, start in _circle(tx, subnet_id, cursor):
        last = min(around.high, start + count - len(given) - 1)
        _cut(tx, subnet_id, around, start, last)
        given.extend(range(start, last + 1))
        if len(given) == count:
            return given
    raise AssertionError(f"{subnet_id} has fewer free addresses than its counter says")


def take_one(tx: Tx, subnet_id: str, wanted: int) -> bool:
    """Exactly this address; False if somebody has it."""
    around = _up_to(tx, subnet_id, wanted)
    if around is None or around.high < wanted:
        return False
    _cut(tx, subnet_id, around, wanted, wanted)
    return True


def give_back(tx: Tx, subnet_id: str, returned: Collection[int]) -> None:
    """Addresses that were taken are free again."""
    for low, high in _runs(returned):
        before, after = _up_to(tx, subnet_id, low), _up_to(tx, subnet_id, high + 1)
        joined = _Range(low, high)
        if after is not None and after.low == high + 1:
            tx.execute(_DROP, {"subnet": subnet_id, "at": after.low})
            joined = joined._replace(high=after.high)
        if before is not None and before.high == low - 1:
            tx.execute(_MOVE_HIGH, {"subnet": subnet_id, "at": before.low, "to_high": joined.high})
        else:
            found(tx, subnet_id, joined.low, joined.high)


def _circle(tx: Tx, subnet_id: str, cursor: int) -> Iterator[tuple[_Range, int]]:
    """Free ranges and where to begin in them, from behind the cursor around; the caller cuts them."""
    around = _up_to(tx, subnet_id, cursor + 1)
    if around is not None and around.high > cursor:
        yield around, cursor + 1
    for after in (cursor + 1, -1):
        for each in _ranges(tx, subnet_id, after):
            yield each, each.low


def _ranges(tx: Tx, subnet_id: str, after: int) -> Iterator[_Range]:
    size = 1  # nearly always the first range is enough
    while True:
        rows = tx.execute(_BEHIND, {"subnet": subnet_id, "after": after, "limit": size}).all()
        for row in rows:
            yield _Range(row.low, row.high)
            after = row.low
        if len(rows) < size:
            return
        size = _AT_ONCE


def _up_to(tx: Tx, subnet_id: str, at: int) -> _Range | None:
    row = tx.execute(_LAST_UP_TO, {"subnet": subnet_id, "at": at}).first()
    return _Range(row.low, row.high) if row else None


def _cut(tx: Tx, subnet_id: str, around: _Range, low: int, high: int) -> None:
    """Take `low` to `high` out of the free range around them."""
    if around.low < low:
        tx.execute(_MOVE_HIGH, {"subnet": subnet_id, "at": around.low, "to_high": low - 1})
        if high < around.high:
            found(tx, subnet_id, high + 1, around.high)
    elif high < around.high:
        tx.execute(_MOVE_LOW, {"subnet": subnet_id, "at": low, "to_low": high + 1})
    else:
        tx.execute(_DROP, {"subnet": subnet_id, "at": low})


def _runs(numbers: Collection[int]) -> Iterator[_Range]:
    """Neighbours among these as ranges."""
    low = high = None
    for number in sorted(numbers):
        if high is not None and number == high + 1:
            high = number
            continue
        if low is not None and high is not None:
            yield _Range(low, high)
        low = high = number
    if low is not None and high is not None:
        yield _Range(low, high)
