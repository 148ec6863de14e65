"""Images with an unmodified client: uploaded, registered, launched, shared, copied, made from instances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud.clouds import INSTANCE_TYPE, TestCloud
from tests.cloud.conftest import empty, refused

PATIENT = {"Delay": 0.1, "MaxAttempts": 1200}  # an instance is stopped and started on the way
DISK = b"\xeb\x3c" + bytes(510) + b"somebody's disk".ljust(512, b"\0")


@pytest.fixture(autouse=True)
def tidy(s3: Any, shared_cloud: TestCloud) -> Iterator[None]:
    """The bucket that the cloud made for images goes again: others count buckets."""
    yield
    empty(s3, f"mallee-images-{shared_cloud.access.account_id}")


def registered(cloud: TestCloud, name: str, bucket: str, client: Any = None) -> str:
    made: str = (client or cloud.ec2).register_image(Name=name, ImageLocation=f"{bucket}/disk.raw")["ImageId"]
    return made


def available(cloud: TestCloud, image: str) -> dict[str, Any]:
    cloud.ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig=PATIENT)
    (shown,) = cloud.ec2.describe_images(ImageIds=[image])["Images"]
    return dict(shown)


def launched(cloud: TestCloud, image: str, client: Any = None) -> str:
    ec2 = client or cloud.ec2
    answer = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType=INSTANCE_TYPE)
    instance: str = answer["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig=PATIENT)
    return instance


def bytes_of(cloud: TestCloud, location: str) -> bytes:
    bucket, _, key = location.partition("/")
    data: bytes = cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return data


def test_an_upload_becomes_an_image_its_copy_and_an_image_of_its_instance(
    cloud: TestCloud, s3: Any, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="disk.raw", Body=DISK)
    image = registered(cloud, "uploaded", bucket)
    instance = launched(cloud, image)

    copy = cloud.ec2.copy_image(SourceImageId=image, SourceRegion=cloud.access.region, Name="copy")["ImageId"]
    shown = available(cloud, copy)
    assert shown["ImageLocation"].startswith(f"mallee-images-{cloud.access.account_id}/")
    assert bytes_of(cloud, shown["ImageLocation"]) == DISK
    assert launched(cloud, copy)

    made = cloud.ec2.create_image(InstanceId=instance, Name="captured")["ImageId"]
    shown = available(cloud, made)
    assert shown["SourceInstanceId"] == instance
    assert len(bytes_of(cloud, shown["ImageLocation"])) % 512 == 0
    assert launched(cloud, made)
    cloud.ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig=PATIENT)

    for each in (image, copy, made):
        cloud.ec2.deregister_image(ImageId=each)
    assert bytes_of(cloud, shown["ImageLocation"]), "files are the account's, and stay"


def test_nobody_makes_an_image_of_what_he_may_not_read(cloud: TestCloud, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="disk.raw", Body=DISK)
    stranger = cloud.client("ec2", cloud.account("stranger-of-images"))
    account = stranger.describe_security_groups()["SecurityGroups"][0]["OwnerId"]
    with refused("InvalidManifest"):
        registered(cloud, "stolen", bucket, stranger)
    image = registered(cloud, "shared", bucket)
    with refused("InvalidAMIID.NotFound"):
        launched(cloud, image, stranger)
    cloud.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": account}]})
    (seen,) = stranger.describe_images(ExecutableUsers=["self"])["Images"]
    assert seen["ImageId"] == image
    stranger.terminate_instances(InstanceIds=[launched(cloud, image, stranger)])
    cloud.ec2.deregister_image(ImageId=image)


def test_the_clouds_own_buckets_are_made_by_nobody_else(cloud: TestCloud, s3: Any) -> None:
    with refused("AccessDenied"):
        s3.create_bucket(Bucket="mallee-images-123456789012")


def test_a_hostile_image_never_becomes_one(cloud: TestCloud, s3: Any, bucket: str) -> None:
    s3.put_object(
        Bucket=bucket, Key="disk.raw", Body=b'# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow"'.ljust(512)
    )
    with refused("InvalidManifest"):
        registered(cloud, "hostile", bucket)
    with refused("InvalidManifest"):
        cloud.ec2.register_image(Name="none", ImageLocation=f"{bucket}/nothing")
