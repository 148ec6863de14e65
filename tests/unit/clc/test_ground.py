"""What a launch stands on is remembered from the launch before, and never believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.clc.db import images, instances, key_pairs, network, security_groups, settings
from mallee.clc.db.key_pairs import KeyPair
from mallee.kernel.db import Tx
from mallee.rpc import cluster_pb2 as pb
from tests.unit.clc.pretend_cloud import IMAGE, PretendCloud, PretendCluster

Change = Callable[[Tx], Any]


async def _change(pretend: PretendCloud, work: Change) -> None:
    await pretend.cloud.db.transact(work)


def _key(account: str, public: str) -> KeyPair:
    return KeyPair(account, "mine", f"key-{public}", "ed25519", "aa", f"ssh-ed25519 {public} mine", 0)


def _claims(pretend: PretendCloud) -> int:
    return sum(len(cluster.claims) for cluster in pretend.clusters.values())


async def test_what_is_gone_since_the_last_launch_is_missed_by_the_next(pretend: PretendCloud) -> None:
    account = pretend.cloud.admin_account
    await pretend.run(1)
    await _change(pretend, lambda tx: images.remove(tx, account, IMAGE))
    with pytest.raises(AwsError) as refused:
        await pretend.run(1)
    assert refused.value.code == "InvalidAMIID.NotFound"
    assert _claims(pretend) == 1


async def test_what_has_changed_since_the_last_launch_is_taken_as_it_is_now(pretend: PretendCloud) -> None:
    account = pretend.cloud.admin_account
    await _change(pretend, lambda tx: key_pairs.add(tx, _key(account, "AAAA")))
    await pretend.run(1, KeyName="mine")
    await _change(pretend, lambda tx: key_pairs.remove(tx, account, "mine"))
    await _change(pretend, lambda tx: key_pairs.add(tx, _key(account, "BBBB")))
    (launched,) = await pretend.run(1, KeyName="mine")
    row = await pretend.row(launched)
    assert instances.decode(row.details).public_key == "ssh-ed25519 BBBB mine"
    assert _claims(pretend) == 2


@pytest.mark.parametrize("before", [0, 1])
async def test_what_goes_while_a_launch_claims_is_missed_and_the_claim_given_back(
    pretend: PretendCloud, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    account = pretend.cloud.admin_account
    if before:
        await pretend.run(before)
    place = PretendCluster.place

    async def place_and_lose(cluster: PretendCluster, ask: pb.Ask) -> pb.Outcome:
        await _change(pretend, lambda tx: images.remove(tx, account, IMAGE))
        return await place(cluster, ask)

    monkeypatch.setattr(PretendCluster, "place", place_and_lose)
    with pytest.raises(AwsError) as refused:
        await pretend.run(1)
    assert refused.value.code == "InvalidAMIID.NotFound"
    assert _claims(pretend) == before


async def test_what_moves_while_a_launch_claims_begins_it_anew(
    pretend: PretendCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = pretend.cloud.admin_account
    await _change(pretend, lambda tx: key_pairs.add(tx, _key(account, "AAAA")))
    place = PretendCluster.place
    moved: list[str] = []

    async def place_and_move(cluster: PretendCluster, ask: pb.Ask) -> pb.Outcome:
        if not moved:
            moved.append(ask.group_id)
            await _change(pretend, lambda tx: key_pairs.remove(tx, account, "mine"))
            await _change(pretend, lambda tx: key_pairs.add(tx, _key(account, "BBBB")))
        return await place(cluster, ask)

    monkeypatch.setattr(PretendCluster, "place", place_and_move)
    (launched,) = await pretend.run(1, KeyName="mine")
    row = await pretend.row(launched)
    assert instances.decode(row.details).public_key == "ssh-ed25519 BBBB mine"
    assert row.reservation_id not in moved
    assert _claims(pretend) == 1


async def test_a_lost_default_group_is_missed(pretend: PretendCloud) -> None:
    account = pretend.cloud.admin_account
    (first,) = await pretend.run(1)
    row = await pretend.row(first)

    def lose(tx: Tx) -> None:
        group = security_groups.default(tx, account, row.vpc_id)
        security_groups.remove(tx, account, group.id)

    await _change(pretend, lose)
    with pytest.raises(AwsError) as refused:
        await pretend.run(1)
    assert refused.value.code == "InvalidGroup.NotFound"
    assert _claims(pretend) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda tx, account: images.save(tx, images.get(tx, account, IMAGE)),
        lambda tx, account: images.remove(tx, account, IMAGE),
        lambda tx, _: images.forbid(tx, IMAGE, ["123456789012"]),
        lambda tx, _: images.forbid_all(tx, IMAGE),
        images.drop_account,
        lambda tx, account: key_pairs.remove(tx, account, "mine"),
        key_pairs.drop_account,
        lambda tx, account: network.add_default_subnet(
            tx, network.vpcs_of(tx, account)[0], "az9", "subnet-9", 0
        ),
        network.drop_account,
        lambda tx, account: security_groups.remove(tx, account, "sg-1"),
        security_groups.drop_account,
    ],
)
async def test_whatever_takes_from_the_ground_moves_it(
    pretend: PretendCloud, change: Callable[[Tx, str], Any]
) -> None:
    def moved(tx: Tx) -> bool:
        before = settings.count(tx, settings.GROUND)
        change(tx, pretend.cloud.admin_account)
        return settings.count(tx, settings.GROUND) > before

    assert await pretend.cloud.db.transact(moved)
