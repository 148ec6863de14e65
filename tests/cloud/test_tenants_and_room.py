"""Accounts do not see each other, and capacity is exact however many ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.cloud.clouds import INSTANCE_TYPE, Starting, TestCloud


def test_another_accounts_resource_does_not_exist(cloud: TestCloud) -> None:
    (mine,) = cloud.run(1)
    cloud.ec2.create_key_pair(KeyName="mine")
    other = cloud.client("ec2", cloud.account("others"))

    assert other.describe_instances()["Reservations"] == []
    assert other.describe_key_pairs()["KeyPairs"] == []
    for action in (other.describe_instances, other.terminate_instances, other.stop_instances):
        with pytest.raises(ClientError) as refused:
            action(InstanceIds=[mine])
        assert refused.value.response["Error"]["Code"] == "InvalidInstanceID.NotFound"
    cloud.ec2.delete_key_pair(KeyName="mine")


def test_each_account_is_who_it_is(cloud: TestCloud) -> None:
    other = cloud.account("somebody")

    first = cloud.client("sts").get_caller_identity()
    second = cloud.client("sts", other).get_caller_identity()

    assert first["Account"] == cloud.access.account_id
    assert second["Account"] == other.account_id != first["Account"]


def test_parallel_requests_get_exactly_what_there_is(start_cloud: Starting) -> None:
    cloud = start_cloud(
        "--instant", "--zones", "1", "--nodes", "3", "--node-vcpus", "4", "--node-memory", "8192"
    )
    room, asked = 6, 16  # two vCPUs each
    image = cloud.image()

    def run(_: int) -> str:
        try:
            cloud.ec2.run_instances(ImageId=image, InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "made"

    with ThreadPoolExecutor(asked) as pool:
        outcomes = list(pool.map(run, range(asked)))

    assert outcomes.count("made") == room
    assert outcomes.count("InsufficientInstanceCapacity") == asked - room
    cloud.clear()
    assert len(cloud.run(room)) == room, "what was refused or ended holds nothing"


def test_all_or_nothing_below_the_minimum(start_cloud: Starting) -> None:
    cloud = start_cloud(
        "--instant", "--zones", "1", "--nodes", "1", "--node-vcpus", "8", "--node-memory", "8192"
    )

    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        cloud.launch(5)

    assert cloud.describe() == {}
    assert len(cloud.run(4)) == 4
