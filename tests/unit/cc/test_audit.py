"""The zone's auditor: silent on whatever is well, and one planted fault for each of its rules."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog

from mallee.cc.audit.auditor import LOOK_SECONDS
from mallee.cc.audit.books import Books, read
from mallee.cc.audit.checks import check
from mallee.cc.convergence import GuestFact
from mallee.cc.db.reservations import Reservation
from mallee.cc.migration.record import Asked, Migration
from mallee.domain.audit import PROVEN, Finding
from mallee.domain.guest import GuestKey, Phase, Power, Resources
from mallee.domain.migration import Stage
from mallee.kernel.rpc import Identity
from mallee.rpc import cluster_pb2
from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub
from tests.unit.cc.a_zone import SMALL, ANode, AZone


def books(zone: AZone, **sagas: str) -> Books:
    return read(zone.cc.ledger, zone.cc.nodes, zone.cc.desk, sagas)


def found(zone: AZone, **sagas: str) -> list[tuple[str, str]]:
    """Rule and subject of all that a single look finds, but for what is only slow."""
    return sorted((str(one.invariant), one.subject) for one in check(books(zone, **sagas)))


async def says(zone: AZone, node: ANode, instance_id: str, generation: int, phase: Phase) -> None:
    """The node reports this copy, whoever put it there."""
    assert node.line is not None
    fact = GuestFact(instance_id, generation, 0, phase, SMALL)
    await zone.cc.convergence.learn(node.line.number, [fact])


def moving(zone: AZone, instance_id: str, source: int, destination: int) -> Migration:
    migration = Migration(
        Asked("m-1", instance_id), source, 1, 0, destination, 2, "running", Stage.STOP_AND_COPY
    )
    zone.cc.desk.of_instances[instance_id] = migration
    return migration


async def test_a_whole_life_gives_it_nothing_to_say(zone: AZone) -> None:
    nodes = [await zone.join(f"n{number}") for number in range(3)]
    for number in range(6):
        await zone.run(f"i-{number}")
        assert found(zone) == []
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    await zone.wish("i-1", 3)
    await zone.obey()
    await zone.wish("i-2", 2, Power.TERMINATED)
    await zone.obey()
    assert found(zone) == []
    await zone.pass_time(30, *nodes[1:])
    await zone.wish("i-0", 2, Power.TERMINATED)
    await zone.dial(nodes[0])
    await zone.obey()
    assert found(zone) == []
    await zone.restart()
    for node in nodes:
        await zone.dial(node)
    await zone.obey()
    assert found(zone) == []


async def test_i1_a_copy_that_was_superseded_runs(zone: AZone) -> None:
    node = await zone.join("n1")
    other = await zone.join("n2")
    await zone.run("i-1")
    elsewhere = other if node.guests else node
    zone.cc.ledger.placements.put("i-1", zone.cc.ledger.placements.rows["i-1"]._replace(issued=5))
    await says(zone, elsewhere, "i-1", 2, Phase.RUNNING)
    assert found(zone) == [("I1", "i-1")]


async def test_i1_a_stranger_runs(zone: AZone) -> None:
    node = await zone.join("n1")
    await says(zone, node, "i-stranger", 1, Phase.RUNNING)
    assert found(zone) == [("I1", "i-stranger")]


async def test_i1_both_copies_of_a_migration_run(zone: AZone) -> None:
    first, second = await zone.join("n1"), await zone.join("n2")
    await zone.run("i-1")
    source, destination = (first, second) if first.guests else (second, first)
    assert source.line
    assert destination.line
    moving(zone, "i-1", source.line.number, destination.line.number)
    zone.cc.ledger.sightings.note(destination.line.number, "i-1", 2, Phase.RUNNING, SMALL)
    assert ("I1", "i-1") in found(zone, **{"m-1": "running"})
    zone.cc.ledger.sightings.note(source.line.number, "i-1", 1, Phase.PAUSED, SMALL)
    assert ("I1", "i-1") not in found(zone, **{"m-1": "running"})


async def test_what_a_silent_node_did_last_is_no_proof(zone: AZone) -> None:
    node = await zone.join("n1")
    await says(zone, node, "i-stranger", 1, Phase.RUNNING)
    assert node.line
    zone.cc.nodes.leave(node.line)
    assert found(zone) == []


async def test_i2_a_running_instance_is_not_on_its_node(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    await zone.cc.ledger.note_phases()
    zone.cc.ledger.sightings.begin(0)
    assert found(zone) == [("I2", "i-1")]


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.STOPPED])
async def test_i3_something_is_left_of_an_ended_instance(zone: AZone, phase: Phase) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.TERMINATED)
    await zone.obey()
    await says(zone, node, "i-1", 1, phase)
    assert found(zone) == [("I3", "i-1")]


async def test_what_was_stopped_before_it_was_made_leaves_nothing(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.TERMINATED)
    await zone.obey()
    assert node.line
    nothing = GuestFact("i-1", 1, 0, Phase.STOPPED, Resources(0, 0))
    await zone.cc.convergence.learn(node.line.number, [nothing])
    assert found(zone) == []


def grow(zone: AZone) -> None:
    zone.cc.ledger.inventory.hosts[0].free_vcpus += 1


def forget_taker(zone: AZone) -> None:
    zone.cc.ledger.inventory.release("i-1")


def take_for_nobody(zone: AZone) -> None:
    zone.cc.ledger.inventory.take("i-nobody", zone.cc.ledger.inventory.hosts[0], SMALL)


def promise_too_much(zone: AZone) -> None:
    row = zone.cc.ledger.placements.rows["i-1"]
    zone.cc.ledger.placements.put("i-1", row._replace(vcpus=5))


def end_without_release(zone: AZone) -> None:
    row = zone.cc.ledger.placements.rows["i-1"]
    zone.cc.ledger.placements.put("i-1", row._replace(phase=Phase.TERMINATED))


@pytest.mark.parametrize(
    "plant", [grow, forget_taker, take_for_nobody, promise_too_much, end_without_release]
)
async def test_i6_room_that_is_wrong_is_proven_at_once(zone: AZone, plant: Callable[[AZone], None]) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    plant(zone)
    wrong = list(check(books(zone)))
    assert {one.invariant for one in wrong} == {"I6"}
    assert all(one.after == PROVEN for one in wrong)


async def test_i6_a_reservation_outlives_its_migration(zone: AZone) -> None:
    await zone.join("n1")
    zone.cc.ledger.reservations.put("incoming:m-9", Reservation("incoming:m-9", 0, 1, 1024))
    assert found(zone) == [("I6", "incoming:m-9")]


async def test_i6_a_ghost_outlives_its_copy_and_a_copy_its_ghost(zone: AZone) -> None:
    node = await zone.join("n1")
    await says(zone, node, "i-stranger", 1, Phase.PAUSED)
    assert found(zone) == [("I3", "i-stranger")]
    zone.cc.ledger.inventory.release("ghost:0:i-stranger:1")
    assert found(zone) == [("I3", "i-stranger"), ("I6", "i-stranger")]
    await says(zone, node, "i-stranger", 1, Phase.PAUSED)
    zone.cc.ledger.sightings.begin(0)
    assert found(zone) == [("I6", "i-stranger")]


async def test_i6_a_claim_does_not_lapse(zone: AZone) -> None:
    await zone.join("n1")
    await zone.place("i-1")
    (claim,) = check(books(zone))
    assert (claim.invariant, claim.after) == ("I6", 120.0)


async def test_i10_sagas_and_migrations_belong_together(zone: AZone) -> None:
    assert found(zone, **{"m-1": "stuck"}) == [("I10", "m-1")]
    assert found(zone, **{"m-1": "running"}) == [("I10", "m-1")]
    await zone.join("n1")
    await zone.join("n2")
    await zone.run("i-1")
    row = zone.cc.ledger.placements.rows["i-1"]
    moving(zone, "i-1", row.host, 1 - row.host)
    slow = [("I10", "m-1")]  # each open migration must get on, which only time can tell
    assert found(zone, **{"m-1": "running"}) == slow
    assert found(zone) == slow * 2


async def test_a_doubt_becomes_certain_with_time_and_is_told_once(zone: AZone) -> None:
    node = await zone.join("n1")
    await says(zone, node, "i-stranger", 1, Phase.RUNNING)
    with structlog.testing.capture_logs() as said:
        for _ in range(4):
            await zone.pass_time(LOOK_SECONDS, node)
    told = [(each["invariant"], each["subject"]) for each in said if each.get("alarm") == "audit"]
    assert told == [("I1", "i-stranger")]
    assert [one.subject for one in zone.cc.auditor.doubts.violations] == ["i-stranger"]
    await says(zone, node, "i-stranger", 1, Phase.TERMINATED)
    await zone.pass_time(2 * LOOK_SECONDS, node)
    assert zone.cc.auditor.doubts.violations == []


async def test_what_somebody_knows_better_replaces_what_nodes_say(zone: AZone) -> None:
    """As a simulation does that sees into the nodes."""
    await zone.join("n1")
    await zone.run("i-1")
    truth = {0: {GuestKey("i-1", 1): Phase.RUNNING, GuestKey("i-1", 2): Phase.RUNNING}}
    wrong: list[Finding] = list(check(replace(books(zone), copies=truth)))
    assert {one.invariant for one in wrong} == {"I1", "I6"}


async def test_the_cloud_hears_what_the_zone_holds_and_what_is_wrong(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.run("i-2")
    await zone.wish("i-2", 2, Power.TERMINATED)
    await zone.obey()
    await says(zone, node, "i-stranger", 1, Phase.RUNNING)
    await zone.pass_time(2 * LOOK_SECONDS, node)
    channel = zone.transport.connect(Identity("cloud", "clc", "clc"), "cc:1", expect="cc")
    asked = asyncio.ensure_future(heard(ClusterServiceStub(channel)))
    await zone.until(asked.done, 0.01)
    parts = await asked
    await channel.close()
    assert [each.instance_id for part in parts for each in part.instances] == ["i-1"]
    assert [(each.invariant, each.subject) for each in parts[-1].violations] == [("I1", "i-stranger")]
    assert parts[-1].end
    assert parts[-1].doubt_seconds == 0


async def heard(stub: Any) -> list[cluster_pb2.AuditResponse]:
    return [part async for part in stub.Audit(cluster_pb2.AuditRequest())]
