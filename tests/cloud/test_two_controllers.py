"""Two cloud controllers and two cluster controllers on PostgreSQL: any of them, and the server, dies under load.

Requests go to either cloud controller; no answer lies, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.acceptance.containers import until
from tests.cloud import audit
from tests.cloud.clouds import INSTANCE_TYPE
from tests.cloud.load import Load
from tests.cloud.shared_databases import CCS, CLCS, NCS, Pair
from tests.cloud.test_kills import OPEN, again
from tests.cloud.test_races import at_rest

ROUNDS = 30  # of the users, before and after each blow


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair.begin(tmp_path_factory.mktemp("pair") / "state")
    yield made
    made.end()


@pytest.fixture
async def cloud(both: Pair) -> Any:
    await until(lambda: launchable(both), "the zone is served", 30)
    yield both
    for label in (*CLCS, *CCS, *NCS):
        if not both.lives(label):
            both.start(label)
    again(both.clear)
    await at_rest(both)


def launchable(cloud: Pair) -> bool:
    try:
        made = cloud.ec2.run_instances(
            ImageId=cloud.image(), InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"Unavailable", "InsufficientInstanceCapacity"}:
            raise
        return False
    cloud.ec2.terminate_instances(InstanceIds=[made["Instances"][0]["InstanceId"]])
    return True


def load(cloud: Pair) -> Load:
    return Load([cloud.client(each) for each in CLCS], cloud.image())


async def nothing_is_lost(cloud: Pair, users: Load) -> None:
    """What was acknowledged is, what was acknowledged to end has ended, and there is nothing else."""
    assert users.lies == []
    again(lambda: cloud.wait("instance_running", sorted(users.kept)), 30)
    await at_rest(cloud)
    assert set(cloud.describe()) == users.kept
    assert not users.kept & users.ended


@pytest.mark.slow
@pytest.mark.parametrize("victim", CLCS)
async def test_a_cloud_controller_dies_under_load(cloud: Pair, victim: str) -> None:
    with load(cloud) as users:
        await users.more(ROUNDS, "before")
        cloud.kill(victim)
        await users.more(ROUNDS, "with one controller")
        cloud.start(victim)
        await users.more(ROUNDS, "with both again")
    await nothing_is_lost(cloud, users)


@pytest.mark.slow
async def test_who_stands_by_takes_the_zone_over_under_load(cloud: Pair) -> None:
    before = cloud.zone_state()
    with load(cloud) as users:
        await users.more(ROUNDS, "before")
        cloud.kill(before["holder"])
        await users.more(ROUNDS, "after the kill")
        after = cloud.zone_state()
        cloud.start(before["holder"])
        await users.more(ROUNDS, "with one that stands by")
    assert after["holder"] != before["holder"]
    assert after["epoch"] == before["epoch"] + 1
    assert cloud.zone_state() == after  # who comes back stands by
    await nothing_is_lost(cloud, users)


@pytest.mark.slow
async def test_a_controller_that_hangs_is_followed_and_stands_by_when_it_wakes(cloud: Pair) -> None:
    """It wakes in the middle of what it did; not one of its writes, and not one of its orders, counts any more."""
    before = cloud.zone_state()
    hung = before["holder"]
    with load(cloud) as users:
        await users.more(ROUNDS, "before")
        cloud.signal(hung, signal.SIGSTOP)
        await until(lambda: cloud.zone_state()["holder"] != hung, "it is followed", 20)
        await users.more(ROUNDS, "after it was followed", 90)
        cloud.signal(hung, signal.SIGCONT)
        await until(lambda: "standing by" in cloud.log(hung), "it stands by", 10)
        await users.more(ROUNDS, "with one that stands by")
        assert not audit.doubled(cloud)
    assert cloud.zone_state()["epoch"] == before["epoch"] + 1
    await nothing_is_lost(cloud, users)


@pytest.mark.slow
async def test_the_database_dies_under_load(cloud: Pair) -> None:
    before = cloud.zone_state()
    with load(cloud) as users:
        for _ in range(3):
            await users.more(ROUNDS, "before")
            cloud.server.kill()
            cloud.server.start()
        await users.more(ROUNDS, "after the last restart")
    # Nobody takes the zone over because nobody could be heard.
    assert cloud.zone_state() == before
    await nothing_is_lost(cloud, users)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
async def test_a_migration_is_gone_on_with_by_who_stands_by(cloud: Pair, stage: int) -> None:
    made = cloud.ec2.run_instances(
        ImageId=cloud.image(),
        InstanceType=INSTANCE_TYPE,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": "mallee:workload", "Value": "memory-bound" if stage == 3 else "web"}],
            }
        ],
    )
    instance = made["Instances"][0]["InstanceId"]
    cloud.wait("instance_running", [instance])
    asked = cloud.ec2.migrate_instances(InstanceIds=[instance], BandwidthLimit=4000)["Migrations"][0]

    def now() -> Any:
        find = cloud.ec2.describe_instance_migrations
        return again(lambda: find(MigrationIds=[asked["MigrationId"]]))["Migrations"][0]

    forced = False
    while (seen := now())["Stage"] < stage and seen["State"] in OPEN:
        if stage == 3 and seen["Stage"] == 2 and not forced:
            forced = True
            cloud.ec2.cancel_instance_migration(MigrationId=asked["MigrationId"], Action="force-complete")

    cloud.kill(cloud.zone_state()["holder"])

    await until(lambda: now()["State"] not in OPEN, "it has ended", 60)
    end = now()
    assert end["State"] in {"completed", "failed"}, end
    await at_rest(cloud)
    home = end["DestinationHost"] if end["State"] == "completed" else end["SourceHost"]
    assert [copy.node for copy in audit.copies(cloud)] == [home]


@pytest.mark.slow
async def test_one_token_at_both_controllers_is_one_reservation(cloud: Pair) -> None:
    image = cloud.image()

    def run(number: int) -> str:
        made = cloud.client(CLCS[number % 2]).run_instances(
            ImageId=image, InstanceType=INSTANCE_TYPE, MinCount=2, MaxCount=2, ClientToken="at-both"
        )
        return str(made["ReservationId"])

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(run, range(100)))) == 1
    assert len(cloud.describe()) == 2


@pytest.mark.slow
async def test_what_one_writes_the_other_shows_at_once(cloud: Pair) -> None:
    """Also what each keeps rendered, and what it knows of keys."""
    one, two = (cloud.client(each) for each in CLCS)
    made = one.run_instances(ImageId=cloud.image(), InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1)
    instance = made["Instances"][0]["InstanceId"]
    for number in range(20):
        here, there = (one, two) if number % 2 else (two, one)
        here.create_tags(Resources=[instance], Tags=[{"Key": "n", "Value": str(number)}])
        seen = there.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        assert seen["Tags"] == [{"Key": "n", "Value": str(number)}]
    one.create_key_pair(KeyName="new")
    assert two.describe_key_pairs(KeyNames=["new"])["KeyPairs"]
    two.delete_key_pair(KeyName="new")
    with pytest.raises(ClientError, match="InvalidKeyPair"):
        one.describe_key_pairs(KeyNames=["new"])
