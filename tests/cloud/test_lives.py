"""A cloud ends and begins again; services die and come back; nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import WaiterError

from tests.acceptance.containers import until
from tests.cloud.clouds import Starting, TestCloud


def _remembered(cloud: TestCloud) -> dict[str, Any]:
    """What must be the same after any start."""
    return {
        name: (
            instance["State"]["Name"],
            instance["PrivateIpAddress"],
            instance["Placement"]["AvailabilityZone"],
            instance["Placement"].get("HostId"),
            instance.get("KeyName"),
            sorted((tag["Key"], tag["Value"]) for tag in instance.get("Tags", [])),
        )
        for name, instance in cloud.describe().items()
    }


def _with_some_of_everything(cloud: TestCloud) -> None:
    cloud.ec2.create_key_pair(KeyName="kept")
    cloud.run(3, KeyName="kept", tags={"Name": "kept"})
    stopped = cloud.run(1)
    cloud.ec2.stop_instances(InstanceIds=stopped)
    cloud.wait("instance_stopped", stopped)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_starting_again_finds_every_instance_as_it_was(start_cloud: Starting, end: str) -> None:
    cloud = start_cloud("--instant")
    _with_some_of_everything(cloud)
    before, keys = _remembered(cloud), cloud.access.access_key_id

    getattr(cloud, end)()
    cloud.start_again()

    assert _remembered(cloud) == before
    assert len(before) == 4
    assert cloud.access.access_key_id == keys
    assert cloud.ec2.describe_key_pairs()["KeyPairs"][0]["KeyName"] == "kept"


def test_a_cloud_ends_cleanly(start_cloud: Starting) -> None:
    cloud = start_cloud("--instant", "--zones", "1", "--nodes", "1")

    assert cloud.stop() == 0
    assert cloud.folder.pids() == {}


SERVICES = ("clc", "cc-mallee-1a", "nc-mallee-1a-node-1", "sc", "walrus")


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = TestCloud.start(tmp_path_factory.mktemp("processes") / "state", "--processes", "--zones", "1")
    yield made
    assert made.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
async def test_a_killed_service_comes_back_and_its_work_goes_on(
    in_processes: TestCloud, service: str
) -> None:
    cloud = in_processes
    kept = cloud.run(2, tags={"Name": "kept"})
    before = _remembered(cloud)
    starting = [instance["InstanceId"] for instance in cloud.launch(2)]
    pid = cloud.folder.pids()[service]

    os.kill(pid, signal.SIGKILL)

    # How long it was away is a figure of benches/recovery.py.
    await until(lambda: _is_back(cloud, service, pid), f"{service} is back", 60)
    cloud.wait("instance_running", starting)
    after = _remembered(cloud)
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    cloud.clear()


@pytest.mark.slow
@pytest.mark.parametrize("service", ["clc", "cc-mallee-1a", "nc-mallee-1a-node-1", "nc-mallee-1a-node-2"])
async def test_a_migration_survives_the_death_of_any_service(in_processes: TestCloud, service: str) -> None:
    """It completes or it is taken back; the instance runs once, and where the cloud says."""
    cloud = in_processes
    (instance,) = cloud.run(1, tags={"mallee:workload": "web"})
    migration = cloud.ec2.migrate_instances(InstanceIds=[instance])["Migrations"][0]["MigrationId"]

    pid = cloud.folder.pids()[service]
    os.kill(pid, signal.SIGKILL)

    await until(lambda: _is_back(cloud, service, pid), f"{service} is back", 60)
    with suppress(WaiterError):  # taken back is as good
        cloud.ec2.get_waiter("instance_migration_completed").wait(
            MigrationIds=[migration], WaiterConfig={"Delay": 0.1, "MaxAttempts": 900}
        )
    moved = cloud.ec2.describe_instance_migrations(MigrationIds=[migration])["Migrations"][0]
    assert moved["State"] in {"completed", "failed", "cancelled"}
    cloud.wait("instance_running", [instance])
    home = moved["DestinationHost"] if moved["State"] == "completed" else moved["SourceHost"]
    hosting = [
        _name(host) for host in _hosts(cloud) if instance in {i["InstanceId"] for i in host["Instances"]}
    ]
    assert hosting == [home]
    cloud.clear()


def _hosts(cloud: TestCloud) -> list[Any]:
    return [host for page in cloud.ec2.get_paginator("describe_hosts").paginate() for host in page["Hosts"]]


def _name(host: Any) -> str:
    return str(next(tag["Value"] for tag in host["Tags"] if tag["Key"] == "Name"))


def _is_back(cloud: TestCloud, service: str, before: int) -> bool:
    return cloud.folder.pids().get(service, before) != before and _answers(cloud, service)


def _answers(cloud: TestCloud, service: str) -> bool:
    asked = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "mallee.cli.main",
            "healthz",
            service,
            "--state",
            str(cloud.folder.root),
        ],
        capture_output=True,
        check=False,
    )
    return asked.returncode == 0
