"""Every waiter that boto3 brings along: it ends as on EC2, or its operation says that it is not built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import WaiterError

from tests.cloud.clouds import QUICK, TestCloud

Arrange = Callable[[TestCloud], dict[str, Any]]
NOBODYS = "0123456789abcdef0"


def _running(cloud: TestCloud) -> dict[str, Any]:
    return {"InstanceIds": cloud.run(1)}


def _stopped(cloud: TestCloud) -> dict[str, Any]:
    ids = cloud.run(1)
    cloud.ec2.stop_instances(InstanceIds=ids)
    return {"InstanceIds": ids}


def _terminated(cloud: TestCloud) -> dict[str, Any]:
    ids = cloud.run(1)
    cloud.ec2.terminate_instances(InstanceIds=ids)
    return {"InstanceIds": ids}


def _migrated(cloud: TestCloud) -> dict[str, Any]:
    moved = cloud.ec2.migrate_instances(InstanceIds=cloud.run(1))["Migrations"][0]
    return {"MigrationIds": [moved["MigrationId"]]}


def _key(cloud: TestCloud) -> dict[str, Any]:
    name = "waited-for"
    cloud.ec2.delete_key_pair(KeyName=name)
    cloud.ec2.create_key_pair(KeyName=name, KeyType="ed25519")
    return {"KeyNames": [name]}


def _first(operation: str, list_name: str, member: str, parameter: str) -> Arrange:
    def arrange(cloud: TestCloud) -> dict[str, Any]:
        found = getattr(cloud.ec2, operation)()[list_name]
        return {parameter: [found[0][member]]}

    return arrange


OFFERED: Mapping[str, Arrange] = {
    "image_available": _first("describe_images", "Images", "ImageId", "ImageIds"),
    "image_exists": _first("describe_images", "Images", "ImageId", "ImageIds"),
    "instance_exists": _running,
    "instance_migration_completed": _migrated,
    "instance_running": _running,
    "instance_status_ok": _running,
    "instance_stopped": _stopped,
    "instance_terminated": _terminated,
    "key_pair_exists": _key,
    "security_group_exists": _first("describe_security_groups", "SecurityGroups", "GroupId", "GroupIds"),
    "subnet_available": _first("describe_subnets", "Subnets", "SubnetId", "SubnetIds"),
    "system_status_ok": _running,
    "vpc_available": _first("describe_vpcs", "Vpcs", "VpcId", "VpcIds"),
    "vpc_exists": _first("describe_vpcs", "Vpcs", "VpcId", "VpcIds"),
}
# Interfaces come with an instance here and go with it, so none is ever `available`.
NEVER_SATISFIED = frozenset({"network_interface_available"})
NOT_OFFERED = frozenset(
    {
        *("bundle_task_complete", "conversion_task_cancelled", "conversion_task_completed"),
        *("conversion_task_deleted", "customer_gateway_available", "export_task_cancelled"),
        *("export_task_completed", "secondary_network_create_complete"),
        *("secondary_network_delete_complete", "secondary_subnet_create_complete"),
        *("secondary_subnet_delete_complete",),
        *("image_usage_report_available", "internet_gateway_exists", "nat_gateway_available"),
        *("nat_gateway_deleted", "password_data_available"),
        *("security_group_vpc_association_associated", "security_group_vpc_association_disassociated"),
        *("snapshot_completed", "snapshot_imported", "spot_instance_request_fulfilled"),
        *("store_image_task_complete", "volume_available", "volume_deleted", "volume_in_use"),
        *("vpc_peering_connection_deleted", "vpc_peering_connection_exists"),
        *("vpn_connection_available", "vpn_connection_deleted"),
    }
)


@pytest.fixture(scope="module")
def unchecked(shared_cloud: TestCloud) -> Any:
    """A client that sends what lacks parameters: whether an operation is built is told before them."""
    session = boto3.Session(
        aws_access_key_id=shared_cloud.access.access_key_id,
        aws_secret_access_key=shared_cloud.access.secret_access_key,
        region_name=shared_cloud.access.region,
    )
    return session.client(
        "ec2", endpoint_url=shared_cloud.access.endpoint, config=Config(parameter_validation=False)
    )


def test_no_waiter_is_forgotten(cloud: TestCloud) -> None:
    assert set(cloud.ec2.waiter_names) == {*OFFERED} | NEVER_SATISFIED | NOT_OFFERED


@pytest.mark.parametrize("name", OFFERED)
def test_a_waiter_sees_its_end(cloud: TestCloud, name: str) -> None:
    cloud.ec2.get_waiter(name).wait(**OFFERED[name](cloud), WaiterConfig=QUICK)


@pytest.mark.parametrize("name", sorted(NOT_OFFERED))
def test_a_waiter_that_is_not_offered_hears_so_at_once(unchecked: Any, name: str) -> None:
    with pytest.raises(WaiterError) as ended:
        unchecked.get_waiter(name).wait(WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    assert ended.value.last_response["Error"]["Code"] == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("image_exists", {"ImageIds": [f"ami-{NOBODYS}"]}),
        ("instance_exists", {"InstanceIds": [f"i-{NOBODYS}"]}),
        ("instance_running", {"InstanceIds": [f"i-{NOBODYS}"]}),
        ("key_pair_exists", {"KeyNames": ["nobody's"]}),
        ("security_group_exists", {"GroupIds": [f"sg-{NOBODYS}"]}),
        ("vpc_exists", {"VpcIds": [f"vpc-{NOBODYS}"]}),
    ],
)
def test_what_is_not_there_yet_is_waited_for(cloud: TestCloud, name: str, parameters: dict[str, Any]) -> None:
    """The code of the refusal is the one that the waiter retries on: it ends by its patience alone."""
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        cloud.ec2.get_waiter(name).wait(**parameters, WaiterConfig={"Delay": 0, "MaxAttempts": 2})


def test_an_interface_that_is_not_there_ends_the_wait(cloud: TestCloud) -> None:
    with pytest.raises(WaiterError, match="terminal failure state"):
        cloud.ec2.get_waiter("network_interface_available").wait(
            NetworkInterfaceIds=[f"eni-{NOBODYS}"], WaiterConfig={"Delay": 0, "MaxAttempts": 2}
        )


def test_a_user_is_waited_for(cloud: TestCloud) -> None:
    iam = cloud.client("iam")
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        iam.get_waiter("user_exists").wait(UserName="late", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    iam.create_user(UserName="late")
    iam.get_waiter("user_exists").wait(UserName="late", WaiterConfig=QUICK)
    iam.delete_user(UserName="late")
