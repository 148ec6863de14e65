"""A migration between two node controllers: the way there, the way back, and what comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from mallee.domain.guest import GuestKey, Phase, Power
from mallee.kernel.errors import Fault, Kind
from tests.unit.nc.pretend import a_guest, driven, phases
from tests.unit.nc.zone import Move, Zone

KEY, NEXT = GuestKey("i-1", 1), GuestKey("i-1", 2)
GUEST = a_guest(memory_mib=32, tags={"mallee:workload": "web"})


@pytest.fixture
async def zone(tmp_path: Path) -> AsyncIterator[Zone]:
    made = Zone(tmp_path)
    await made.open("a", "b")
    made.cluster.order("a", KEY, Power.RUNNING, GUEST)
    await made.becomes("a", KEY, "running")
    yield made
    await made.close()


@pytest.fixture
def move(zone: Zone) -> Move:
    return Move(zone, GUEST)


async def refused(work: Awaitable[Any]) -> Fault:
    with pytest.raises(Fault) as caught:
        await work
    return caught.value


async def here(zone: Zone, name: str) -> dict[GuestKey, Phase]:
    return await phases(zone.controllers[name].nodes[name].driver)


async def test_a_guest_moves_with_equal_copies(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.prepare())
    rounds, reason = await driven(zone.clock, move.pre_copy(downtime_budget_ms=20))
    done = await driven(zone.clock, move.stop_and_copy())
    verified = await move.verify()

    assert reason == "fits-budget"
    assert [each.number for each in rounds] == list(range(1, len(rounds) + 1))
    assert rounds[0].memory_bytes == 32 * 1024 * 1024
    assert rounds[0].bytes_remaining > rounds[-1].bytes_remaining > 0
    assert rounds[-1].expected_downtime_ms <= 20
    assert verified.whole
    assert verified.digest == done.digest != ""
    assert await here(zone, "a") == {KEY: Phase.PAUSED}

    zone.cluster.forget("a", "i-1")
    zone.cluster.order("b", NEXT, Power.RUNNING, GUEST)
    for _ in range(2):
        await move.activate()
        await move.discard()
    await zone.becomes("b", NEXT, "running")
    await zone.becomes("a", KEY, "terminated")
    assert await here(zone, "a") == {}


async def test_a_paused_source_is_left_alone_by_its_orders(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.handed_over())
    zone.cluster.order("a", KEY, Power.RUNNING, GUEST, reboots=1)
    await zone.clock.advance(30)
    assert await here(zone, "a") == {KEY: Phase.PAUSED}
    assert await here(zone, "b") == {NEXT: Phase.INCOMING}


async def test_nobody_resumes_by_himself_also_after_restarts_and_silence(zone: Zone, move: Move) -> None:
    done = await driven(zone.clock, move.handed_over())
    for name in ("a", "b"):
        await zone.restart(name)
    await zone.close_cluster()
    await zone.clock.advance(60)
    await zone.open_cluster()
    await zone.clock.advance(60)

    assert await here(zone, "a") == {KEY: Phase.PAUSED}
    assert await here(zone, "b") == {NEXT: Phase.INCOMING}
    assert (await move.verify()).digest == done.digest
    assert (await move.stop_and_copy()).digest == done.digest


async def test_the_way_back_after_stage_3(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.handed_over())
    for _ in range(2):
        await move.abandon()
        await move.resume()
    assert await here(zone, "b") == {}
    assert await here(zone, "a") == {KEY: Phase.RUNNING}
    await zone.becomes("a", KEY, "running")


async def test_the_way_back_after_a_restart_of_the_source(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.handed_over())
    await zone.restart("a")
    await zone.clock.advance(1)
    await move.abandon()
    await move.resume()
    assert await here(zone, "a") == {KEY: Phase.RUNNING}


async def test_a_guest_whose_disk_forgot_that_it_runs_again_runs_again(zone: Zone, move: Move) -> None:
    """The tombstone of the migration is on the disk, and what it ended was not: a restart finds both."""
    await driven(zone.clock, move.handed_over())
    await move.abandon()
    node = zone.controllers["a"].nodes["a"]
    await node.migrations._graveyard.call_off("a", move.migration_id)

    await zone.restart("a")

    await zone.becomes("a", KEY, "running")
    assert await here(zone, "a") == {KEY: Phase.RUNNING}


async def test_what_comes_late_for_a_dead_migration_is_refused(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.prepare())
    await driven(zone.clock, move.pre_copy())
    await move.abandon()
    await move.resume()
    for name in ("a", "b"):
        await zone.restart(name)
    await zone.clock.advance(1)

    late = Move(zone, GUEST)
    late.way = move.way
    assert (await refused(late.prepare())).kind is Kind.STALE
    assert (await refused(driven(zone.clock, late.pre_copy()))).kind is Kind.STALE
    assert (await refused(late.stop_and_copy())).kind is Kind.STALE
    assert (await refused(late.activate())).kind is Kind.STALE
    assert await here(zone, "a") == {KEY: Phase.RUNNING}
    assert await here(zone, "b") == {}


async def test_a_copying_that_still_runs_ends_with_its_migration(zone: Zone, move: Move) -> None:
    await move.prepare()
    copying = asyncio.ensure_future(move.pre_copy())
    await zone.clock.advance(0.2)
    assert not copying.done()
    await move.abandon()
    fault = await refused(driven(zone.clock, copying))
    assert fault.kind is Kind.STALE
    await move.resume()
    assert await here(zone, "a") == {KEY: Phase.RUNNING}
    assert await here(zone, "b") == {}


async def test_a_doubled_prepare_empties_nothing(zone: Zone, move: Move) -> None:
    first = await move.prepare()
    copying = asyncio.ensure_future(move.pre_copy())
    await zone.clock.advance(0.2)
    again = await move.prepare()
    assert again.ticket == first.ticket
    await driven(zone.clock, copying)
    done = await driven(zone.clock, move.stop_and_copy())
    assert (await move.verify()).digest == done.digest


async def test_a_prepare_of_long_ago_does_not_empty_a_whole_copy(zone: Zone, move: Move) -> None:
    """The race that the model of the switch-over found: the session is gone with its process, the copy is not."""
    done = await driven(zone.clock, move.handed_over())
    await zone.restart("b")
    await zone.clock.advance(1)
    assert (await refused(move.prepare())).kind is Kind.STALE
    assert (await move.verify()).digest == done.digest
    await move.activate()
    assert await here(zone, "b") == {NEXT: Phase.RUNNING}


async def test_a_late_verb_of_an_earlier_life_touches_no_later_one(zone: Zone, move: Move) -> None:
    """The race that a simulation found: a doubled hand-over sleeps through commit and a way back home."""
    await driven(zone.clock, move.handed_over())
    await move.activate()
    zone.cluster.forget("a", "i-1")
    await move.discard()
    home = GuestKey("i-1", 3)
    zone.cluster.order("a", home, Power.RUNNING, GUEST)
    await zone.becomes("a", home, "running")

    assert (await refused(move.stop_and_copy())).kind is Kind.STALE
    assert (await refused(driven(zone.clock, move.pre_copy()))).kind is Kind.STALE
    await move.resume()
    await move.discard()
    assert await here(zone, "a") == {home: Phase.RUNNING}


async def test_terminate_ends_a_migration(zone: Zone, move: Move) -> None:
    await move.prepare()
    copying = asyncio.ensure_future(move.pre_copy())
    await zone.clock.advance(0.2)
    zone.cluster.order("a", KEY, Power.TERMINATED)
    fault = await refused(driven(zone.clock, copying))
    assert (fault.kind, fault.code) == (Kind.CONFLICT, "instance-terminating")
    await zone.becomes("a", KEY, "terminated")
    await move.abandon()
    await move.resume()
    assert await here(zone, "a") == await here(zone, "b") == {}


async def test_the_same_step_again_begins_the_copying_anew(zone: Zone, move: Move) -> None:
    await move.prepare()
    cut_off = asyncio.ensure_future(move.pre_copy())
    await zone.clock.advance(0.3)
    cut_off.cancel()
    await zone.clock.settle()
    rounds, reason = await driven(zone.clock, move.pre_copy())
    assert (rounds[0].number, reason) == (1, "fits-budget")
    done = await driven(zone.clock, move.stop_and_copy())
    assert (await move.verify()).digest == done.digest


async def test_who_copied_before_hears_that_it_was_begun_anew(zone: Zone, move: Move) -> None:
    """He was told nothing at all, and his migration waited for ever."""
    await move.prepare()
    first = asyncio.ensure_future(move.pre_copy())
    await zone.clock.advance(0.1)
    second = asyncio.ensure_future(move.pre_copy())
    assert (await refused(driven(zone.clock, first))).code == "copying-ended"
    rounds, reason = await driven(zone.clock, second)
    assert (rounds[0].number, reason) == (1, "fits-budget")


async def test_who_waits_for_the_last_pages_hears_that_they_were_called_off(zone: Zone, move: Move) -> None:
    await move.prepare()
    await driven(zone.clock, move.pre_copy())
    zone.controllers["b"].knobs["b"].hang.add("receive")
    last = asyncio.ensure_future(move.stop_and_copy())
    await zone.clock.advance(0.1)
    await move.resume()
    assert (await refused(driven(zone.clock, last))).kind is Kind.STALE


async def test_the_end_of_a_way_back_that_takes_longer_than_a_deadline_is_heard(
    zone: Zone, move: Move
) -> None:
    """It was begun anew with each try, and its migration never ended."""
    await move.prepare()
    await driven(zone.clock, move.pre_copy())
    zone.controllers["a"].knobs["a"].slow = 6.0
    assert (await refused(driven(zone.clock, move.resume()))).code == "deadline"
    await zone.clock.advance(2)
    await driven(zone.clock, move.resume())


async def test_a_lapse_while_the_last_pages_cross_gives_the_guest_to_nobody(zone: Zone, move: Move) -> None:
    """It was resumed by new orders, and ran here while its copy was whole there."""
    await move.prepare()
    await driven(zone.clock, move.pre_copy())
    zone.controllers["b"].knobs["b"].hang.add("receive")
    last = asyncio.ensure_future(move.stop_and_copy())
    await zone.clock.advance(0.1)
    zone.cluster.grants = False
    await zone.clock.advance(15)
    zone.cluster.grants = True
    await zone.clock.advance(15)
    assert await here(zone, "a") == {KEY: Phase.PAUSED}
    zone.controllers["b"].knobs["b"].hang.clear()
    assert (await driven(zone.clock, last)).digest == (await move.verify()).digest
    await zone.clock.advance(15)
    assert await here(zone, "a") == {KEY: Phase.PAUSED}


async def test_a_destination_that_restarts_half_way_has_nothing(zone: Zone, move: Move) -> None:
    await move.prepare()
    await driven(zone.clock, move.pre_copy())
    await zone.restart("b")
    await zone.clock.advance(1)
    assert not (await move.verify()).whole
    assert (await refused(driven(zone.clock, move.stop_and_copy()))).kind is Kind.UNAVAILABLE
    assert await here(zone, "a") == {KEY: Phase.PAUSED}
    await move.abandon()
    await move.resume()
    assert await here(zone, "a") == {KEY: Phase.RUNNING}


async def test_a_wrong_ticket_lets_nobody_in(zone: Zone, move: Move) -> None:
    await move.prepare()
    fault = await refused(driven(zone.clock, move.pre_copy(ticket="guessed")))
    assert fault.code == "bad-ticket"
    assert await here(zone, "a") == {KEY: Phase.RUNNING}


async def test_a_lie_about_the_image_shows(zone: Zone, move: Move) -> None:
    zone.controllers["b"].knobs["b"].lie = True
    done = await driven(zone.clock, move.handed_over())
    verified = await move.verify()
    assert verified.whole
    assert verified.digest != done.digest


async def test_steering_ends_the_copying_or_slows_it(zone: Zone, move: Move) -> None:
    await move.prepare()
    copying = asyncio.ensure_future(move.pre_copy(downtime_budget_ms=0.001, max_rounds=1000, max_factor=1e6))
    await zone.clock.advance(0.2)
    await move.steer(bandwidth_mbps=20.0)
    await zone.clock.advance(0.5)
    await move.steer(finish=True)
    rounds, reason = await driven(zone.clock, copying)
    assert reason == "forced"
    assert rounds[0].bandwidth_mbps < 40


async def test_an_active_copy_is_not_abandoned(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.handed_over())
    await move.activate()
    zone.cluster.order("b", NEXT, Power.RUNNING, GUEST)
    await zone.clock.advance(1)
    assert (await refused(move.abandon())).code == "already-active"
    assert await here(zone, "b") == {NEXT: Phase.RUNNING}


async def test_without_a_lease_nothing_is_activated_or_resumed(zone: Zone, move: Move) -> None:
    await driven(zone.clock, move.handed_over())
    zone.cluster.grants = False
    await zone.clock.advance(15)
    assert (await refused(move.activate())).code == "no-lease"
    assert (await refused(move.resume())).code == "no-lease"
    zone.cluster.grants = True
    await zone.clock.advance(15)
    await move.activate()
    await zone.clock.settle()
    assert await here(zone, "b") == {NEXT: Phase.RUNNING}


async def test_an_arrived_guest_does_not_stumble_over_an_order_that_comes_a_moment_later(
    zone: Zone, move: Move
) -> None:
    await driven(zone.clock, move.handed_over())
    await move.activate()
    await zone.clock.advance(1)
    assert await here(zone, "b") == {NEXT: Phase.RUNNING}
    zone.cluster.order("b", NEXT, Power.RUNNING, GUEST)
    await zone.clock.advance(1)
    zone.cluster.order("b", NEXT, Power.RUNNING, GUEST, reboots=1)
    await zone.clock.advance(1)
    log = await zone.controllers["b"].nodes["b"].driver.console("i-1")
    assert log.count(b"Linux version") == 2
    zone.cluster.forget("b", "i-1")
    await zone.close_cluster()
    await zone.open_cluster()
    await zone.becomes("b", NEXT, "paused")
