"""What may change while a guest runs reaches it, whatever comes between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.domain.guest import GuestKey, MetadataOptions, Phase, Power
from mallee.kernel.errors import Fault, Kind
from mallee.nc.words import guest_of
from tests.unit.nc.pretend import a_guest, as_message, until
from tests.unit.nc.test_guests import KEY, World

REQUIRED = MetadataOptions(tokens_required=True, tags={"Name": "web"})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(f"sqlite:///{tmp_path}/nc.db")
    await made.open()
    made.guests.take_orders([], whole=True)
    made.order()
    await made.becomes(Phase.RUNNING)
    yield made
    await made.close()


async def described(world: World, description: int) -> None:
    await until(world.clock, lambda: world.facts()[KEY].description == description)


async def options(world: World) -> MetadataOptions:
    (found,) = await world.driver.inventory()
    return found.guest.metadata


def test_a_description_survives_being_a_message() -> None:
    guest = a_guest(metadata=REQUIRED, description=4, launch_index=2)
    assert guest_of(as_message(guest)) == guest


async def test_a_later_description_is_put_in_force_and_told(world: World) -> None:
    world.order(revision=2, guest=a_guest(metadata=REQUIRED, description=2))
    await described(world, 2)
    assert await options(world) == REQUIRED
    assert world.facts()[KEY].revision == 2


async def test_what_cannot_change_does_not(world: World) -> None:
    other = a_guest(memory_mib=64, private_address="10.0.0.9", metadata=REQUIRED, description=2)
    world.order(revision=2, guest=other)
    await described(world, 2)
    (found,) = await world.driver.inventory()
    assert found.guest == a_guest(metadata=REQUIRED, description=2)


async def test_an_earlier_or_equal_description_changes_nothing(world: World) -> None:
    world.order(revision=2, guest=a_guest(metadata=REQUIRED, description=2))
    await described(world, 2)
    world.order(revision=3, guest=a_guest(description=1))
    await world.clock.advance(5)
    assert await options(world) == REQUIRED


async def test_a_description_that_comes_during_the_start_is_not_lost(world: World) -> None:
    key = GuestKey("i-2", 1)
    world.order(key=key)
    await world.becomes(Phase.PROVISIONING, key=key)
    world.order(key=key, revision=2, guest=a_guest("i-2", metadata=REQUIRED, description=2))
    await until(world.clock, lambda: world.facts()[key].description == 2)


async def test_a_driver_that_fails_is_asked_again(world: World) -> None:
    failures = [Fault(Kind.UNAVAILABLE, "The daemon is away.")] * 2
    before = world.driver.describe

    async def sometimes(*words: object) -> None:
        if failures:
            raise failures.pop()
        await before(*words)  # type: ignore[arg-type]

    world.driver.describe = sometimes  # type: ignore[method-assign]
    world.order(revision=2, guest=a_guest(metadata=REQUIRED, description=2))
    await described(world, 2)
    assert await options(world) == REQUIRED


async def test_a_restart_finds_the_description(world: World) -> None:
    world.order(revision=2, guest=a_guest(metadata=REQUIRED, description=2))
    await described(world, 2)
    await world.restart()
    assert await options(world) == REQUIRED
    (fact,) = world.guests.facts()
    assert fact.description == 2


async def test_a_guest_that_a_migration_holds_hears_of_it_afterwards(world: World) -> None:
    world.guests.hold(KEY, "mig-1")
    world.order(revision=2, guest=a_guest(metadata=REQUIRED, description=2))
    await world.clock.advance(5)
    assert await options(world) == MetadataOptions()
    world.guests.let_go(KEY)
    await described(world, 2)


async def test_a_stopped_guest_is_started_as_it_is_described_then(world: World) -> None:
    world.order(Power.STOPPED, revision=2)
    await world.becomes(Phase.STOPPED)
    world.order(revision=3, guest=a_guest(metadata=REQUIRED, description=3))
    await world.becomes(Phase.RUNNING, revision=3)
    assert await options(world) == REQUIRED
