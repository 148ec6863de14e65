"""The circle of free addresses against a set of numbers, step by step."""

from __future__ import annotations

from itertools import pairwise

from mallee.clc.db import addresses
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import SeededEntropy

LOW, HIGH = 100, 163


def ranges(tx: Tx) -> list[tuple[int, int]]:
    statement = addresses.free_addresses.select().order_by(addresses.free_addresses.c.low)
    return [(row.low, row.high) for row in tx.execute(statement)]


async def test_the_circle_agrees_with_a_set(db: Database) -> None:
    dice = SeededEntropy(3)
    used: set[int] = set()
    cursor = LOW - 1

    def step(tx: Tx) -> None:
        nonlocal cursor
        free = sorted(set(range(LOW, HIGH + 1)) - used)
        action = dice.uniform(0, 3)
        if action < 1.5 and free:
            count = 1 + int(dice.uniform(0, min(9, len(free))))
            behind = [each for each in free if each > cursor] + [each for each in free if each <= cursor]
            taken = addresses.take(tx, "s", count, cursor)
            assert taken == behind[:count]
            used.update(taken)
            cursor = taken[-1]
        elif action < 2:
            wanted = LOW + int(dice.uniform(0, HIGH - LOW + 1))
            assert addresses.take_one(tx, "s", wanted) is (wanted not in used)
            used.add(wanted)
        elif used:
            back = {each for each in used if dice.uniform(0, 1) < 0.4}
            addresses.give_back(tx, "s", back)
            used.difference_update(back)

    await db.transact(lambda tx: addresses.found(tx, "s", LOW, HIGH))
    for _ in range(200):
        await db.transact(step)
        kept = await db.read(ranges)
        free = {number for low, high in kept for number in range(low, high + 1)}
        assert free == set(range(LOW, HIGH + 1)) - used
        # Neighbours are one range: what is free never falls to pieces.
        assert all(after[0] > before[1] + 1 for before, after in pairwise(kept))
