"""A node that is gone for good: what ran there runs elsewhere, where the operator wants it, and only then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mallee.cc.config import CcConfig
from mallee.cc.migration.record import Asked
from mallee.domain.guest import Phase, Power, Resources
from mallee.rpc import common_pb2
from tests.unit.cc.a_zone import FOUR, AZone

LEASE = 10
GOES, STAYS = (common_pb2.Guest(stays=stays).SerializeToString() for stays in (False, True))
Make = Callable[..., Awaitable[AZone]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[AZone] = []

    async def make(*, evacuate: bool = True) -> AZone:
        config = CcConfig(zone="z", policy="SPREAD", lease_seconds=LEASE, evacuate=evacuate)
        zone = await AZone(f"sqlite:///{tmp_path}/cc.db", config=config).start()
        made.append(zone)
        await zone.join("a")
        return zone

    yield make
    for zone in made:
        await zone.stop()


async def run(zone: AZone, instance_id: str, *, guest: bytes = GOES, pinned: str = "") -> None:
    await zone.place(instance_id, host_id="h-0")
    await zone.wish(instance_id, 1, guest=guest, host_id=pinned)
    await zone.obey()


async def test_it_starts_elsewhere_after_lease_and_margin_and_not_before(make: Make) -> None:
    zone = await make()
    home = zone.nodes[0]
    await run(zone, "i-1")
    away = await zone.join("b")
    home.line = None
    await zone.pass_time(2 * LEASE - 1, away)
    await zone.obey()
    assert away.guests == {}
    await zone.pass_time(2, away)
    await zone.obey()
    assert away.guests == {("i-1", 2): Phase.RUNNING}
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert (fact.host_id, fact.generation, fact.phase, fact.reachable) == ("h-1", 2, Phase.RUNNING, True)


async def test_a_node_that_comes_back_finds_its_old_generation_refused(make: Make) -> None:
    zone = await make()
    home = zone.nodes[0]
    await run(zone, "i-1")
    away = await zone.join("b")
    home.line = None
    await zone.pass_time(2 * LEASE + 1, away)
    await zone.obey()
    await zone.dial(home)
    assert home.guests == {("i-1", 1): Phase.RUNNING}  # as its host has it; a node has paused it
    await zone.obey()
    assert home.guests == {}
    assert away.guests == {("i-1", 2): Phase.RUNNING}
    assert zone.free() == [FOUR, Resources(3, 3072)]


async def test_it_is_off_unless_it_is_asked_for(make: Make) -> None:
    zone = await make(evacuate=False)
    await run(zone, "i-1")
    away = await zone.join("b")
    zone.nodes[0].line = None
    await zone.pass_time(5 * LEASE, away)
    await zone.obey()
    assert away.guests == {}


async def test_what_finds_no_room_finds_it_later(make: Make) -> None:
    zone = await make()
    await run(zone, "i-1")
    small = await zone.join("b", Resources(1, 512))
    zone.nodes[0].line = None
    await zone.pass_time(3 * LEASE, small)
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert (fact.host_id, fact.reachable) == ("h-0", False)
    large = await zone.join("c")
    await zone.pass_time(2, small, large)
    await zone.obey()
    assert large.guests == {("i-1", 2): Phase.RUNNING}


async def test_what_shall_stay_stays(make: Make) -> None:
    zone = await make()
    await run(zone, "i-1", guest=STAYS)
    await run(zone, "i-2", pinned="h-0")
    away = await zone.join("b")
    zone.nodes[0].line = None
    await zone.pass_time(3 * LEASE, away)
    await zone.obey()
    assert away.guests == {}
    await zone.wish("i-1", 2, Power.STOPPED)
    assert zone.phase("i-1") is Phase.STOPPED


async def test_a_guest_in_a_migration_is_left_to_it(make: Make) -> None:
    """The migration itself decides which copy is the guest; a third one would be a twin."""
    zone = await make()
    home = zone.nodes[0]
    await run(zone, "i-1")
    away = await zone.join("b")
    home.gate["pre_copy"] = asyncio.Event()
    answer = await zone.cc.desk.migrate(Asked("m-1", "i-1"))
    assert answer.migration is not None
    await zone.clock.advance(1)
    home.line = None
    await zone.pass_time(3 * LEASE, away)
    assert zone.cc.ledger.placements.rows["i-1"].generation == 1
    assert Phase.RUNNING not in away.guests.values()
