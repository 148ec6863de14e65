"""boto3 starts a real guest, reads its console, moves it while it runs, and ends it; nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mallee.cli.tiny import build
from mallee.kernel.errors import Fault
from tests.live.clouds import RealCloud, real_cloud
from tests.live.hosts import missing, some_hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny image."""
    folder = tmp_path_factory.mktemp("images")
    try:
        build(folder / "tiny")
    except Fault as fault:
        pytest.skip(f"the tiny image cannot be built: {fault}")
    return folder


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Iterator[RealCloud]:
    if reason := missing():
        pytest.skip(reason)
    with (
        some_hosts(2, tmp_path_factory.mktemp("hosts"), uplink=True) as hosts,
        real_cloud(hosts, images, tmp_path_factory.mktemp("cloud")) as cloud,
    ):
        yield cloud


def launched(cloud: RealCloud, **options: object) -> str:
    image = cloud.ec2.describe_images()["Images"][0]["ImageId"]
    made = cloud.ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1, MaxCount=1, **options)
    instance: str = made["Instances"][0]["InstanceId"]
    cloud.until(lambda: cloud.state(instance) == "running", "the guest runs")
    return instance


def test_a_guest_boots_moves_and_ends(cloud: RealCloud) -> None:
    instance = launched(cloud)
    cloud.until(lambda: "login:" in cloud.console(instance), "the guest has booted")
    was = cloud.describe(instance)["Placement"]["HostId"]

    asked = cloud.ec2.migrate_instances(InstanceIds=[instance])["Migrations"][0]["MigrationId"]

    def over() -> bool:
        [found] = cloud.ec2.describe_instance_migrations(MigrationIds=[asked])["Migrations"]
        return found["State"] not in {"pending", "running", "active", "in-progress"}

    cloud.until(over, "the migration has ended")
    [moved] = cloud.ec2.describe_instance_migrations(MigrationIds=[asked])["Migrations"]
    assert moved["State"] == "completed", moved
    assert moved["Rounds"][0]["BytesSent"] > 1_000_000
    assert cloud.describe(instance)["Placement"]["HostId"] != was
    assert "login:" in cloud.console(instance)

    cloud.ec2.terminate_instances(InstanceIds=[instance])
    cloud.until(lambda: cloud.state(instance) == "terminated", "the guest is gone")
