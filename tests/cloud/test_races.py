"""Wishes that overtake each other, and crowds that want the same thing: afterwards the books agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mallee.cli.client import session
from tests.acceptance.containers import until
from tests.cloud import audit
from tests.cloud.clouds import INSTANCE_TYPE, QUICK, Starting, TestCloud

L = 8  # instances that the small cloud has room for


def at_once(work: Callable[[int], Any], times: int) -> Counter[str]:
    """What came of it: `fine` or the error's code, counted."""

    def one(number: int) -> str:
        try:
            work(number)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "fine"

    with ThreadPoolExecutor(min(times, 50)) as pool:
        return Counter(pool.map(one, range(times)))


def patient(cloud: TestCloud) -> Any:
    """A client with as many connections as a crowd needs."""
    config = Config(max_pool_connections=50, retries={"total_max_attempts": 1}, read_timeout=60)
    return session(cloud.access).client("ec2", endpoint_url=cloud.access.endpoint, config=config)


async def at_rest(cloud: TestCloud) -> None:
    """Everything settles, and nothing is wrong then."""
    last: list[str] = []

    def well() -> bool:
        last[:] = audit.wrong(cloud)
        return not last

    try:
        await until(well, "the books agree", 60)
    except AssertionError:
        raise AssertionError("\n".join(last)) from None


@pytest.fixture(scope="module")
def slow_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    """Guests take a second to start; room for `L` of them on two nodes."""
    options = ("--zones", "1", "--nodes", "2", "--node-vcpus", str(L), "--node-memory", "262144")
    made = TestCloud.start(tmp_path_factory.mktemp("races") / "state", *options)
    yield made
    made.stop()


@pytest.fixture
async def races(slow_cloud: TestCloud) -> Any:
    yield slow_cloud
    slow_cloud.clear()
    await at_rest(slow_cloud)


def stage(cloud: TestCloud, migration: str) -> Any:
    return cloud.ec2.describe_instance_migrations(MigrationIds=[migration])["Migrations"][0]


def reach(cloud: TestCloud, migration: str, wanted: int) -> None:
    """Asked again and again without a pause: the last stages are short."""
    while (now := stage(cloud, migration))["Stage"] < wanted:
        assert now["State"] in {"pending", "running"}, now


async def over(cloud: TestCloud, migration: str) -> Any:
    await until(lambda: stage(cloud, migration)["State"] not in {"pending", "running"}, "it has ended", 60)
    return stage(cloud, migration)


async def test_terminate_while_pending(races: TestCloud) -> None:
    ids = [each["InstanceId"] for each in races.launch(4)]
    races.ec2.terminate_instances(InstanceIds=ids)
    races.wait("instance_terminated", ids)
    await at_rest(races)


async def test_stop_while_pending(races: TestCloud) -> None:
    ids = [each["InstanceId"] for each in races.launch(2)]
    races.ec2.stop_instances(InstanceIds=ids)
    races.wait("instance_stopped", ids)
    await at_rest(races)
    races.ec2.start_instances(InstanceIds=ids)
    races.wait("instance_running", ids)
    await at_rest(races)


async def test_terminate_while_stopping_and_while_starting(races: TestCloud) -> None:
    ids = races.run(4)
    races.ec2.stop_instances(InstanceIds=ids)
    races.ec2.terminate_instances(InstanceIds=ids[:2])
    races.wait("instance_stopped", ids[2:])
    races.ec2.start_instances(InstanceIds=ids[2:])
    races.ec2.terminate_instances(InstanceIds=ids[2:])
    races.wait("instance_terminated", ids)
    await at_rest(races)


@pytest.mark.parametrize("wish", ["stop", "terminate"])
@pytest.mark.parametrize("wanted", [0, 2, 3])
async def test_stop_and_terminate_win_over_a_migration(races: TestCloud, wish: str, wanted: int) -> None:
    ids = races.run(1, tags={"mallee:workload": "memory-bound"})
    moved = races.ec2.migrate_instances(InstanceIds=ids, BandwidthLimit=2000)["Migrations"][0]["MigrationId"]
    reach(races, moved, min(wanted, 2))
    if wanted == 3:
        races.ec2.cancel_instance_migration(MigrationId=moved, Action="force-complete")
        reach(races, moved, 3)

    getattr(races.ec2, f"{wish}_instances")(InstanceIds=ids)

    races.wait({"stop": "instance_stopped", "terminate": "instance_terminated"}[wish], ids)
    assert (await over(races, moved))["State"] in {"cancelled", "completed"}
    await at_rest(races)


@pytest.mark.parametrize("wanted", [0, 2])
async def test_cancel_brings_it_back(races: TestCloud, wanted: int) -> None:
    ids = races.run(1, tags={"mallee:workload": "web"})
    before = races.describe(ids)[ids[0]]["Placement"]["HostId"]
    moved = races.ec2.migrate_instances(InstanceIds=ids, BandwidthLimit=2000)["Migrations"][0]["MigrationId"]
    reach(races, moved, wanted)

    races.ec2.cancel_instance_migration(MigrationId=moved)

    assert (await over(races, moved))["State"] == "cancelled"
    await at_rest(races)
    assert races.describe(ids)[ids[0]]["Placement"]["HostId"] == before


async def test_force_complete_ends_what_would_not_end(races: TestCloud) -> None:
    ids = races.run(1, tags={"mallee:workload": "memory-bound"})
    moved = races.ec2.migrate_instances(InstanceIds=ids, BandwidthLimit=3000)["Migrations"][0]["MigrationId"]
    reach(races, moved, 2)

    races.ec2.cancel_instance_migration(MigrationId=moved, Action="force-complete")

    assert (await over(races, moved))["State"] == "completed"
    await at_rest(races)


async def test_refusals_of_a_migration_are_typed(races: TestCloud) -> None:
    ids = races.run(2)
    hosts = {audit._name(host): host for host in races.ec2.describe_hosts()["Hosts"]}
    here = races.describe(ids[:1])[ids[0]]["Placement"]["HostId"]
    there = next(host["HostId"] for host in hosts.values() if host["HostId"] != here)

    def refused(**asked: Any) -> str:
        with pytest.raises(ClientError) as caught:
            races.ec2.migrate_instances(InstanceIds=ids[:1], **asked)
        error = caught.value.response["Error"]
        return f"{error['Code']}: {error['Message']}"

    assert "InvalidHostID.NotFound" in refused(DestinationHosts=["h-nowhere-7"])
    assert "same-host" in refused(DestinationHosts=[here])
    races.ec2.modify_hosts(HostIds=[there], AutoPlacement="off")
    assert "cordoned" in refused(DestinationHosts=[there])
    races.ec2.modify_hosts(HostIds=[there], AutoPlacement="on")
    full = races.launch(L // 2 - 1, Placement={"HostId": there})
    races.wait("instance_running", [each["InstanceId"] for each in full])
    assert "no-capacity" in refused(DestinationHosts=[there])
    races.ec2.stop_instances(InstanceIds=ids[:1])
    races.wait("instance_stopped", ids[:1])
    assert "not-running" in refused(Mode="live")
    await at_rest(races)


async def test_two_migrations_of_one_instance(races: TestCloud) -> None:
    ids = races.run(1)
    outcomes = at_once(lambda _: patient(races).migrate_instances(InstanceIds=ids, BandwidthLimit=4000), 8)
    assert outcomes == {"fine": 1, "MigrationNotPossible": 7}
    (moved,) = races.ec2.describe_instance_migrations(InstanceIds=ids)["Migrations"]
    assert (await over(races, moved["MigrationId"]))["State"] == "completed"
    await at_rest(races)


async def test_one_token_two_hundred_times(races: TestCloud) -> None:
    client, image = patient(races), races.image()
    seen: set[str] = set()

    def run(_: int) -> None:
        made = client.run_instances(
            ImageId=image, InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1, ClientToken="one-of-many"
        )
        seen.add(made["ReservationId"] + made["Instances"][0]["InstanceId"])

    assert at_once(run, 200) == {"fine": 200}
    assert len(seen) == 1
    assert len(races.describe()) == 1
    races.wait("instance_running", list(races.describe()))
    await at_rest(races)


@pytest.mark.parametrize("times", [L, 3 * L])
async def test_a_crowd_gets_what_there_is(races: TestCloud, times: int) -> None:
    client, image = patient(races), races.image()

    def run(_: int) -> None:
        client.run_instances(ImageId=image, InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1)

    outcomes = at_once(run, times)

    assert outcomes["fine"] == L
    assert outcomes["InsufficientInstanceCapacity"] == times - L
    races.wait("instance_running", list(races.describe()))
    await at_rest(races)


async def test_more_are_started_than_there_is_room_for(races: TestCloud) -> None:
    first = races.run(L)
    races.ec2.stop_instances(InstanceIds=first)
    races.wait("instance_stopped", first)
    second = races.run(L // 2)

    outcomes = at_once(lambda n: patient(races).start_instances(InstanceIds=[first[n]]), L)

    assert outcomes["fine"] == L // 2
    assert outcomes["InsufficientInstanceCapacity"] == L - L // 2

    def states() -> Counter[str]:
        return Counter(each["State"]["Name"] for each in races.describe().values())

    await until(lambda: states() == {"running": L, "stopped": L // 2}, "half of them run", 60)
    assert set(second) <= {
        name for name, each in races.describe().items() if each["State"]["Name"] == "running"
    }
    await at_rest(races)


async def test_terminated_a_hundred_times(races: TestCloud) -> None:
    ids = races.run(L)
    client = patient(races)
    assert at_once(lambda _: client.terminate_instances(InstanceIds=ids), 100) == {"fine": 100}
    races.wait("instance_terminated", ids)
    await at_rest(races)


async def test_everything_at_once_to_the_same_instances(races: TestCloud) -> None:
    ids = races.run(L)
    client = patient(races)
    wishes: list[Callable[[], Any]] = [
        lambda: client.stop_instances(InstanceIds=ids),
        lambda: client.start_instances(InstanceIds=ids),
        lambda: client.reboot_instances(InstanceIds=ids),
        lambda: client.migrate_instances(InstanceIds=ids[:4]),
        client.describe_instances,
    ]

    outcomes = at_once(lambda n: wishes[n % len(wishes)](), 100)

    assert set(outcomes) <= {
        *("fine", "IncorrectInstanceState", "MigrationNotPossible", "InsufficientInstanceCapacity")
    }, outcomes
    await at_rest(races)


async def test_thirty_migrations_at_once(start_cloud: Starting) -> None:
    """All are taken, as many run as nodes allow, all end, and nothing is lost."""
    cloud = start_cloud("--zones", "1", "--nodes", "4")
    ids = cloud.run(30, tags={"mallee:workload": "idle"})
    asked = cloud.ec2.migrate_instances(InstanceIds=ids)
    moves = [each["MigrationId"] for each in asked["Migrations"]]
    assert len(moves) == 30

    def busiest() -> int:
        pages = cloud.ec2.get_paginator("describe_instance_migrations").paginate()
        running = [m for page in pages for m in page["Migrations"] if m["State"] == "running"]
        return max(Counter(m["SourceHost"] for m in running).values(), default=0)

    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, busiest())
        assert not audit.doubled(cloud)
        return all(
            m["State"] == "completed"
            for m in cloud.ec2.describe_instance_migrations(MigrationIds=moves)["Migrations"]
        )

    await until(ended, "all have moved", 100)
    assert 1 <= most <= 2
    cloud.ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=QUICK)
    await at_rest(cloud)
