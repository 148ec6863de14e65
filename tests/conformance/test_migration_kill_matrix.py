"""Whoever dies at whatever moment of a migration, exactly one guest survives.

The moments and blows are those of libvirt's own destructive tests (tp-libvirt, `destructive_operations_around_live_migration`):
either guest, either daemon, the line between them, the lines to the controller, and whoever decides. Another hypervisor
joins by a `Field` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mallee.cc.migration.record import Migration
from mallee.domain.guest import GuestKey, Phase, Power
from mallee.domain.migration import Stage
from mallee.kernel.errors import Fault
from mallee.nc import plan
from mallee.nc.plan import Copy, Verb
from mallee.nc.words import Order
from tests.conformance.migration_field import HERE, INSTANCE, SIZE, THERE, FakeField

MAKERS: dict[str, Callable[[Path], Any]] = {"fake": FakeField}
BEFORE, AFTER = GuestKey(INSTANCE, 1), GuestKey(INSTANCE, 2)
ENDS = 60.0  # seconds, a migration whose parties all live again


@pytest.fixture(params=sorted(MAKERS))
async def field(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    made = MAKERS[request.param](tmp_path)
    await made.open()
    await made.run()
    yield made
    await made.close()


# Moments: each brings the migration there and holds it.


async def reserving(field: Any, migration: Migration) -> None:
    """The destination makes room."""
    await reached(field, migration, Stage.RESERVATION)


async def copying(field: Any, migration: Migration) -> None:
    """Pages cross; the guest runs."""
    await reached(field, migration, Stage.ITERATIVE_PRE_COPY)

    async def some() -> bool:
        return bool(migration.rounds)

    await field.until(some, 30)


async def stopping(field: Any, migration: Migration) -> None:
    """The source was told to stop the guest, which still runs."""
    await reached(field, migration, Stage.STOP_AND_COPY)


async def crossing(field: Any, migration: Migration) -> None:
    """The guest is paused, and its last pages are on their way."""
    await reached(field, migration, Stage.STOP_AND_COPY)
    field.hold(THERE, "receive")
    release(field, HERE, "stop_and_copy")

    async def paused() -> bool:
        return (await field.guests()).get((HERE, BEFORE)) is Phase.PAUSED

    assert await field.until(paused, 30)


async def waking(field: Any, migration: Migration) -> None:
    """It belongs to the destination, which has not resumed it yet."""
    await reached(field, migration, Stage.ACTIVATION)


async def forgetting(field: Any, migration: Migration) -> None:
    """It runs at the destination; the source has not forgotten it yet."""
    await reached(field, migration, Stage.ACTIVATION)

    async def runs() -> bool:
        return (await field.guests()).get((THERE, AFTER)) is Phase.RUNNING

    assert await field.until(runs, 30)


async def reached(field: Any, migration: Migration, stage: Stage) -> None:
    async def there() -> bool:
        return migration.stage is stage

    assert await field.until(there, 60), migration


def release(field: Any, node: str, verb: str) -> None:
    held = set(field._held) - {(node, verb)}
    field.let_go()
    for each in held:
        field.hold(*each)


MOMENTS: dict[Callable[..., Awaitable[None]], tuple[str, str] | None] = {
    reserving: (THERE, "prepare"),
    copying: None,
    stopping: (HERE, "stop_and_copy"),
    crossing: (HERE, "stop_and_copy"),
    waking: (THERE, "resume"),
    forgetting: (HERE, "destroy"),
}
COMMITTED = {waking, forgetting}


# Blows: each is struck at a moment, and mended by whoever would mend it.


async def source_guest(field: Any) -> None:
    await field.kill_guest(HERE)


async def destination_guest(field: Any) -> None:
    await field.kill_guest(THERE)


async def source_daemon(field: Any) -> None:
    await field.kill_daemon(HERE)
    await field.start_daemon(HERE)


async def destination_daemon(field: Any) -> None:
    await field.kill_daemon(THERE)
    await field.start_daemon(THERE)


async def both_daemons(field: Any) -> None:
    await field.kill_daemon(HERE)
    await field.kill_daemon(THERE)
    await field.start_daemon(THERE)
    await field.start_daemon(HERE)


async def the_controller(field: Any) -> None:
    await field.restart_cluster()


async def the_line_between_nodes(field: Any) -> None:
    await cut_for(field, 2, HERE, THERE)


async def the_line_to_the_source(field: Any) -> None:
    """For longer than its lease: it pauses what runs there, and nobody but the controller resumes it."""
    await cut_for(field, 3, "cc", HERE)


async def the_line_to_the_destination(field: Any) -> None:
    await cut_for(field, 3, "cc", THERE)


async def every_line(field: Any) -> None:
    await cut_for(field, 3, "cc", HERE, THERE)


async def cut_for(field: Any, leases: float, *roles: str) -> None:
    field.cut(*roles)
    field.let_go()
    await field.until(never_twice(field), leases * field.lease)
    field.mend()


BLOWS = (
    source_guest,
    destination_guest,
    source_daemon,
    destination_daemon,
    both_daemons,
    the_controller,
    the_line_between_nodes,
    the_line_to_the_source,
    the_line_to_the_destination,
    every_line,
)


def never_twice(field: Any) -> Callable[[], Awaitable[bool]]:
    """Looked at again and again, whatever else is waited for."""

    async def look() -> bool:
        running = [where for where, phase in (await field.guests()).items() if phase is Phase.RUNNING]
        assert len(running) <= 1, running
        return False

    return look


async def over(field: Any, wanted: Phase | None) -> list[tuple[str, GuestKey]]:
    """Where the guests are when all has come to rest; one at most runs at any time until then."""
    twice = never_twice(field)

    async def at_rest() -> bool:
        await twice()
        ledger = field.cc.ledger
        fact = field.cc.watch.fact(INSTANCE)
        phases = set((await field.guests()).values())
        return (
            field.cc.desk.migration_of(INSTANCE) == ""
            and not ledger.reservations.rows
            and phases <= {Phase.RUNNING, Phase.STOPPED}
            and fact is not None
            and fact.phase is (wanted or Phase.RUNNING)
        )

    ended = await field.until(at_rest, ENDS)
    there = await field.guests()
    assert ended, (there, field.cc.watch.fact(INSTANCE), field.cc.ledger.reservations.rows)
    return [where for where, phase in there.items() if phase is Phase.RUNNING]


async def books(field: Any, runs: bool) -> None:
    """Room is taken where the survivor is, and nowhere else once all nodes have said what they have."""

    def taken() -> int:
        return sum(host.capacity.vcpus - host.free.vcpus for host in field.cc.ledger.inventory)

    async def right() -> bool:
        return taken() == (SIZE.vcpus if runs else 0)

    assert await field.until(right, 3 * field.lease), taken()


@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: blow.__name__)
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
async def test_exactly_one_survives(field: Any, moment: Any, blow: Any) -> None:
    await strike(field, moment, blow)


async def strike(field: Any, moment: Any, blow: Any) -> None:
    """Bring a migration to its moment, strike, and look who is left."""
    if held := MOMENTS[moment]:
        field.hold(*held)
    migration = await field.migrate()
    await moment(field, migration)

    await blow(field)
    field.let_go()

    # A guest that was killed where it was the guest is dead; of a copy nobody misses anything.
    home_died = blow is source_guest and moment not in COMMITTED
    # One that dies between the commit point and its waking is started anew: it is wanted there, and is not there.
    away_died = blow is destination_guest and moment is forgetting
    wanted = field.dead if home_died or away_died else Phase.RUNNING
    survivors = await over(field, wanted)
    assert len(survivors) == (wanted is Phase.RUNNING), survivors
    row = field.cc.ledger.placements.rows[INSTANCE]
    if survivors:
        assert survivors == [(name_of(field, row.host), GuestKey(INSTANCE, row.generation))]
        if moment in COMMITTED:
            assert survivors[0][0] == THERE
    await books(field, wanted is Phase.RUNNING)


def name_of(field: Any, number: int) -> str:
    name: str = field.cc.ledger.nodes.rows[number].name
    return name


async def test_a_source_that_wakes_by_itself_would_be_seen(
    field: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what OpenNebula, libvirt and LXD have done, and what all of the above must be able to find."""

    def wakes(order: Order, copy: Copy | None, *, migrates: bool) -> Verb | None:
        paused = copy is not None and copy.phase is Phase.PAUSED
        return Verb.RESUME if paused and order.power is Power.RUNNING else None

    field.hold(HERE, "destroy")
    migration = await field.migrate()
    await forgetting(field, migration)
    monkeypatch.setattr(plan, "_towards_running", wakes)
    field.cut(HERE, THERE)

    async def watched() -> None:
        await field.until(never_twice(field), field.lease)
        await over(field, Phase.RUNNING)

    with pytest.raises(AssertionError):
        await watched()


@pytest.mark.parametrize("wish", ["stop", "terminate", "cancel", "migrate"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
async def test_what_users_want_meanwhile(field: Any, moment: Any, wish: str) -> None:
    """tp-libvirt's destroy, abort and second migration."""
    if held := MOMENTS[moment]:
        field.hold(*held)
    migration = await field.migrate()
    await moment(field, migration)

    wanted = Phase.RUNNING
    match wish:
        case "stop" | "terminate":
            wanted = Phase.STOPPED if wish == "stop" else Phase.TERMINATED
            await field.wish(2, Power(wanted.value))
        case "cancel":
            refused = ""
            try:
                await field.cc.desk.steer("m-1", cancel=True, force_complete=False)
            except Fault as fault:
                refused = fault.code
            assert refused == ("past-commit-point" if moment in COMMITTED else "")
        case "migrate":
            assert await field.migrate("m-2") is None
    field.let_go()

    survivors = await over(field, wanted)
    assert len(survivors) == (wanted is Phase.RUNNING)
    if wish == "cancel":
        assert survivors[0][0] == (THERE if moment in COMMITTED else HERE)
    await books(field, wanted is Phase.RUNNING)
