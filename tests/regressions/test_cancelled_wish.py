"""A caller that dies while its wishes are written: what is durable is also ordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.domain.guest import Phase
from tests.unit.cc.a_zone import AZone


@pytest.fixture
async def zone(tmp_path: Path) -> AsyncIterator[AZone]:
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db").start()
    yield zone
    await zone.stop()


async def test_a_wish_whose_caller_went_away_is_carried_out(zone: AZone) -> None:
    """gRPC cancels the call of a cloud controller that was killed; the same wish again is no news."""
    await zone.join("n1")
    await zone.place("i-1")
    written = zone.cc.ledger.db.transact
    under_way = asyncio.Event()

    async def slow(work):
        result = await written(work)
        under_way.set()
        await zone.clock.settle()
        return result

    zone.cc.ledger.db.transact = slow
    asking = asyncio.create_task(zone.wish("i-1", 1))
    await under_way.wait()
    asking.cancel()
    await zone.clock.settle(200)
    del zone.cc.ledger.db.transact
    await zone.wish("i-1", 1)
    await zone.obey()
    assert zone.phase("i-1") is Phase.RUNNING
