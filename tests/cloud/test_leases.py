"""Nodes and controllers that stop without ending: leases lapse, guests pause, and nothing runs twice.

SIGSTOP is a machine that hangs, or a line that is cut: the process comes back and knows nothing of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mallee.kernel.clock import SystemClock
from tests.acceptance.containers import until
from tests.cloud import audit
from tests.cloud.clouds import INSTANCE_TYPE, TestCloud
from tests.cloud.test_kills import OPEN, meet, moved
from tests.cloud.test_races import at_rest

LEASE = 1.5  # seconds; twice that and a node is fenced


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLEE_CC_LEASE_SECONDS", str(LEASE))
        patch.setenv("MALLEE_CC_RENEW_SECONDS", "0.4")
        patch.setenv("MALLEE_NC_LEASE_SECONDS", str(LEASE))
        made = TestCloud.start(tmp_path_factory.mktemp("leases") / "state", "--processes", "--zones", "1")
    yield made
    assert made.stop() == 0


@pytest.fixture
async def cloud(hasty: TestCloud) -> Any:
    yield hasty
    hasty.clear()
    await at_rest(hasty)


@contextmanager
def asleep(cloud: TestCloud, *services: str) -> Iterator[None]:
    pids = [cloud.folder.pids()[service] for service in services]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def status(cloud: TestCloud, instance: str) -> str:
    answer = cloud.ec2.describe_instance_status(InstanceIds=[instance], IncludeAllInstances=True)
    return str(answer["InstanceStatuses"][0]["SystemStatus"]["Status"])


def host_of(cloud: TestCloud, instance: str) -> tuple[str, Any]:
    hosts = audit.read(cloud).hosts
    here = cloud.describe([instance])[instance]["Placement"]["HostId"]
    return next((name, host) for name, host in hosts.items() if host["HostId"] == here)


def fenced(cloud: TestCloud, node: str) -> bool:
    tags = audit.read(cloud).hosts[node]["Tags"]
    return {"Key": "mallee:state", "Value": "fenced"} in tags


def no_twins_for(cloud: TestCloud, seconds: float) -> None:
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        assert not audit.doubled(cloud)


@pytest.mark.slow
async def test_a_node_that_hangs_is_shown_and_gets_nothing_and_is_adopted(cloud: TestCloud) -> None:
    instance, _ = cloud.run(2)
    node, host = host_of(cloud, instance)
    with asleep(cloud, f"nc-{node}"):
        await until(lambda: status(cloud, instance) == "impaired", "it shows", 45)
        with pytest.raises(ClientError, match="Insufficient"):
            cloud.ec2.run_instances(
                ImageId=cloud.image(),
                InstanceType=INSTANCE_TYPE,
                MinCount=1,
                MaxCount=1,
                Placement={"HostId": host["HostId"]},
            )
        await until(lambda: fenced(cloud, node), "it is fenced", 45)
    await until(lambda: status(cloud, instance) == "ok", "it is back", 45)
    await at_rest(cloud)


@pytest.mark.slow
async def test_what_ended_while_its_node_hung_does_not_come_back(cloud: TestCloud) -> None:
    """Fenced, its instance is stopped at once and started elsewhere; the old copy may not wake beside it."""
    (instance,) = cloud.run(1)
    node, _ = host_of(cloud, instance)
    with asleep(cloud, f"nc-{node}"):
        await until(lambda: fenced(cloud, node), "it is fenced", 45)
        cloud.ec2.stop_instances(InstanceIds=[instance], Force=True)
        cloud.wait("instance_stopped", [instance])
        cloud.ec2.start_instances(InstanceIds=[instance])
        cloud.wait("instance_running", [instance])
        assert host_of(cloud, instance)[0] != node
    await at_rest(cloud)


@pytest.mark.slow
async def test_a_controller_that_hangs_pauses_its_zone_and_wakes_it(cloud: TestCloud) -> None:
    cloud.run(3)
    with asleep(cloud, "cc-mallee-1a"):
        await until(lambda: {copy.phase for copy in audit.copies(cloud)} == {"paused"}, "all pause", 45)
        assert len(cloud.describe()) == 3
    await at_rest(cloud)
    assert {copy.phase for copy in audit.copies(cloud)} == {"running"}


@pytest.mark.slow
@pytest.mark.parametrize("parties", ["source", "destination", "source and destination"])
@pytest.mark.parametrize("stage", [2, 3])
async def test_parties_of_a_migration_hang(cloud: TestCloud, parties: str, stage: int) -> None:
    """For longer than it takes to be fenced. Whoever wakes first: one guest, awake."""
    (instance,) = cloud.run(1, tags={"mallee:workload": "memory-bound" if stage == 3 else "web"})
    asked = cloud.ec2.migrate_instances(InstanceIds=[instance], BandwidthLimit=3000)["Migrations"][0]
    meet(cloud, asked["MigrationId"], stage)
    names = {"source": asked["SourceHost"], "destination": asked["DestinationHost"]}
    with asleep(cloud, *(f"nc-{names[party]}" for party in parties.split(" and "))):
        no_twins_for(cloud, 3 * LEASE)
    await until(lambda: moved(cloud, asked["MigrationId"])["State"] not in OPEN, "it ends", 60)
    await at_rest(cloud)


@pytest.mark.slow
async def test_a_zone_whose_controller_hangs_is_unknown_and_refuses_within_seconds(cloud: TestCloud) -> None:
    (instance,) = cloud.run(1)
    clock = SystemClock()
    with asleep(cloud, "cc-mallee-1a"):
        began = clock.monotonic()
        with pytest.raises(ClientError, match="Unavailable"):
            cloud.ec2.run_instances(ImageId=cloud.image(), InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1)
        assert clock.monotonic() - began < 15  # boto3 asks several times; only the first one waits
        assert status(cloud, instance) == "insufficient-data"
    await until(lambda: status(cloud, instance) == "ok", "it is back", 45)
    assert set(cloud.describe()) == {instance}
