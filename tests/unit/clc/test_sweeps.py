"""What passes by itself."""

from __future__ import annotations

from mallee.clc.db import tags
from mallee.clc.reconcile.sweeps import Sweeps
from tests.unit.clc.pretend_cloud import PretendCloud, ids_in


def sweeps_of(pretend: PretendCloud) -> Sweeps:
    return Sweeps(pretend.cloud.db, pretend.clock, visible_seconds=3600)


async def test_ended_instances_are_seen_for_an_hour(pretend: PretendCloud) -> None:
    account = pretend.cloud.admin_account
    specified = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]
    ended, living = await pretend.run(2, TagSpecifications=specified)
    await pretend.ask("TerminateInstances", InstanceIds=[ended])
    await pretend.settle()
    await pretend.clock.advance(3599)
    await sweeps_of(pretend).forget_ended()
    assert set(ids_in(await pretend.text("DescribeInstances"))) == {ended, living}
    await pretend.clock.advance(2)
    await sweeps_of(pretend).forget_ended()
    assert ids_in(await pretend.text("DescribeInstances")) == [living]
    assert set(await pretend.cloud.db.read(lambda tx: tags.of(tx, account, [ended, living]))) == {living}


async def test_an_end_that_its_cluster_does_not_know_of_is_kept(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    row = await pretend.row(one)
    from mallee.rpc import common_pb2

    await pretend.facts.take([pretend.fact(row, common_pb2.PHASE_FAILED, cause="x")])
    await pretend.clock.advance(7200)
    await sweeps_of(pretend).forget_ended()
    assert ids_in(await pretend.text("DescribeInstances")) == [one]


async def test_a_token_is_remembered_for_a_day(pretend: PretendCloud) -> None:
    (one,) = ids_in(await launch(pretend))
    await pretend.clock.advance(23 * 3600)
    await sweeps_of(pretend).forget_tokens()
    assert ids_in(await launch(pretend)) == [one]
    await pretend.clock.advance(2 * 3600)
    await sweeps_of(pretend).forget_tokens()
    assert ids_in(await launch(pretend)) != [one]


async def launch(pretend: PretendCloud) -> str:
    return await pretend.text(
        "RunInstances",
        token="t",
        MinCount=1,
        MaxCount=1,
        ImageId="ami-00000000000000001",
        InstanceType="t3.micro",
    )
