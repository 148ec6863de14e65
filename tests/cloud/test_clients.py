"""What clients bring along works as it comes: waiters, paginators, aws-cli."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from mallee.cli import profile
from mallee.cli.client import extras
from tests.cloud.clouds import INSTANCE_TYPE, QUICK, TestCloud

REFUSED = 255  # the exit code of aws-cli 1 when the service says no; version 2 says 254


def aws(cloud: TestCloud, *words: str, code: int = 0) -> Any:
    """One command of aws-cli; its output as JSON."""
    models = Path(cloud.environment()["HOME"]) / ".aws/models"
    if not models.exists():
        shutil.copytree(extras(), models)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("aws")), *words, "--output", "json"],
        env=cloud.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else done.stderr


def test_a_life_by_aws_cli(cloud: TestCloud) -> None:
    made = aws(cloud, "ec2", "run-instances", "--image-id", cloud.image(), "--instance-type", INSTANCE_TYPE)
    instance = made["Instances"][0]["InstanceId"]
    aws(cloud, "ec2", "wait", "instance-running", "--instance-ids", instance)

    moved = aws(cloud, "ec2", "migrate-instances", "--instance-ids", instance)["Migrations"][0]
    aws(cloud, "ec2", "wait", "instance-migration-completed", "--migration-ids", moved["MigrationId"])
    seen = aws(cloud, "ec2", "describe-instance-migrations", "--migration-ids", moved["MigrationId"])
    assert seen["Migrations"][0]["State"] == "completed"

    aws(cloud, "ec2", "terminate-instances", "--instance-ids", instance)
    aws(cloud, "ec2", "wait", "instance-terminated", "--instance-ids", instance)


def test_aws_cli_tells_an_error_as_ec2_says_it(cloud: TestCloud) -> None:
    said = aws(cloud, "ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0", code=REFUSED)

    assert "InvalidInstanceID.NotFound" in said


def test_every_waiter_of_an_instances_life(cloud: TestCloud) -> None:
    (instance,) = cloud.run(1)
    for waiter in ("instance_exists", "instance_running", "instance_status_ok", "system_status_ok"):
        cloud.wait(waiter, [instance])
    cloud.ec2.stop_instances(InstanceIds=[instance])
    cloud.wait("instance_stopped", [instance])
    with pytest.raises(WaiterError):
        cloud.ec2.get_waiter("instance_terminated").wait(
            InstanceIds=[instance], WaiterConfig={"Delay": 0.01, "MaxAttempts": 2}
        )
    cloud.ec2.terminate_instances(InstanceIds=[instance])
    cloud.wait("instance_terminated", [instance])


def test_a_key_pair_and_a_group_are_waited_for(cloud: TestCloud) -> None:
    cloud.ec2.create_key_pair(KeyName="waited")
    cloud.ec2.get_waiter("key_pair_exists").wait(KeyNames=["waited"], WaiterConfig=QUICK)
    cloud.ec2.delete_key_pair(KeyName="waited")
    group = cloud.ec2.create_security_group(GroupName="waited", Description="waited")["GroupId"]
    cloud.ec2.get_waiter("security_group_exists").wait(GroupIds=[group], WaiterConfig=QUICK)
    cloud.ec2.delete_security_group(GroupId=group)


def test_pages_are_walked_without_loss_or_repetition(cloud: TestCloud) -> None:
    made = set(cloud.run(11))

    pages = list(cloud.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    seen = [i["InstanceId"] for page in pages for r in page["Reservations"] for i in r["Instances"]]

    assert made <= set(seen)
    assert len(seen) == len(set(seen))


def test_migrations_are_paged(cloud: TestCloud) -> None:
    (instance,) = cloud.run(1)
    for _ in range(2):
        moved = cloud.ec2.migrate_instances(InstanceIds=[instance])["Migrations"][0]["MigrationId"]
        cloud.ec2.get_waiter("instance_migration_completed").wait(MigrationIds=[moved], WaiterConfig=QUICK)

    pages = cloud.ec2.get_paginator("describe_instance_migrations").paginate(
        InstanceIds=[instance], PaginationConfig={"PageSize": 5}
    )

    assert len([moved for page in pages for moved in page["Migrations"]]) == 2


def test_the_profile_that_configure_writes_reaches_the_cloud(cloud: TestCloud, tmp_path: Path) -> None:
    profile.write(cloud.access, profile.Places.of({"HOME": str(tmp_path)}))
    environment = {k: v for k, v in cloud.environment().items() if not k.startswith("AWS_")} | {
        "HOME": str(tmp_path),
        "AWS_PAGER": "",
    }

    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("aws")),
            "--profile",
            "mallee",
            "ec2",
            "describe-instance-migrations",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Migrations" in json.loads(done.stdout)


def test_what_is_not_built_says_so(cloud: TestCloud) -> None:
    with pytest.raises(ClientError) as refused:
        cloud.ec2.create_volume(AvailabilityZone=cloud.access.zones[0], Size=1)
    assert refused.value.response["Error"]["Code"] == "UnsupportedOperation"
