"""boto3 puts a disk into the store, registers it, boots it, makes an image of it while it runs, boots that too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mallee.cli.lab import missing, some_hosts
from tests.live import boot_sector
from tests.live.clouds import RealCloud, real_cloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BUCKET = "disks"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCloud]:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cloud")
    with (
        some_hosts(2, tmp_path_factory.mktemp("hosts"), uplink=True) as hosts,
        real_cloud(hosts, Path("/nonexistent"), folder, with_store=True) as cloud,
    ):
        cloud.until(lambda: bool(cloud.s3.create_bucket(Bucket=BUCKET)), "the store")
        yield cloud


def registered(cloud: RealCloud, name: str, content: bytes) -> str:
    cloud.s3.put_object(Bucket=BUCKET, Key=f"{name}.raw", Body=content)
    made = cloud.ec2.register_image(Name=name, ImageLocation=f"{BUCKET}/{name}.raw", Architecture="x86_64")
    image: str = made["ImageId"]
    cloud.until(lambda: image_state(cloud, image) == "available", f"image {name}")
    return image


def image_state(cloud: RealCloud, image: str) -> str:
    [found] = cloud.ec2.describe_images(ImageIds=[image])["Images"]
    return str(found["State"])


def launched(cloud: RealCloud, image: str) -> str:
    made = cloud.ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1, MaxCount=1)
    instance: str = made["Instances"][0]["InstanceId"]
    return instance


def homes(cloud: RealCloud) -> set[str]:
    """What is left of guests on the disks of the hosts."""
    roots = cloud.folder.root.glob("services/nc-*/guests/node-?")
    return {path.name for root in roots for path in root.iterdir()}


def test_a_disk_from_the_store_boots_stops_moves_into_an_image_and_goes(cloud: RealCloud) -> None:
    image = registered(cloud, "counting", boot_sector.disk())
    instance = launched(cloud, image)
    cloud.until(lambda: cloud.state(instance) == "running", "the guest runs")
    cloud.until(lambda: "boot 1" in cloud.console(instance), "the guest has booted")
    where = cloud.describe(instance)["Placement"]["HostId"]
    assert homes(cloud) == {f"{instance}.1"}

    cloud.ec2.stop_instances(InstanceIds=[instance], Force=True)
    cloud.until(lambda: cloud.state(instance) == "stopped", "the guest is off")
    cloud.ec2.start_instances(InstanceIds=[instance])
    cloud.until(lambda: cloud.state(instance) == "running", "the guest runs again")
    cloud.until(lambda: "boot 2" in cloud.console(instance), "it has found its disk")
    assert cloud.describe(instance)["Placement"]["HostId"] == where

    made = cloud.ec2.create_image(InstanceId=instance, Name="counted", NoReboot=True)["ImageId"]
    cloud.until(lambda: image_state(cloud, made) != "pending", "the image of the guest")
    assert image_state(cloud, made) == "available"
    other = launched(cloud, made)
    cloud.until(lambda: "boot 3" in cloud.console(other), "what was captured has booted")

    cloud.ec2.terminate_instances(InstanceIds=[instance, other])
    for each in (instance, other):
        cloud.until(lambda i=each: cloud.state(i) == "terminated", "the guest is gone")  # type: ignore[misc]
    cloud.until(lambda: homes(cloud) == set(), "nothing is left of them")


def test_a_guest_that_panics_is_off_and_says_so(cloud: RealCloud) -> None:
    instance = launched(cloud, registered(cloud, "panicking", boot_sector.disk(boot_sector.PANIC)))
    cloud.until(lambda: cloud.state(instance) == "stopped", "the guest is off")
    assert "panicked" in cloud.describe(instance)["StateReason"]["Message"]
    cloud.ec2.terminate_instances(InstanceIds=[instance])
    cloud.until(lambda: homes(cloud) == set(), "nothing is left of it")


def test_an_object_that_was_written_over_is_said_to_be_why(cloud: RealCloud) -> None:
    image = registered(cloud, "changing", boot_sector.disk())
    cloud.s3.put_object(Bucket=BUCKET, Key="changing.raw", Body=boot_sector.disk(size=2 << 20))
    instance = launched(cloud, image)
    cloud.until(lambda: cloud.state(instance) == "terminated", "the launch has failed")
    reason = cloud.describe(instance)["StateReason"]
    assert "is not the one that was registered" in reason["Message"], reason
    assert homes(cloud) == set()
