"""The shape of a live migration as Clark et al. found it (NSDI 2005, sections 4 and 6), and its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mallee.domain.guest import GuestKey
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.nc.db import MIGRATIONS, metadata
from mallee.nc.db.fakes import FakeStore
from mallee.nc.driver import HandedOver, Steering
from mallee.nc.drivers import pre_copy
from mallee.nc.drivers.fake import FakeDriver, FakeHost
from mallee.nc.drivers.fake_knobs import Knobs
from mallee.nc.drivers.fake_migration import CopyRules
from mallee.nc.drivers.fake_workload import Band, Workload
from tests.unit.nc.pretend import DirectWire, a_guest, copied, driven, migrated

MEMORY = 64
PAGES = MEMORY * 256
Drivers = Callable[[CopyRules], tuple[FakeDriver, FakeDriver]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def drivers(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Drivers]:
    async with await Database.open(
        f"sqlite:///{tmp_path}/n.db", metadata=metadata, migrations=MIGRATIONS, durable=False
    ) as db:

        def make(rules: CopyRules) -> tuple[FakeDriver, FakeDriver]:
            host = FakeHost(start_seconds=0.0, copying=rules)
            a, b = (
                FakeDriver(
                    name, FakeStore(db), {}, clock=clock, entropy=SeededEntropy(1), host=host, knobs=Knobs()
                )
                for name in "ab"
            )
            return a, b

        yield make


def writing(rate: float, *, hot: int = 600, instant: bool = False) -> CopyRules:
    """A small hot set, and a wide one at a tenth of its rate, on a line of 400 Mbit/s."""
    bands = Workload((Band(hot, rate), Band(PAGES // 4, rate / 10)))
    return CopyRules(400.0, 512, instant, stop=lambda _: pre_copy.xen_old(400.0), workload=lambda _: bands)


async def run(clock: ManualClock, pair: tuple[FakeDriver, FakeDriver]) -> tuple[list[Round], str, HandedOver]:
    guest = a_guest(memory_mib=MEMORY)
    await pair[0].start(GuestKey("i-1", 1), guest)
    result: tuple[list[Round], str, HandedOver] = await driven(clock, migrated(*pair, guest))
    return result


async def test_rounds_shrink_towards_what_is_always_hot(clock: ManualClock, drivers: Drivers) -> None:
    rounds, _, handed = await run(clock, drivers(writing(4_000.0)))
    sent = [each.pages_sent for each in rounds]
    assert sent[0] > PAGES * 0.8
    assert sent[:4] == sorted(sent[:4], reverse=True)
    assert sent[3] < sent[0] / 20
    assert handed.pages_sent < 1_000


async def test_downtime_grows_with_the_rate_of_writing(clock: ManualClock, drivers: Drivers) -> None:
    paused = [(await run(clock, drivers(writing(rate))))[2].paused_ms for rate in (100.0, 2_000.0, 40_000.0)]
    assert paused == sorted(paused)
    assert paused[0] * 5 < paused[-1]


async def test_the_same_seed_gives_the_same_migration(clock: ManualClock, drivers: Drivers) -> None:
    first, again = [await run(clock, drivers(writing(3_000.0))) for _ in range(2)]
    assert [r.pages_sent for r in first[0]] == [r.pages_sent for r in again[0]]
    assert first[2].pages_sent == again[2].pages_sent
    assert first[1] == again[1]


async def test_instant_reckons_the_same_time_without_waiting(clock: ManualClock, drivers: Drivers) -> None:
    waited, _, slow = await run(clock, drivers(writing(3_000.0)))
    before = clock.monotonic()
    guest = a_guest(memory_mib=MEMORY)
    a, b = drivers(writing(3_000.0, instant=True))
    await a.start(GuestKey("i-1", 1), guest)
    reckoned, _, fast = await migrated(a, b, guest)
    assert clock.monotonic() == before
    assert reckoned[0].duration_ms == pytest.approx(waited[0].duration_ms, rel=0.01)
    assert len(reckoned) == len(waited)
    assert fast.paused_ms == pytest.approx(slow.paused_ms, rel=0.1)


async def test_two_that_leave_at_once_share_the_line(clock: ManualClock, drivers: Drivers) -> None:
    a, b = drivers(CopyRules(100.0, 512))
    keys = [(GuestKey(f"i-{n}", 1), GuestKey(f"i-{n}", 2)) for n in (1, 2)]
    copies = []
    for here, there in keys:
        guest = a_guest(here.instance_id)
        await a.start(here, guest)
        await b.prepare(there, guest, "mig-1")
        copies.append(copied(a, here, DirectWire(b, there), Limits()))
    for rounds, _ in await driven(clock, asyncio.gather(*copies)):
        assert rounds[0].bandwidth_mbps == pytest.approx(50.0, rel=0.1)


async def test_steering_takes_effect_within_a_round(clock: ManualClock, drivers: Drivers) -> None:
    a, b = drivers(CopyRules(100.0, 512))
    guest = a_guest()
    here, there = GuestKey("i-1", 1), GuestKey("i-1", 2)
    await a.start(here, guest)
    await b.prepare(there, guest, "mig-1")
    steer = Steering()
    copying = asyncio.ensure_future(copied(a, here, DirectWire(b, there), Limits(), steer))
    await clock.advance(0.5)
    steer.bandwidth_mbps = 25.0
    rounds, _ = await driven(clock, copying)
    assert 25.0 < rounds[0].bandwidth_mbps < 60.0
