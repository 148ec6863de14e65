"""Where nothing can be written, writes say so in a typed error and reads go on; with room again all is well.

A limit on the size of files stands in for the disk: it needs no privilege, and hits the database and the log
as a full disk does. Where a file system may be mounted, a really full one is tried too.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.acceptance.containers import until
from tests.cloud.clouds import INSTANCE_TYPE, TestCloud
from tests.cloud.test_races import at_rest, patient

OPTIONS = ("--processes", "--instant", "--zones", "1", "--nodes", "1")


def refused(work: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        work()
    error = caught.value.response["Error"]
    assert error["Code"] == "Unavailable", error
    return str(error["Message"])


def writes(cloud: TestCloud, instance: str) -> list[Callable[[], Any]]:
    client, image = patient(cloud), cloud.image()
    run = {"ImageId": image, "InstanceType": INSTANCE_TYPE, "MinCount": 20, "MaxCount": 20}
    return [
        lambda: client.run_instances(**run),
        lambda: client.create_tags(Resources=[instance], Tags=[{"Key": "k", "Value": "v" * 200}]),
        lambda: client.stop_instances(InstanceIds=[instance]),
        lambda: client.terminate_instances(InstanceIds=[instance]),
        lambda: client.create_security_group(GroupName="g", Description="d"),
    ]


async def test_a_controller_that_cannot_write_says_so_and_goes_on_reading(tmp_path: Path) -> None:
    cloud = TestCloud.start(tmp_path / "state", *OPTIONS)
    try:
        (instance,) = cloud.run(1)
        pid = cloud.folder.pids()["clc"]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

        for write in writes(cloud, instance):
            refused(write)
        assert cloud.describe([instance])[instance]["State"]["Name"] == "running"
        assert cloud.ec2.describe_hosts()["Hosts"]
        assert cloud.folder.pids()["clc"] == pid, "it did not die of it"

        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        cloud.run(1)
        await at_rest(cloud)
    finally:
        cloud.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert shutil.disk_usage(disk).free == 0
    return ballast


@pytest.mark.slow
async def test_a_full_disk(small_disk: Path) -> None:
    cloud = TestCloud.start(small_disk / "state", *OPTIONS)
    try:
        (instance,) = cloud.run(1)
        ballast = fill(small_disk)
        assert "no room" in refused(writes(cloud, instance)[0])
        for write in writes(cloud, instance)[1:]:
            refused(write)
        assert cloud.describe([instance])[instance]["State"]["Name"] == "running"

        ballast.unlink()
        cloud.run(1)
        await at_rest(cloud)

        ballast = fill(small_disk)
        for pid in cloud.folder.pids().values():
            os.kill(pid, signal.SIGKILL)
        ballast.unlink()
        await until(lambda: _runs(cloud), "it works again", 60)
        await at_rest(cloud)
        assert instance in cloud.describe()
    finally:
        cloud.stop()


def _runs(cloud: TestCloud) -> bool:
    try:
        return bool(cloud.run(1))
    except (BotoCoreError, ClientError):
        return False
