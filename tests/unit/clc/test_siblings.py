"""Cloud controllers that share a database."""

from __future__ import annotations

from pathlib import Path

from mallee.clc.db import METADATA
from mallee.clc.reconcile.siblings import SILENT_SECONDS, Siblings
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database


async def test_what_a_dead_one_left_unsaid_is_said_by_the_living_once(tmp_path: Path) -> None:
    clock, told = ManualClock(), list[str]()
    async with await Database.open(
        f"sqlite:///{tmp_path}/clc.db", metadata=METADATA, durable=False
    ) as database:
        one = Siblings(database, "one", clock, lambda: told.append("one"))
        two = Siblings(database, "two", clock, lambda: told.append("two"))
        for _ in range(10):
            await one.look()
            await two.look()
            await clock.advance(SILENT_SECONDS - 0.1)
        assert told == []
        for _ in range(5):
            await one.look()
            await clock.advance(SILENT_SECONDS / 2)
        assert told == ["one"]
        await two.look()
        await one.look()
        await clock.advance(SILENT_SECONDS)
        await one.look()
        assert told == ["one", "one"]
