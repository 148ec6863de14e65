"""kill -9 of every service at every kind of work; then the three truths are compared.

A migration is met at a stage by watching it. Whatever dies, it ends completed or taken back, and its guest
runs on exactly one node all the time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from mallee.kernel.clock import SystemClock
from tests.acceptance.containers import until
from tests.cloud import audit
from tests.cloud.clouds import TestCloud
from tests.cloud.test_races import at_rest

SERVICES = ("clc", "cc-mallee-1a", "nc-mallee-1a-node-1", "sc", "walrus")
BLOWS = (
    *(
        ("clc", 2),
        ("clc", 3),
        ("cc-mallee-1a", 0),
        ("cc-mallee-1a", 2),
        ("cc-mallee-1a", 3),
        ("cc-mallee-1a", 4),
    ),
    *(("source", 2), ("source", 3), ("destination", 0), ("destination", 3), ("destination", 4)),
)
OPEN = {"pending", "running"}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    made = TestCloud.start(tmp_path_factory.mktemp("kills") / "state", "--processes", "--zones", "1")
    yield made
    assert made.stop() == 0


@pytest.fixture
async def cloud(processes: TestCloud) -> Any:
    yield processes
    again(processes.clear)
    await at_rest(processes)


def again(work: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What a careful client does while a service is away."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while True:
        try:
            return work()
        except (BotoCoreError, ClientError) as error:
            passing = not isinstance(error, ClientError) or error.response["Error"]["Code"] == "Unavailable"
            if not passing or clock.monotonic() > end:
                raise


def kill(cloud: TestCloud, service: str) -> int:
    pid = cloud.folder.pids()[service]
    os.kill(pid, signal.SIGKILL)
    return pid


def moved(cloud: TestCloud, migration: str) -> Any:
    ask = cloud.ec2.describe_instance_migrations
    return again(lambda: ask(MigrationIds=[migration]))["Migrations"][0]


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_dies_while_instances_start_stop_and_end(cloud: TestCloud, service: str) -> None:
    running, ending, stopping = cloud.run(3)
    stopped = cloud.run(1)
    cloud.ec2.stop_instances(InstanceIds=stopped)
    cloud.wait("instance_stopped", stopped)
    cloud.ec2.stop_instances(InstanceIds=[stopping])
    cloud.ec2.start_instances(InstanceIds=stopped)
    cloud.ec2.terminate_instances(InstanceIds=[ending])
    pending = [each["InstanceId"] for each in cloud.launch(2)]

    kill(cloud, service)

    again(lambda: cloud.wait("instance_running", [running, *stopped, *pending]), 20)
    again(lambda: cloud.wait("instance_stopped", [stopping]), 20)
    again(lambda: cloud.wait("instance_terminated", [ending]), 20)
    await at_rest(cloud)
    assert len(cloud.describe()) == 5


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
async def test_what_was_answered_is_kept(cloud: TestCloud, service: str) -> None:
    """Killed at once after the answer: the same token finds the same instances."""
    image = cloud.image()
    token = f"kept-{service}"

    def run() -> set[str]:
        made = cloud.ec2.run_instances(
            ImageId=image, InstanceType="t3.micro", MinCount=3, MaxCount=3, ClientToken=token
        )
        return {each["InstanceId"] for each in made["Instances"]}

    first = run()
    kill(cloud, service)

    assert again(run) == first
    again(lambda: cloud.wait("instance_running", sorted(first)), 20)
    await at_rest(cloud)
    assert set(cloud.describe()) == first


@pytest.mark.slow
@pytest.mark.parametrize(("party", "stage"), BLOWS)
async def test_a_party_dies_in_a_stage_of_a_migration(cloud: TestCloud, party: str, stage: int) -> None:
    """Stage 3 is made long by a guest that changes its memory faster than it crosses; 4 is as short as it is,
    so the blow lands there or in 5, or just before."""
    (instance,) = cloud.run(1, tags={"mallee:workload": "memory-bound" if stage == 3 else "web"})
    asked = cloud.ec2.migrate_instances(InstanceIds=[instance], BandwidthLimit=4000)["Migrations"][0]
    migration = asked["MigrationId"]
    meet(cloud, migration, stage)
    names = {"source": asked["SourceHost"], "destination": asked["DestinationHost"]}

    kill(cloud, f"nc-{names[party]}" if party in names else party)

    twice: set[str] = set()

    def over() -> bool:
        twice.update(audit.doubled(cloud))
        return moved(cloud, migration)["State"] not in OPEN

    await until(over, "the migration has ended", 60)
    await at_rest(cloud)
    assert not twice
    end = moved(cloud, migration)
    assert end["State"] in {"completed", "failed"}, end
    home = end["DestinationHost"] if end["State"] == "completed" else end["SourceHost"]
    assert [copy.node for copy in audit.copies(cloud)] == [home]


def meet(cloud: TestCloud, migration: str, stage: int) -> None:
    """Return when the migration is in the stage; beyond 2 it is pushed there."""
    forced = False
    while (now := moved(cloud, migration))["Stage"] < stage and now["State"] in OPEN:
        if stage >= 3 and now["Stage"] == 2 and not forced:
            forced = True
            cloud.ec2.cancel_instance_migration(MigrationId=migration, Action="force-complete")
