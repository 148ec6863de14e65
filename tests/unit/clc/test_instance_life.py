"""The life of an instance: wishes, facts, and races between them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.clc.db import interfaces
from mallee.clc.facts import absorb
from mallee.clc.instance import NEXT, State
from mallee.kernel.db import Database
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_cloud import PretendCloud

CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"reachable": False},
    {"host_id": "h-elsewhere"},
    {"host_id": ""},
    {"generation": 7},
    {"reboots": 5},
    {"migration_id": "mig-1"},
)


@pytest.fixture
async def pretend(db: Database, tmp_path: Path) -> PretendCloud:
    """On each of the databases."""
    return await PretendCloud.make(db, tmp_path)


async def test_an_instance_runs_stops_starts_and_ends(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    assert (await pretend.row(one)).state == State.PENDING
    await pretend.settle()
    assert (await pretend.row(one)).state == State.RUNNING

    await pretend.ask("StopInstances", InstanceIds=[one])
    assert (await pretend.row(one)).state == State.STOPPING
    await pretend.settle()
    assert (await pretend.row(one)).state == State.STOPPED

    before = (await pretend.row(one)).generation
    await pretend.ask("StartInstances", InstanceIds=[one])
    await pretend.settle()
    row = await pretend.row(one)
    assert row.state == State.RUNNING
    assert row.generation > before

    await pretend.ask("TerminateInstances", InstanceIds=[one])
    await pretend.settle()
    row = await pretend.row(one)
    assert row.state == State.TERMINATED
    assert row.private_address == ""
    assert row.cause_code == "Client.UserInitiatedShutdown"


async def test_an_ended_instance_gives_its_address_back(pretend: PretendCloud) -> None:
    ids = await pretend.run(3)
    account = pretend.cloud.admin_account
    await pretend.ask("TerminateInstances", InstanceIds=ids)
    assert len(await pretend.cloud.db.read(lambda tx: interfaces.of_instances(tx, account, ids))) == 3
    await pretend.settle()
    assert await pretend.cloud.db.read(lambda tx: interfaces.of_instances(tx, account, ids)) == []


async def test_terminate_wins_over_a_launch_in_progress(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    launch = pretend.fact(await pretend.row(one))
    await pretend.ask("TerminateInstances", InstanceIds=[one])
    await pretend.facts.take([launch])  # it runs: old news
    assert (await pretend.row(one)).state == State.SHUTTING_DOWN
    await pretend.settle()
    assert (await pretend.row(one)).state == State.TERMINATED


async def test_stop_wins_over_a_start_in_progress(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    await pretend.ask("StartInstances", InstanceIds=[one])
    start = pretend.fact(await pretend.row(one))
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.facts.take([start])
    assert (await pretend.row(one)).state == State.STOPPING


async def test_a_terminated_instance_never_comes_back(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    running = pretend.fact(await pretend.row(one))
    await pretend.ask("TerminateInstances", InstanceIds=[one])
    await pretend.settle()
    await pretend.facts.take([running])
    assert (await pretend.row(one)).state == State.TERMINATED
    for operation in ("StartInstances", "StopInstances", "RebootInstances"):
        with pytest.raises(AwsError) as refused:
            await pretend.ask(operation, InstanceIds=[one])
        assert refused.value.code == "IncorrectInstanceState"
    answer = await pretend.ask("TerminateInstances", InstanceIds=[one, one])
    assert len(answer["TerminatingInstances"]) == 1


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ("no-capacity", "Server.InsufficientInstanceCapacity"),
        ("image-broken", "Server.InternalError"),
        ("Client.InvalidSnapshot.NotFound", "Client.InvalidSnapshot.NotFound"),
    ],
)
async def test_a_launch_that_fails_ends_with_its_cause(pretend: PretendCloud, cause: str, code: str) -> None:
    (one,) = await pretend.run()
    row = await pretend.row(one)
    renewed = await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_FAILED, cause=cause)])
    row = await pretend.row(one)
    assert (row.state, row.cause_code, row.private_address) == (State.TERMINATED, code, "")
    assert list(renewed) == [one]  # the cluster must clear what is left of it
    await pretend.settle()
    assert not (await pretend.row(one)).unsettled


async def test_a_start_that_fails_leaves_the_instance_stopped(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    await pretend.ask("StartInstances", InstanceIds=[one])
    row = await pretend.row(one)
    await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_FAILED, cause="no-capacity")])
    row = await pretend.row(one)
    assert (row.state, row.cause_code) == (State.STOPPED, "Server.InsufficientInstanceCapacity")
    assert row.private_address


@pytest.mark.parametrize(("behavior", "ends"), [("stop", State.STOPPED), ("terminate", State.TERMINATED)])
async def test_a_guest_that_ends_itself(pretend: PretendCloud, behavior: str, ends: State) -> None:
    (one,) = await pretend.run(InstanceInitiatedShutdownBehavior=behavior)
    await pretend.settle()
    row = await pretend.row(one)
    await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_STOPPED)])
    assert (await pretend.row(one)).cause_code == "Client.InstanceInitiatedShutdown"
    await pretend.settle()
    assert (await pretend.row(one)).state == ends


@pytest.mark.parametrize("behavior", ["stop", "terminate"])
async def test_a_guest_that_broke_is_off_and_the_reason_is_the_truth(
    pretend: PretendCloud, behavior: str
) -> None:
    (one,) = await pretend.run(InstanceInitiatedShutdownBehavior=behavior)
    await pretend.settle()
    row = await pretend.row(one)
    await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_STOPPED, cause="guest-panicked")])
    await pretend.settle()
    row = await pretend.row(one)
    assert (row.state, row.cause_code) == (State.STOPPED, "Server.InternalError")


async def test_the_old_phase_of_a_start_is_not_an_end(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    row = await pretend.row(one)
    await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_STOPPED)])
    assert (await pretend.row(one)).state == State.PENDING


async def test_reboots_are_counted_until_they_are_done(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    await pretend.settle()
    await pretend.ask("RebootInstances", InstanceIds=[one])
    await pretend.ask("RebootInstances", InstanceIds=[one])
    row = await pretend.row(one)
    assert (row.state, row.reboots, row.unsettled) == (State.RUNNING, 2, True)
    await pretend.facts.take([pretend.fact(row, reboots=1)])
    assert (await pretend.row(one)).unsettled
    await pretend.settle()
    assert not (await pretend.row(one)).unsettled


async def test_every_order_of_facts_follows_the_graph(pretend: PretendCloud) -> None:
    """Whatever a cluster says in whatever state, no instance takes a way that does not exist."""
    (one,) = await pretend.run()
    await pretend.settle()
    phases = [value for value in common_pb2.Phase.values() if value]
    for wish in ("StopInstances", "StartInstances", "TerminateInstances"):
        await pretend.ask(wish, InstanceIds=[one])
        for phase in (*phases, *reversed(phases)):
            before = await pretend.row(one)
            await pretend.facts.take([pretend.fact(before, phase)])
            after = await pretend.row(one)
            allowed = NEXT[State(before.state)] | {State(before.state)}
            assert State(after.state) in allowed
        await pretend.settle()


async def test_of_a_whole_picture_only_what_changes_a_row_is_news(pretend: PretendCloud) -> None:
    """Whatever is left out would have changed nothing, and what confirms a settled row is left out."""
    (one,) = await pretend.run()
    await pretend.settle()
    row = await pretend.row(one)
    assert await pretend.facts.news([pretend.fact(row)]) == []
    assert len(await pretend.facts.news([pb.InstanceFact(instance_id="i-unknown")])) == 1
    for wish in ("", "RebootInstances", "StopInstances", "StartInstances", "TerminateInstances"):
        if wish:
            await pretend.ask(wish, InstanceIds=[one])
        for settled in (False, True):
            row = await pretend.row(one)
            facts = [
                pretend.fact(row, phase, revision=row.revision + later, **changed)
                for phase in common_pb2.Phase.values()
                for later in (-1, 0, 1)
                for changed in CHANGES
            ]
            said = await pretend.facts.news(facts)
            assert [
                absorb(row, fact, 0) for fact in facts if fact not in said and absorb(row, fact, 0) != row
            ] == []
            if not settled:
                await pretend.settle()
        assert await pretend.facts.news([pretend.fact(await pretend.row(one))]) == []


async def test_news_of_an_older_placement_moves_nothing(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    await pretend.settle()
    row = await pretend.row(one)
    await pretend.facts.take([pretend.fact(row, host_id="h-elsewhere", generation=row.generation - 1)])
    assert (await pretend.row(one)).host_id == row.host_id
    await pretend.facts.take([pretend.fact(row, host_id="h-new", generation=row.generation + 1)])
    assert (await pretend.row(one)).host_id == "h-new"


async def test_a_cluster_that_knows_a_later_wish_is_overtaken(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    await pretend.settle()
    row = await pretend.row(one)
    renewed = await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_TERMINATED, revision=9)])
    assert list(renewed) == [one]
    assert (await pretend.row(one)).revision == 10
    assert (await pretend.row(one)).state == State.RUNNING


async def test_what_a_snapshot_does_not_name_is_wished_again(pretend: PretendCloud) -> None:
    (one,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    await pretend.facts.compare("mallee-1a", {one})
    assert not (await pretend.row(one)).unsettled
    await pretend.facts.compare("mallee-1a", set())
    assert (await pretend.row(one)).unsettled


async def test_protection_keeps_the_zone_and_lets_the_others_go(pretend: PretendCloud) -> None:
    (kept,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"}, DisableApiTermination=True)
    (beside,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    (elsewhere,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1b"})
    with pytest.raises(AwsError) as refused:
        await pretend.ask("TerminateInstances", InstanceIds=[beside, kept, elsewhere])
    assert refused.value.code == "OperationNotPermitted"
    states = [row.state for row in await pretend.rows(kept, beside, elsewhere)]
    assert states == [State.PENDING, State.PENDING, State.SHUTTING_DOWN]


async def test_stop_protection(pretend: PretendCloud) -> None:
    (one,) = await pretend.run(DisableApiStop=True)
    with pytest.raises(AwsError) as refused:
        await pretend.ask("StopInstances", InstanceIds=[one])
    assert refused.value.code == "OperationNotPermitted"


async def test_a_start_without_room_claims_nothing(pretend: PretendCloud) -> None:
    ids = await pretend.run(2, Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=ids)
    await pretend.settle()
    cluster = pretend.clusters["mallee-1a"]
    cluster.room = 1
    with pytest.raises(AwsError) as refused:
        await pretend.ask("StartInstances", InstanceIds=ids)
    assert refused.value.code == "InsufficientInstanceCapacity"
    assert cluster.claims == {}
    assert {row.state for row in await pretend.rows(*ids)} == {State.STOPPED}


async def test_two_starts_at_once_share_the_claim(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    await asyncio.gather(*(pretend.ask("StartInstances", InstanceIds=[one]) for _ in range(5)))
    row = await pretend.row(one)
    assert row.state == State.PENDING
    assert row.revision == 3
