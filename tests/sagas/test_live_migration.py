"""Live migration fails at every stage, is undone twice, done twice, and dies at every write."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mallee.cc.convergence import GuestFact
from mallee.cc.db import SAGAS
from mallee.cc.migration.live import STAGES
from mallee.cc.migration.record import Asked, Migration
from mallee.domain.guest import Phase, Power, Resources
from mallee.domain.migration import Stage
from mallee.kernel.errors import Fault, Kind
from tests.sagas.unwinding import (
    Fresh,
    Scene,
    assert_steps_repeat,
    assert_survives_crash_everywhere,
    assert_unwinds_from_everywhere,
    assert_unwinds_undoing_twice,
)
from tests.unit.cc.a_zone import SMALL, ANode, AZone

AWAY = Fault(Kind.UNAVAILABLE, "The node does not answer.")
FULL, TAKEN = Resources(4, 4096), Resources(3, 3072)


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Fresh]:
    """Worlds with an instance running on h-0, and a saga about to move it."""
    zones: list[AZone] = []
    numbers = itertools.count()

    async def make() -> Scene:
        zone = await two_nodes(AZone(f"sqlite:///{tmp_path}/{next(numbers)}.db"))
        zones.append(zone)
        # The helper runs the saga itself: the zone's own engine and clockwork stand still.
        for task in zone.cc._tasks:
            task.cancel()
        await asyncio.wait(zone.cc._tasks)
        zone.cc._tasks = []
        migration = Migration(Asked("saga-1", "i-1"), source=0, generation=1, started_ms=0, state="running")
        zone.cc.desk._admit(migration)
        return Scene(zone.cc.desk.saga(), {}, zone, zone.db, SAGAS, zone.clock)

    yield make
    for zone in zones:
        await zone.stop()


async def two_nodes(zone: AZone) -> AZone:
    await zone.start()
    await zone.join("a")
    await zone.run("i-1")
    await zone.join("b")
    return zone


async def at_home(scene: Scene) -> None:
    """As if there had been no migration."""
    zone: AZone = scene.world
    home, away = zone.nodes
    assert home.guests == {("i-1", 1): Phase.RUNNING}
    assert away.guests == {}
    assert away.copies == {}
    row = zone.cc.ledger.placements.rows["i-1"]
    assert (row.host, row.generation) == (0, 1)
    assert zone.cc.ledger.reservations.rows == {}
    assert zone.free() == [TAKEN, FULL]


async def at_destination(scene: Scene) -> None:
    """As if it had always been there."""
    zone: AZone = scene.world
    home, away = zone.nodes
    row = zone.cc.ledger.placements.rows["i-1"]
    assert row.host == 1
    assert away.guests == {("i-1", row.generation): Phase.RUNNING}
    assert home.guests == {}
    assert zone.cc.ledger.reservations.rows == {}
    assert zone.free() == [FULL, TAKEN]


def test_six_stages_and_one_point_of_no_return() -> None:
    assert [step.name for step in STAGES] == [stage.title for stage in Stage]
    assert [step.name for step in STAGES if step.final] == [Stage.COMMITMENT.title]


async def test_it_unwinds_from_every_stage_before_the_commit_point(fresh: Fresh) -> None:
    assert await assert_unwinds_from_everywhere(fresh, at_home) == 4


async def test_undoing_twice_is_undoing_once(fresh: Fresh) -> None:
    assert await assert_unwinds_undoing_twice(fresh, at_home) == 4


async def test_doing_twice_is_doing_once(fresh: Fresh) -> None:
    assert await assert_steps_repeat(fresh, at_destination) == 6


async def test_it_survives_a_crash_at_every_write(fresh: Fresh) -> None:
    assert await assert_survives_crash_everywhere(fresh, at_destination, at_home) > 20


# The desk and the controller whole.


@pytest.fixture
async def zone(tmp_path: Path) -> AsyncIterator[AZone]:
    zone = await two_nodes(AZone(f"sqlite:///{tmp_path}/cc.db"))
    yield zone
    await zone.stop()


async def migrate(zone: AZone, migration_id: str = "m-1", instance_id: str = "i-1", **more) -> Migration:
    answer = await zone.cc.desk.migrate(Asked(migration_id, instance_id, **more))
    assert answer.migration is not None, answer.plan
    return answer.migration


async def ended(zone: AZone, migration: Migration, *attending: ANode) -> None:
    for _ in range(300):
        if not migration.open:
            return
        await zone.renew(*(attending or zone.nodes))
        await zone.clock.advance(1)
    raise AssertionError(f"still {migration.state} in {migration.stage.title}")


async def until(zone: AZone, stage: Stage, migration: Migration) -> None:
    await zone.until(lambda: migration.stage is stage, step=0.01)


async def test_a_migration_moves_the_instance_and_tells_the_story(zone: AZone) -> None:
    migration = await migrate(zone)
    await ended(zone, migration)
    assert migration.state == "completed"
    await at_destination(Scene(zone.cc.desk.saga(), {}, zone))
    assert [moment.name for moment in migration.stages] == [stage.title for stage in Stage]
    assert [r.number for r in migration.rounds] == [1, 2]
    assert migration.stop_reason == "fits-budget"
    assert migration.downtime_ms >= 2.5
    assert migration.bytes_sent == (1 << 20) + (1 << 15) + 4096
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert (fact.host_id, fact.generation, fact.phase, fact.migration_id) == ("h-1", 2, Phase.RUNNING, "")


async def test_it_is_followed_to_its_end_when_who_asked_has_given_up(zone: AZone) -> None:
    asking = asyncio.create_task(migrate(zone))
    await zone.clock.settle(2)  # its beginning is on its way to the disk
    migration = zone.cc.desk._open["m-1"]
    asking.cancel()
    await ended(zone, migration)
    assert migration.state == "completed"
    assert zone.cc.desk.migration_of("i-1") == ""


async def test_a_beginning_that_failed_and_was_written_all_the_same_is_taken_back(
    zone: AZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = zone.db.transact, [Fault(Kind.UNAVAILABLE, "The disk reported an error.")]

    async def transact(work):
        done = await real(work)
        if fails and "m-1" in zone.cc.desk._open:
            raise fails.pop()
        return done

    monkeypatch.setattr(zone.db, "transact", transact)
    with pytest.raises(Fault):
        await migrate(zone)
    for _ in range(10):
        await zone.renew(*zone.nodes)
        await zone.clock.advance(1)
    there = await zone.cc.desk.look_up("m-1")
    assert there is not None
    assert there.state == "failed"
    assert zone.nodes[0].guests == {("i-1", 1): Phase.RUNNING}


async def test_the_same_id_is_the_same_migration(zone: AZone) -> None:
    first = await migrate(zone)
    assert await migrate(zone) is first
    await ended(zone, first)
    again = await migrate(zone)
    assert (again.state, again.destination) == ("completed", 1)
    assert zone.cc.ledger.placements.rows["i-1"].generation == 2


async def test_there_and_back_never_uses_a_generation_twice(zone: AZone) -> None:
    zone.nodes[1].fail["verify"] = Fault(Kind.NOT_FOUND, "Nothing here.")
    failed = await migrate(zone, "m-1")
    await ended(zone, failed)
    assert failed.state == "failed"
    assert failed.cause is not None
    assert failed.cause.code == "not-confirmed"
    zone.nodes[1].fail.clear()
    there = await migrate(zone, "m-2")
    await ended(zone, there)
    back = await migrate(zone, "m-3")
    await ended(zone, back)
    assert zone.nodes[0].guests == {("i-1", 4): Phase.RUNNING}
    assert zone.nodes[1].guests == {}


@pytest.mark.parametrize("verb", ["prepare", "pre_copy", "stop_and_copy", "verify"])
async def test_a_destination_or_source_that_does_not_answer_before_the_commit_point_undoes_it(
    zone: AZone, verb: str
) -> None:
    for node in zone.nodes:
        node.fail[verb] = AWAY
    migration = await migrate(zone)
    await ended(zone, migration)
    assert migration.state == "failed"
    await at_home(Scene(zone.cc.desk.saga(), {}, zone))


@pytest.mark.parametrize("verb", ["activate", "discard"])
async def test_after_the_commit_point_it_only_goes_forward(zone: AZone, verb: str) -> None:
    for node in zone.nodes:
        node.fail[verb] = AWAY
    migration = await migrate(zone)
    await zone.pass_time(5, *zone.nodes)
    assert migration.open
    assert zone.cc.ledger.placements.rows["i-1"].host == 1
    with pytest.raises(Fault) as caught:
        await zone.cc.desk.steer("m-1", cancel=True, force_complete=False)
    assert caught.value.code == "past-commit-point"
    for node in zone.nodes:
        node.fail.clear()
    await ended(zone, migration)
    assert migration.state == "completed"
    await at_destination(Scene(zone.cc.desk.saga(), {}, zone))


async def test_a_destination_that_dies_for_good_does_not_hold_the_guest(zone: AZone) -> None:
    home, away = zone.nodes
    away.fail = {"verify": AWAY, "abandon": AWAY}
    migration = await migrate(zone)
    await zone.pass_time(5, home)
    assert migration.open
    assert home.guests == {("i-1", 1): Phase.PAUSED}  # the copy might still be there: nobody resumes yet
    away.line = None
    await ended(zone, migration, home)
    assert migration.state == "failed"
    assert home.guests == {("i-1", 1): Phase.RUNNING}
    away.fail.clear()
    await zone.dial(away)
    assert zone.free() == [TAKEN, TAKEN]  # the copy left behind takes room until it is destroyed
    await zone.obey()
    assert away.guests == {}
    assert zone.free() == [TAKEN, FULL]


async def test_a_source_that_dies_is_resumed_when_it_is_back(zone: AZone) -> None:
    home, away = zone.nodes
    home.fail = {"pre_copy": AWAY, "resume": AWAY}
    migration = await migrate(zone)
    await zone.pass_time(12, away)
    assert migration.open
    home.fail.clear()
    await zone.dial(home)
    await ended(zone, migration)
    await at_home(Scene(zone.cc.desk.saga(), {}, zone))


async def test_a_destination_that_dies_after_the_commit_point_runs_the_guest_when_it_is_back(
    zone: AZone,
) -> None:
    """Its copy is the guest, and nothing but this migration may wake it."""
    home, away = zone.nodes
    away.fail["activate"] = AWAY
    migration = await migrate(zone)
    away.line = None
    await zone.pass_time(60, home)
    assert zone.cc.nodes.is_fenced(1)
    assert migration.open
    away.fail.clear()
    await zone.dial(away)
    await ended(zone, migration)
    assert migration.state == "completed"
    await at_destination(Scene(zone.cc.desk.saga(), {}, zone))


async def test_a_copy_on_a_node_that_came_back_takes_room_until_it_is_dropped(zone: AZone) -> None:
    """Its room was given back when its node was lost; who was placed there found more than the node holds."""
    home, away = zone.nodes
    away.fail = {"verify": AWAY, "abandon": AWAY}
    home.fail["resume"] = AWAY
    migration = await migrate(zone)
    away.line = None
    await zone.pass_time(60, home)
    assert zone.free() == [TAKEN, FULL]
    await zone.dial(away)
    assert away.inventory()
    assert zone.free() == [TAKEN, TAKEN]
    away.fail.clear()
    home.fail.clear()
    await ended(zone, migration)
    await zone.cc.convergence.learn(1, [GuestFact("i-1", 2, 0, Phase.PROVISIONING, Resources(0, 0))])
    await at_home(Scene(zone.cc.desk.saga(), {}, zone))


async def test_a_source_that_dies_with_the_guest_paused_runs_it_when_it_is_back(zone: AZone) -> None:
    home, away = zone.nodes
    away.fail["verify"] = home.fail["resume"] = AWAY
    migration = await migrate(zone)
    assert await settled(zone, lambda: home.guests == {("i-1", 1): Phase.PAUSED})
    home.line = None
    away.fail.clear()
    await zone.pass_time(60, away)
    assert zone.cc.nodes.is_fenced(0)
    assert zone.free() == [TAKEN, FULL]  # the destination has its room back, however long it takes
    home.fail.clear()
    await zone.dial(home)
    await ended(zone, migration)
    assert migration.state == "failed"
    await at_home(Scene(zone.cc.desk.saga(), {}, zone))


@pytest.mark.parametrize("power", [Power.STOPPED, Power.TERMINATED])
@pytest.mark.parametrize("where", ["source", "destination"])
async def test_a_migration_does_not_outlive_its_guest_on_a_dead_node(
    zone: AZone, where: str, power: Power
) -> None:
    home, away = zone.nodes
    dead, alive = (home, away) if where == "source" else (away, home)
    dead.fail = {"activate": AWAY, "resume": AWAY}
    if where == "source":
        away.fail["verify"] = AWAY
    migration = await migrate(zone)
    await settled(zone, lambda: home.guests == {("i-1", 1): Phase.PAUSED})
    dead.line = None
    away.fail.pop("verify", None)
    await zone.pass_time(60, alive)
    assert migration.open
    await zone.wish("i-1", 2, power)
    await ended(zone, migration, alive)
    assert zone.phase("i-1") == power.value
    assert zone.free() == [FULL, FULL]


async def settled(zone: AZone, true: Callable[[], bool]) -> bool:
    """Whether it comes to be with hardly any time."""
    await zone.until(true, step=0.01)
    return true()


async def test_a_guest_does_not_wait_for_longer_than_its_node(zone: AZone) -> None:
    """When the node is back, the way back goes on at once, whatever the pause between attempts had grown to."""
    home, away = zone.nodes
    home.fail = {"stop_and_copy": AWAY, "resume": AWAY}
    migration = await migrate(zone)
    home.line = None
    await zone.pass_time(16, away)
    assert migration.open
    home.fail.clear()
    await zone.dial(home)
    for _ in range(5):
        await zone.clock.advance(0.1)
    assert migration.state == "failed"
    await at_home(Scene(zone.cc.desk.saga(), {}, zone))


async def test_cancel_before_the_commit_point_brings_it_back(zone: AZone) -> None:
    zone.nodes[0].gate["pre_copy"] = asyncio.Event()
    migration = await migrate(zone)
    await until(zone, Stage.ITERATIVE_PRE_COPY, migration)
    assert zone.cc.watch.fact("i-1").migration_id == "m-1"  # type: ignore[union-attr]
    await zone.cc.desk.steer("m-1", cancel=True, force_complete=False)
    await ended(zone, migration)
    assert migration.state == "cancelled"
    await at_home(Scene(zone.cc.desk.saga(), {}, zone))
    with pytest.raises(Fault) as caught:
        await zone.cc.desk.steer("m-1", cancel=True, force_complete=False)
    assert caught.value.code == "migration-ended"


async def test_force_complete_tells_the_source(zone: AZone) -> None:
    gate = zone.nodes[0].gate["pre_copy"] = asyncio.Event()
    migration = await migrate(zone)
    await zone.until(lambda: bool(migration.rounds), step=0.01)
    await zone.cc.desk.steer("m-1", cancel=False, force_complete=True)
    assert zone.nodes[0].finished == 1
    gate.set()
    await ended(zone, migration)
    assert migration.state == "completed"


@pytest.mark.parametrize("power", [Power.STOPPED, Power.TERMINATED])
@pytest.mark.parametrize("verb", ["prepare", "pre_copy", "stop_and_copy", "verify", "activate", "discard"])
async def test_stop_and_terminate_win_in_every_stage(zone: AZone, verb: str, power: Power) -> None:
    gate = asyncio.Event()
    for node in zone.nodes:
        node.gate[verb] = gate
    migration = await migrate(zone)
    await zone.pass_time(2, *zone.nodes)
    assert migration.open
    await zone.wish("i-1", 2, power)
    await zone.clock.settle()
    gate.set()
    await ended(zone, migration)
    await zone.obey()
    assert zone.phase("i-1") == power.value
    assert Phase.RUNNING not in {phase for node in zone.nodes for phase in node.guests.values()}
    assert zone.free() == [FULL, FULL]
    assert zone.cc.ledger.reservations.rows == {}
    assert zone.cc.desk.migration_of("i-1") == ""


@pytest.mark.parametrize("verb", ["prepare", "pre_copy", "stop_and_copy", "verify", "activate", "discard"])
async def test_a_restart_of_the_controller_in_every_stage(zone: AZone, verb: str) -> None:
    gate = asyncio.Event()
    for node in zone.nodes:
        node.gate[verb] = gate
    await migrate(zone)
    await zone.pass_time(2, *zone.nodes)
    await zone.restart()
    gate.set()
    for node in zone.nodes:
        await zone.dial(node)
    await zone.pass_time(10, *zone.nodes)
    found = await zone.cc.desk.look_up("m-1")
    assert found is not None
    assert found.state == "completed"
    await zone.obey()
    await at_destination(Scene(zone.cc.desk.saga(), {}, zone))


async def test_one_migration_of_an_instance_at_a_time(zone: AZone) -> None:
    zone.nodes[0].gate["pre_copy"] = asyncio.Event()
    await migrate(zone)
    answer = await zone.cc.desk.migrate(Asked("m-2", "i-1"))
    assert answer.migration is None
    assert answer.plan.refusals[0].cause.code == "already-migrating"


async def test_more_than_the_limit_wait_in_order(zone: AZone) -> None:
    gate = zone.nodes[0].gate["pre_copy"] = asyncio.Event()
    await zone.run("i-2", host_id="h-0")
    await zone.run("i-3", host_id="h-0")
    await zone.run("i-4", host_id="h-0")
    moves = [await migrate(zone, f"m-{n}", f"i-{n}") for n in (1, 2, 3, 4)]
    assert [move.state for move in moves] == ["running", "running", "pending", "pending"]
    await zone.cc.desk.steer("m-3", cancel=True, force_complete=False)
    assert moves[2].state == "cancelled"
    gate.set()
    for move in moves:
        await ended(zone, move)
    assert [move.state for move in moves] == ["completed", "completed", "cancelled", "completed"]
    page = await zone.cc.desk.page(
        migration_ids=(), instance_ids=(), states=("completed",), after="m-1", limit=1
    )
    assert [one.id for one in page] == ["m-2"]


async def test_every_refusal_is_typed(zone: AZone) -> None:
    small = await zone.join("c", Resources(1, 512))
    other = await zone.join("d")
    other.model = "m2"
    await zone.dial(other)
    await zone.join("e")
    await zone.cc.nodes.cordon(4, cordoned=True)
    away = await zone.join("f")
    await zone.pass_time(11, *(node for node in zone.nodes if node is not away))
    answer = await zone.cc.desk.migrate(
        Asked("", "i-1", destinations=(0, 1, 2, 3, 4, 5, 9), excluded=(1,)), plan_only=True
    )
    assert answer.migration is None
    assert {refusal.host_id: refusal.cause.code for refusal in answer.plan.refusals} == {
        "h-0": "same-host",
        "h-1": "excluded",
        "h-2": "no-capacity",
        "h-3": "cpu-model-mismatch",
        "h-4": "cordoned",
        "h-5": "lost",
        "h-9": "not-found",
    }
    anywhere = await zone.cc.desk.migrate(Asked("", "i-1"), plan_only=True)
    assert [host.host_id for host in anywhere.plan.candidates] == ["h-1"]
    assert small.guests == {}
    for asked, code in (
        (Asked("", "i-1", mode="cold"), "mode-unsupported"),
        (Asked("", "i-1", mode="storage"), "mode-unsupported"),
        (Asked("", "i-9"), "not-found"),
    ):
        refused = await zone.cc.desk.migrate(asked, plan_only=True)
        assert [refusal.cause.code for refusal in refused.plan.refusals] == [code]
    await zone.wish("i-1", 2, Power.STOPPED)
    stopped = await zone.cc.desk.migrate(Asked("", "i-1"), plan_only=True)
    assert stopped.plan.refusals[0].cause.code == "instance-not-running"


async def test_a_wish_that_came_before_its_cancel_was_heard_stops_the_move(zone: AZone) -> None:
    gate = zone.nodes[1].gate["verify"] = asyncio.Event()
    migration = await migrate(zone)
    await until(zone, Stage.COMMITMENT, migration)
    row = zone.cc.ledger.placements.rows["i-1"]
    zone.cc.ledger.placements.put("i-1", row._replace(power=Power.STOPPED, revision=2))
    with pytest.raises(Fault) as caught:
        zone.cc.desk.move(migration)
    assert caught.value.code == "cancelled"
    gate.set()
    await ended(zone, migration)
    assert migration.state == "cancelled"


async def test_the_wish_is_ordered_again_when_the_migration_has_ended(zone: AZone) -> None:
    """A node in the middle of a migration may have put the order aside."""
    gate = zone.nodes[0].gate["stop_and_copy"] = asyncio.Event()
    migration = await migrate(zone)
    await until(zone, Stage.STOP_AND_COPY, migration)
    await zone.wish("i-1", 2, Power.STOPPED)
    for node in zone.nodes:
        assert node.line is not None
        node.line.take()
    gate.set()
    await ended(zone, migration)
    await zone.obey()
    assert zone.phase("i-1") is Phase.STOPPED


async def test_what_a_migration_leaves_running_is_stopped(zone: AZone) -> None:
    """A guest that ended while it migrated was resumed by the way back, and nobody weighed that it ran."""
    gate = zone.nodes[0].gate["stop_and_copy"] = asyncio.Event()
    migration = await migrate(zone)
    await until(zone, Stage.STOP_AND_COPY, migration)
    learn = zone.cc.convergence.learn
    await learn(0, [GuestFact("i-1", 1, 1, Phase.STOPPED, SMALL)])
    await zone.wish("i-1", 2, Power.STOPPED)
    await learn(0, [GuestFact("i-1", 1, 1, Phase.RUNNING, SMALL)])
    gate.set()
    await ended(zone, migration)
    await zone.obey()
    assert zone.nodes[0].orders[-1].power is Power.STOPPED
    assert zone.nodes[0].guests == {("i-1", 1): Phase.STOPPED}
    assert zone.free() == [FULL, FULL]


async def test_the_log_of_an_ended_saga_is_forgotten_and_its_migration_is_not(zone: AZone) -> None:
    migration = await migrate(zone)
    await ended(zone, migration)
    assert (await zone.cc.engine.look_up("m-1")).state == "done"
    await zone.pass_time(3700, *zone.nodes)
    with pytest.raises(Fault):
        await zone.cc.engine.look_up("m-1")
    found = await zone.cc.desk.look_up("m-1")
    assert found is not None
    assert [r.number for r in found.rounds] == [1, 2]


async def test_a_burst_of_migrations_fills_no_node_beyond_its_room(zone: AZone) -> None:
    """Many choose at once; room is booked at the reservation, so whoever finds none ends without a trace."""
    await zone.join("c", Resources(1, 1024))
    for number in (2, 3, 4):
        await zone.run(f"i-{number}", host_id="h-0")
    moves = [await migrate(zone, f"m-{n}", f"i-{n}", destinations=(2,)) for n in (1, 2)]
    for move in moves:
        await ended(zone, move)
    assert sorted(move.state for move in moves) == ["completed", "failed"]
    failed = next(move for move in moves if move.state == "failed")
    assert failed.cause is not None
    assert failed.cause.code == "no-capacity"
    assert zone.free()[2] == Resources(0, 0)
