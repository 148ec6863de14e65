"""The cloud's auditor: silent on whatever is well, and one planted fault for each of its rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from mallee.aws.errors import UnauthorizedOperation
from mallee.clc.audit.audited import take
from mallee.clc.audit.books import Held, ZoneReport
from mallee.clc.audit.metrics import AuditMetrics
from mallee.clc.db.addresses import free_addresses
from mallee.clc.db.instances import InstanceRow, instances
from mallee.clc.db.interfaces import network_interfaces
from mallee.clc.db.network import subnets
from mallee.clc.instance import State
from mallee.domain.audit import LATE, Finding, Invariant
from mallee.domain.guest import Phase, Power
from mallee.kernel.db import Database
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_cloud import PretendCloud

PHASES = {State.RUNNING: Phase.RUNNING, State.STOPPED: Phase.STOPPED}


async def zones_agree(pretend: PretendCloud, *ids: str) -> None:
    """Every zone holds just what the cloud has."""
    for row in await pretend.rows(*ids):
        report = pretend.clusters[row.zone].report
        if row.state == State.TERMINATED:
            report.held.pop(row.id, None)
            continue
        host = row.host_id if row.power == Power.RUNNING else ""
        phase = PHASES.get(State(row.state), Phase.PROVISIONING)
        report.held[row.id] = Held(row.id, row.revision, row.generation, host, phase, True, row.migration_id)


async def running(pretend: PretendCloud, count: int = 1) -> list[str]:
    ids = await pretend.run(count)
    await pretend.settle()
    await zones_agree(pretend, *ids)
    return ids


async def certain(pretend: PretendCloud, *, looks: int = 2, apart: float = 5.0) -> list[Finding]:
    """What so many looks make certain; pauses between pages take no time here."""
    auditor = pretend.cloud.auditor
    for number in range(looks):
        if number:
            await pretend.clock.advance(apart)
        looking = asyncio.ensure_future(auditor.look())
        while not looking.done():
            await pretend.clock.advance(0.01)
        await looking
    return auditor.violations


def told(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.invariant.value, each.subject) for each in found]


async def change(pretend: PretendCloud, instance_id: str, **values: Any) -> None:
    """Spoil a row."""
    await execute(pretend, sa.update(instances).where(instances.c.id == instance_id).values(**values))


async def execute(pretend: PretendCloud, *statements: sa.Executable) -> None:
    for statement in statements:
        await pretend.cloud.db.transact(lambda tx: tx.execute(statement).rowcount)  # type: ignore[attr-defined] # noqa: B023


async def test_a_whole_life_gives_it_nothing_to_say(pretend: PretendCloud) -> None:
    one, two, three = await running(pretend, 3)
    assert await certain(pretend) == []
    await pretend.ask("StopInstances", InstanceIds=[one])
    assert await certain(pretend) == []
    await pretend.settle()
    await pretend.ask("TerminateInstances", InstanceIds=[two])
    await pretend.settle()
    await zones_agree(pretend, one, two, three)
    assert await certain(pretend) == []
    await pretend.ask("StartInstances", InstanceIds=[one])
    await pretend.settle()
    await zones_agree(pretend, one)
    assert await certain(pretend) == []


async def test_more_instances_than_one_page(db: Database, tmp_path: Path) -> None:
    """On every database: what is behind what is the database's own matter."""
    pretend = await PretendCloud.make(db, tmp_path)
    ids = sorted(await running(pretend, 600))
    assert await certain(pretend) == []
    await change(pretend, ids[-1], private_address="172.31.0.1")
    assert told(await certain(pretend, looks=1)) == [("I9", ids[-1])]


async def test_i1_another_zone_has_it_too(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    zone = (await pretend.row(one)).zone
    other = next(each for name, each in pretend.clusters.items() if name != zone)
    other.report.held[one] = pretend.clusters[zone].report.held[one]
    assert told(await certain(pretend)) == [("I1", one)]


def elsewhere(held: Held) -> Held:
    return held._replace(host_id="h-other-1")


def of_another_generation(held: Held) -> Held:
    return held._replace(generation=held.generation + 1)


def not_running(held: Held) -> Held:
    return held._replace(phase=Phase.STOPPED)


def unreachable(held: Held) -> Held:
    return held._replace(reachable=False)


@pytest.mark.parametrize("plant", [elsewhere, of_another_generation, not_running, unreachable])
async def test_i2_a_zone_has_something_else(pretend: PretendCloud, plant: Callable[[Held], Held]) -> None:
    (one,) = await running(pretend)
    held = pretend.clusters[(await pretend.row(one)).zone].report.held
    held[one] = plant(held[one])
    assert await certain(pretend, looks=1) == []  # a fact may be on its way
    assert told(await certain(pretend)) == [("I2", one)]
    await zones_agree(pretend, one)
    assert await certain(pretend, looks=1) == []


async def test_i2_a_guest_that_comes_back_has_a_minute(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    held = pretend.clusters[(await pretend.row(one)).zone].report.held
    held[one] = held[one]._replace(phase=Phase.PROVISIONING)
    assert await certain(pretend, looks=4, apart=15.0) == []
    assert told(await certain(pretend, looks=2, apart=15.0)) == [("I2", one)]


async def test_i2_a_zone_does_not_know_it(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    pretend.clusters[(await pretend.row(one)).zone].report.held.clear()
    assert told(await certain(pretend)) == [("I2", one)]


async def test_i3_a_zone_keeps_what_has_ended(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    held = pretend.clusters[(await pretend.row(one)).zone].report.held
    before = held[one]
    await pretend.ask("TerminateInstances", InstanceIds=[one])
    await pretend.settle()
    held[one] = before
    assert told(await certain(pretend)) == [("I3", one)]


async def test_i3_a_zone_keeps_what_nobody_knows(pretend: PretendCloud) -> None:
    pretend.clusters["mallee-1a"].report.held["i-stranger"] = Held(
        "i-stranger", 1, 1, "h-mallee-1a-0", Phase.RUNNING, True, ""
    )
    assert told(await certain(pretend)) == [("I3", "i-stranger")]


async def test_i4_a_terminated_instance_came_back(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    await pretend.ask("TerminateInstances", InstanceIds=[one])
    await pretend.settle()
    await zones_agree(pretend, one)
    row = await pretend.row(one)
    assert await certain(pretend) == []
    await change(pretend, one, state=int(State.RUNNING))
    assert ("I4", one) in told(await certain(pretend, looks=1))
    await change(pretend, one, state=row.state, revision=row.revision - 1)
    assert told(await certain(pretend, looks=1)) == [("I4", one)]


async def test_i6_a_stopped_instance_holds_room(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    held = pretend.clusters[(await pretend.row(one)).zone].report.held
    before = held[one]
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    row = await pretend.row(one)
    held[one] = before._replace(revision=row.revision)
    assert told(await certain(pretend)) == [("I6", one)]


async def test_i9_addresses(pretend: PretendCloud) -> None:
    one, two = await running(pretend, 2)
    row: InstanceRow = await pretend.row(one)
    nic = network_interfaces.c
    await execute(pretend, sa.delete(network_interfaces).where(nic.instance_id == one))
    found = await certain(pretend, looks=1)
    assert told(found) == [("I9", one), ("I9", row.subnet_id)]
    await execute(
        pretend, sa.update(network_interfaces).values(instance_id="i-gone").where(nic.instance_id == two)
    )
    found = await certain(pretend, looks=1)
    assert {each.what for each in found} >= {
        "An interface serves nobody.",
        "An instance does not have its address.",
    }


async def test_i9_free_ranges(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    row = await pretend.row(one)
    free = free_addresses.c
    here = free.subnet_id == row.subnet_id
    await execute(
        pretend, sa.update(subnets).values(free=subnets.c.free + 1).where(subnets.c.id == row.subnet_id)
    )
    assert told(await certain(pretend, looks=1)) == [("I9", row.subnet_id)]
    await execute(
        pretend,
        sa.update(subnets).values(free=subnets.c.free - 1).where(subnets.c.id == row.subnet_id),
        sa.update(free_addresses).values(low=free.low - 1).where(here),
    )
    found = await certain(pretend, looks=1)
    assert "An address is held and free." in {each.what for each in found}
    await execute(
        pretend,
        sa.update(free_addresses).values(low=free.low + 1).where(here),
        sa.insert(free_addresses).from_select(
            ["subnet_id", "low", "high"], sa.select(free.subnet_id, free.low + 9, free.high).where(here)
        ),
    )
    found = await certain(pretend, looks=1)
    assert "An address is free twice." in {each.what for each in found}


async def test_i10_a_migration_that_its_zone_does_not_know(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    await change(pretend, one, migration_id="im-1")
    assert told(await certain(pretend)) == [("I10", one)]


async def test_i22_what_is_late_is_said_once(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    with structlog.testing.capture_logs() as said:
        assert await certain(pretend, looks=1) == []
        await pretend.clock.advance(LATE + 1)
        assert told(await certain(pretend)) == [("I22", one)]
    assert [(each["alarm"], each["subject"]) for each in said] == [("audit", one)]


async def test_i22_a_reboot_is_not_late_because_its_instance_is_old(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    await pretend.clock.advance(3600)
    await pretend.ask("RebootInstances", InstanceIds=[one])
    assert await certain(pretend) == []
    assert told(await certain(pretend, looks=6, apart=15.0)) == [("I22", one)]


async def test_i22_forgotten_and_told_otherwise(pretend: PretendCloud) -> None:
    one, two = await running(pretend, 2)
    await change(pretend, one, state=int(State.STOPPING))
    assert told(await certain(pretend, looks=1)) == [("I22", one)]
    await change(pretend, one, state=int(State.RUNNING))
    await change(pretend, two, revision=7)
    assert told(await certain(pretend)) == [("I22", two)]


async def test_a_zone_that_is_away_proves_nothing(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    zone = pretend.clusters[(await pretend.row(one)).zone]
    zone.report.held.clear()
    zone.failure = Fault(Kind.UNAVAILABLE, "It is away.")
    assert await certain(pretend) == []
    assert pretend.cloud.auditor.away == [zone.zone]


async def test_the_answer_waits_until_doubts_are_cleared_up(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    held = pretend.clusters[(await pretend.row(one)).zone].report.held
    held[one] = elsewhere(held[one])
    asking = asyncio.ensure_future(pretend.ask("DescribeAudit"))
    await pretend.clock.advance(4)
    assert not asking.done()
    await pretend.clock.advance(2)
    answer = await asking
    assert [(each["Invariant"], each["ResourceId"]) for each in answer["Violations"]] == [("I2", one)]
    assert answer["InstanceCount"] == 1
    with pytest.raises(UnauthorizedOperation):
        await pretend.ask("DescribeAudit", account=await pretend.account())


async def test_a_zone_that_is_wrong_as_a_whole_is_told_in_short(pretend: PretendCloud) -> None:
    held = pretend.clusters["mallee-1a"].report.held
    for number in range(1100):
        name = f"i-{number}"
        held[name] = Held(name, 1, 1, "h-mallee-1a-0", Phase.RUNNING, True, "")
    with structlog.testing.capture_logs() as said:
        assert len(await certain(pretend)) == 1100
    assert len(said) == 101
    asking = asyncio.ensure_future(pretend.ask("DescribeAudit"))
    while not asking.done():
        await pretend.clock.advance(1)
    answer = await asking
    assert (len(answer["Violations"]), answer["ViolationCount"]) == (1000, 1100)


async def test_every_rule_is_a_metric(pretend: PretendCloud) -> None:
    (one,) = await running(pretend)
    registry = CollectorRegistry()
    registry.register(AuditMetrics(pretend.cloud.auditor))
    await certain(pretend)
    text = generate_latest(registry).decode()
    assert text.count("mallee_audit_violations{") == len(Invariant)
    assert 'mallee_audit_violations{invariant="I1",rule="runs once"} 0.0' in text
    await change(pretend, one, state=int(State.STOPPING))
    await certain(pretend, looks=1)
    assert (
        'mallee_audit_violations{invariant="I22",rule="work is finished"} 1.0'
        in generate_latest(registry).decode()
    )


def test_what_a_zone_says_of_itself_is_passed_on() -> None:
    report = ZoneReport("z")
    part = pb.AuditResponse(
        instances=[pb.AuditedInstance(instance_id="i-1", host_id="h-3", phase=common_pb2.PHASE_RUNNING)]
    )
    assert not take(report, part)
    wrong = pb.Violation(invariant="I1", subject="i-1", what="a", why="b", fix="c")
    unknown = pb.Violation(invariant="I99", subject="i-2")
    assert take(report, pb.AuditResponse(violations=[wrong, unknown], end=True, doubt_seconds=3))
    assert report.held["i-1"].host_id == "h-z-3"
    assert told(report.violations) == [("I1", "i-1"), ("I22", "i-2")]
    assert report.doubt_seconds == 3
