"""One node on its way to what it should be, whatever comes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mallee.domain.guest import Cause, GuestKey, Phase, Power
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.nc.db import MIGRATIONS, metadata
from mallee.nc.db.fakes import FakeStore
from mallee.nc.db.tombstones import Graveyard
from mallee.nc.drivers.fake import FakeDriver, FakeHost
from mallee.nc.drivers.fake_knobs import Knobs
from mallee.nc.guests import Guests
from mallee.nc.words import Fact, Order
from tests.unit.nc.pretend import a_guest, as_message, phases, until

KEY = GuestKey("i-1", 1)


class World:
    """One node with a pretend hypervisor, and everything it ever said."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.start_seconds = 1.0
        self.clock = ManualClock()
        self.knobs = Knobs()
        self.said: list[Fact] = []

    async def open(self) -> None:
        self.db = await Database.open(self._url, metadata=metadata, migrations=MIGRATIONS, durable=False)
        store = FakeStore(self.db)
        graveyard = Graveyard(self.db, self.clock)
        await graveyard.load()
        self.driver = FakeDriver(
            "n",
            store,
            (await store.load()).get("n", {}),
            clock=self.clock,
            entropy=SeededEntropy(1),
            host=FakeHost(start_seconds=self.start_seconds),
            knobs=self.knobs,
        )
        await self.driver.open()
        self.guests = Guests("n", self.driver, graveyard, self.clock)
        await self.guests.look()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def close(self) -> None:
        await self.guests.close()
        await self.driver.close()
        await self.db.close()

    def order(
        self, power: Power = Power.RUNNING, *, key: GuestKey = KEY, revision: int = 1, **more: Any
    ) -> None:
        whole = more.pop("whole", False)
        guest = as_message(more.pop("guest", a_guest(key.instance_id)))
        self.guests.take_orders([Order(key, revision, power, guest=guest, **more)], whole=whole)

    def facts(self) -> dict[GuestKey, Fact]:
        self.said += self.guests.take_news()
        return {fact.key: fact for fact in self.said}

    async def becomes(self, phase: Phase | None, *, key: GuestKey = KEY, revision: int | None = None) -> Fact:
        """Move time until the node has said so."""

        def so() -> bool:
            fact = self.facts().get(key)
            return fact is not None and fact.phase is phase and revision in {None, fact.revision}

        await until(self.clock, so)
        return self.facts()[key]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(f"sqlite:///{tmp_path}/nc.db")
    await made.open()
    made.guests.take_orders([], whole=True)
    yield made
    await made.close()


async def test_a_guest_runs_with_its_history(world: World) -> None:
    world.order(revision=5)
    await world.becomes(Phase.PROVISIONING, revision=5)
    fact = await world.becomes(Phase.RUNNING, revision=5)
    assert [moment.name for moment in fact.moments] == ["image", "customise", "boot", "verify"]
    assert fact.resources == a_guest().resources


async def test_the_end_of_an_old_copy_does_not_unsay_the_start_of_a_new_one(world: World) -> None:
    """The cluster controller hears of the old copy while it is being destroyed, and orders what is done already."""
    world.order()
    await world.becomes(Phase.RUNNING)
    world.order(Power.STOPPED, revision=2)
    await world.becomes(Phase.STOPPED)
    world.knobs.hang.add("destroy")
    world.order(key=GuestKey("i-1", 2), revision=3)
    await world.clock.advance(0.5)
    world.order(Power.TERMINATED, revision=3, force=True)
    world.knobs.hang.clear()
    await world.becomes(Phase.RUNNING, key=GuestKey("i-1", 2))
    assert await phases(world.driver) == {GuestKey("i-1", 2): Phase.RUNNING}


async def test_terminate_wins_over_a_start_in_progress(world: World) -> None:
    world.order()
    await world.clock.advance(0.45)
    began = world.clock.monotonic()
    world.order(Power.TERMINATED, revision=2)
    await world.becomes(Phase.TERMINATED, revision=2)
    assert world.clock.monotonic() - began < 0.2
    await world.clock.advance(5)
    assert await phases(world.driver) == {}
    assert Phase.RUNNING not in {fact.phase for fact in world.said}


async def test_stop_wins_over_a_start_in_progress_and_run_over_stop(world: World) -> None:
    world.order()
    await world.clock.advance(0.45)
    world.order(Power.STOPPED, revision=2)
    await world.becomes(Phase.STOPPED, revision=2)
    world.order(revision=3)
    await world.becomes(Phase.RUNNING, revision=3)


async def test_the_latest_of_many_wishes_is_what_becomes(world: World) -> None:
    for revision in range(1, 40):
        world.order(Power.STOPPED if revision % 2 else Power.RUNNING, revision=revision)
        await world.clock.advance(0.03)
    await world.becomes(Phase.STOPPED, revision=39)


async def test_an_older_revision_changes_nothing(world: World) -> None:
    world.order(revision=7)
    await world.becomes(Phase.RUNNING, revision=7)
    world.order(Power.TERMINATED, revision=6)
    await world.clock.advance(5)
    assert await phases(world.driver) == {KEY: Phase.RUNNING}


async def test_an_ended_generation_never_comes_back_also_after_a_restart(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    world.order(Power.TERMINATED, revision=2)
    await world.becomes(Phase.TERMINATED)
    for restarted in (False, True):
        if restarted:
            await world.restart()
            world.guests.take_orders([], whole=True)
        world.said.clear()
        world.order(revision=9)
        await world.becomes(Phase.TERMINATED, revision=9)
        await world.clock.advance(5)
        assert await phases(world.driver) == {}


async def test_a_newer_generation_replaces_the_older(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    newer = GuestKey("i-1", 2)
    world.order(key=newer)
    await world.becomes(Phase.RUNNING, key=newer)
    assert await phases(world.driver) == {newer: Phase.RUNNING}
    assert world.facts()[KEY].phase is Phase.TERMINATED
    world.order(Power.TERMINATED, revision=50)
    await world.clock.advance(5)
    assert await phases(world.driver) == {newer: Phase.RUNNING}


async def test_a_failed_start_is_told_with_its_cause_and_not_repeated(world: World) -> None:
    world.knobs.fail["start"] = Fault(Kind.INTERNAL, "No such image.", code="image-missing")
    world.order()
    fact = await world.becomes(Phase.FAILED)
    assert fact.cause == Cause("image-missing", "No such image.")
    world.knobs.fail.clear()
    world.order(revision=2)
    await world.clock.advance(60)
    assert await phases(world.driver) == {}
    world.order(Power.TERMINATED, revision=3)
    await world.becomes(Phase.TERMINATED, revision=3)


async def test_a_guest_nobody_can_read_fails(world: World) -> None:
    world.guests.take_orders([Order(KEY, 1, Power.RUNNING, guest=b"\xff\xff")], whole=False)
    fact = await world.becomes(Phase.FAILED)
    assert fact.cause is not None
    assert fact.cause.code == "bad-guest"


async def test_an_end_that_fails_is_tried_until_it_succeeds(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    world.knobs.fail["destroy"] = Fault(Kind.UNAVAILABLE, "Busy.")
    world.order(Power.TERMINATED, revision=2)
    await world.clock.advance(10)
    assert await phases(world.driver) == {KEY: Phase.RUNNING}
    world.knobs.fail.clear()
    await world.becomes(Phase.TERMINATED)


async def test_a_hanging_start_gives_way_to_terminate(world: World) -> None:
    world.knobs.hang.add("start")
    world.order()
    await world.clock.advance(30)
    world.order(Power.TERMINATED, revision=2)
    await world.becomes(Phase.TERMINATED)


async def test_reboots_are_done_as_often_as_asked(world: World) -> None:
    world.order(reboots=2)
    assert (await world.becomes(Phase.RUNNING)).reboots == 2
    for revision in (2, 3):
        world.order(reboots=3, revision=revision)
        assert (await world.becomes(Phase.RUNNING, revision=revision)).reboots in {2, 3}
        await world.clock.advance(1)
    assert (await world.driver.console("i-1")).count(b"Linux version") == 2
    assert world.facts()[KEY].reboots == 3


async def test_what_still_runs_is_adopted_and_runs_on(world: World) -> None:
    world.order(reboots=1)
    await world.becomes(Phase.RUNNING)
    await world.restart()
    assert [(fact.key, fact.phase) for fact in world.guests.facts()] == [(KEY, Phase.RUNNING)]
    await world.clock.advance(5)
    assert await phases(world.driver) == {KEY: Phase.RUNNING}
    world.guests.take_news()
    world.order(reboots=1, revision=4, whole=True)
    await world.clock.advance(5)
    assert await phases(world.driver) == {KEY: Phase.RUNNING}
    assert world.guests.take_news() == []  # the inventory has said it, and nothing is different
    assert [fact.revision for fact in world.guests.facts()] == [4]
    assert (await world.driver.console("i-1")).count(b"Linux version") == 1


async def test_who_is_not_named_is_paused_and_reported_never_destroyed(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    world.guests.take_orders([], whole=True)
    fact = await world.becomes(Phase.PAUSED)
    assert fact.cause is not None
    assert fact.cause.code == "unknown-guest"
    await world.clock.advance(600)
    assert await phases(world.driver) == {KEY: Phase.PAUSED}
    world.order(revision=2, whole=True)
    assert (await world.becomes(Phase.RUNNING, revision=2)).cause is None


async def test_a_lapse_pauses_everybody_and_only_new_orders_resume(world: World) -> None:
    second = GuestKey("i-2", 1)
    for key in (KEY, second):
        world.order(key=key)
        await world.becomes(Phase.RUNNING, key=key)
    commits = world.db.commits

    world.guests.lapse()
    for key in (KEY, second):
        await world.becomes(Phase.PAUSED, key=key)
    assert world.db.commits <= commits + 2

    world.guests.renew()
    await world.clock.advance(30)
    assert set((await phases(world.driver)).values()) == {Phase.PAUSED}

    world.order(revision=2, whole=True)
    await world.becomes(Phase.RUNNING)
    await world.clock.advance(30)
    assert await phases(world.driver) == {KEY: Phase.RUNNING, second: Phase.PAUSED}


async def test_a_lapse_does_not_wait_for_another_try_of_something_else(world: World) -> None:
    """The guest ran on without a lease, for up to half a minute."""
    world.order()
    await world.becomes(Phase.RUNNING)
    world.knobs.fail["reboot"] = Fault(Kind.UNAVAILABLE, "The disk is full.")
    world.order(revision=2, reboots=1)
    await world.clock.advance(10)
    world.guests.lapse()
    await world.clock.settle()
    assert await phases(world.driver) == {KEY: Phase.PAUSED}


async def test_a_lapse_does_not_wait_until_a_guest_has_ended_by_itself(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    world.knobs.hang.add("shut_down")
    world.order(Power.STOPPED, revision=2)
    await world.clock.advance(1)
    world.guests.lapse()
    await world.clock.settle()
    assert await phases(world.driver) == {KEY: Phase.PAUSED}
    world.knobs.hang.clear()
    await world.becomes(Phase.STOPPED)


async def test_what_a_migration_did_during_a_step_is_seen_after_it(world: World) -> None:
    """The step wrote over it that the guest is paused for nobody, and the guest was resumed."""
    world.order()
    await world.becomes(Phase.RUNNING)
    world.knobs.slow = 6.0
    world.guests.lapse()
    await world.clock.advance(1)
    await world.driver._guests.change(KEY, phase=Phase.PAUSED, migration_id="mig-1", digest="whole")
    await world.guests.look()
    await world.clock.advance(10)
    world.guests.renew()
    world.order(revision=2, whole=True)
    await world.clock.advance(30)
    assert await phases(world.driver) == {KEY: Phase.PAUSED}


async def test_orders_without_a_lease_start_nothing(world: World) -> None:
    world.order()
    await world.clock.advance(0.45)
    world.guests.lapse()
    world.order(revision=2, whole=True)
    await world.clock.advance(30)
    assert await phases(world.driver) == {}
    world.guests.renew()
    await world.becomes(Phase.RUNNING)


async def test_a_superseded_guest_is_not_resumed_but_ended(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    world.said.clear()
    world.guests.lapse()
    world.order(Power.TERMINATED, revision=2, whole=True)
    world.guests.renew()
    await world.becomes(Phase.TERMINATED)
    assert Phase.RUNNING not in {fact.phase for fact in world.said}


async def test_a_guest_that_powers_itself_off_stays_off(world: World) -> None:
    watching = asyncio.ensure_future(world.guests.watch())
    world.order(guest=a_guest(tags={"mallee:ends-after": "3"}))
    await world.becomes(Phase.RUNNING)
    fact = await world.becomes(Phase.STOPPED)
    assert fact.cause is not None
    assert fact.cause.code == "guest-shut-down"
    await world.clock.advance(30)
    assert await phases(world.driver) == {KEY: Phase.STOPPED}
    watching.cancel()


async def test_a_guest_that_vanished_is_noticed_and_not_made_anew(world: World) -> None:
    world.order()
    await world.becomes(Phase.RUNNING)
    await world.driver.lose(KEY)
    await world.guests.look()
    fact = await world.becomes(Phase.FAILED)
    assert fact.cause is not None
    assert fact.cause.code == "guest-lost"
    await world.clock.advance(30)
    assert await phases(world.driver) == {}


async def test_a_thousand_guests_change_in_few_commits(world: World) -> None:
    world.start_seconds = 0.0
    await world.restart()
    before = world.db.commits
    many = [
        Order(GuestKey(f"i-{n}", 1), 1, Power.RUNNING, guest=as_message(a_guest(f"i-{n}")))
        for n in range(1000)
    ]
    world.guests.take_orders(many, whole=True)
    await until(world.clock, lambda: all(world.facts()[order.key].phase is Phase.RUNNING for order in many))
    assert world.db.commits - before <= 5


@pytest.mark.parametrize("step", ["start", "start:image", "start:customise", "start:boot", "start:verify"])
async def test_a_start_that_breaks_at_any_step_leaves_nothing(world: World, step: str) -> None:
    def crash(name: str) -> None:
        if name == step:
            raise Fault(Kind.INTERNAL, f"It broke at {name}.")

    world.knobs.crash = crash
    world.order()
    assert (await world.becomes(Phase.FAILED)).cause == Cause("internal", f"It broke at {step}.")
    await world.restart()
    assert await phases(world.driver) == {}


@pytest.mark.parametrize(
    ("tag", "verb"), [("mallee:fail", "start"), ("mallee:hang", "start"), ("mallee:slow", "9")]
)
async def test_a_tag_makes_one_guest_misbehave_and_no_other(world: World, tag: str, verb: str) -> None:
    other = GuestKey("i-2", 1)
    world.order(guest=a_guest(tags={tag: verb}))
    world.order(key=other)
    await world.becomes(Phase.RUNNING, key=other)
    await world.clock.advance(5)
    assert world.facts()[KEY].phase is (Phase.FAILED if tag == "mallee:fail" else Phase.PROVISIONING)
