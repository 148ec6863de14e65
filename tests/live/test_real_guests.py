"""boto3 starts a real guest, reads its console, moves it while it runs, and ends it; nothing is left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.lab import Host, missing, some_hosts
from mallee.cli.tiny import build
from mallee.kernel.errors import Fault
from tests.live.clouds import RealCloud, real_cloud

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


def host_of(cloud: RealCloud, instance: str) -> Host:
    where = cloud.describe(instance)["Placement"]["HostId"]
    names = {host["HostId"]: host["Tags"][0]["Value"] for host in cloud.nodes()}
    return next(host for host in cloud.hosts if cloud.node_name(host) == names[where])


def has_link(host: Host, name: str) -> bool:
    return Path(f"/run/netns/{host.netns}").exists() and name in host.said("ip", "-br", "link")


class Login:
    """ssh into guests, from the host that they are on."""

    def __init__(self, cloud: RealCloud, folder: Path) -> None:
        self.name = f"key-of-{folder.name}"
        pair = cloud.ec2.create_key_pair(KeyName=self.name, KeyType="ed25519")
        self.key = folder / "key"
        self.key.touch(mode=0o600)
        self.key.write_text(pair["KeyMaterial"])

    def command(self, host: Host, address: str, command: str) -> list[str]:
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
        words = [word for option in options for word in ("-o", option)]
        inside = ["ip", "netns", "exec", host.netns]
        return [*inside, "ssh", "-i", str(self.key), *words, f"root@{address}", command]


def moved(cloud: RealCloud, instance: str) -> dict[str, Any]:
    """Migrate it, and wait until it has arrived."""
    asked = cloud.ec2.migrate_instances(InstanceIds=[instance])["Migrations"][0]["MigrationId"]

    def now() -> dict[str, Any]:
        [found] = cloud.ec2.describe_instance_migrations(MigrationIds=[asked])["Migrations"]
        return dict(found)

    cloud.until(lambda: "EndTime" in now(), "the migration has ended")
    assert now()["State"] == "completed", now().get("StateReason")
    return now()


def ended(cloud: RealCloud, *instances: str) -> None:
    cloud.ec2.terminate_instances(InstanceIds=list(instances))
    for instance in instances:
        cloud.until(lambda i=instance: cloud.state(i) == "terminated", "the guest is gone")  # type: ignore[misc]


def test_a_guest_boots_moves_and_ends(cloud: RealCloud) -> None:
    instance = launched(cloud)
    cloud.until(lambda: "login:" in cloud.console(instance), "the guest has booted")
    was = host_of(cloud, instance)

    report = moved(cloud, instance)

    assert report["Rounds"][0]["BytesSent"] > 1_000_000
    assert 0 < report["DowntimeMs"] < 5_000, report
    assert host_of(cloud, instance) != was
    assert "login:" in cloud.console(instance)
    ended(cloud, instance)


def test_a_guest_is_reached_with_its_key_and_has_run_its_user_data(cloud: RealCloud, tmp_path: Path) -> None:
    login = Login(cloud, tmp_path)
    script = "#!/bin/sh\necho user data of $(hostname)\n"
    instance = launched(cloud, KeyName=login.name, UserData=script)
    address = cloud.describe(instance)["PrivateIpAddress"]
    cloud.until(lambda: "login:" in cloud.console(instance), "the guest has booted")

    cloud.until(lambda: "user data of ip-" in cloud.console(instance), "user data has run")
    assert f"inet {address}" in cloud.console(instance)
    assert f"instance-id: {instance}" in cloud.console(instance)
    host = host_of(cloud, instance)
    told = subprocess.run(
        login.command(host, address, "hostname"), capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("ip-")

    ended(cloud, instance)
    assert not has_link(host, "mallee0"), "something is left on the host"


def test_a_connection_into_a_guest_survives_its_migration(cloud: RealCloud, tmp_path: Path) -> None:
    login = Login(cloud, tmp_path)
    guests = [launched(cloud, KeyName=login.name) for _ in range(3)]
    # Two of three are on one host: one goes, and the other keeps the host on the segment.
    hosts = [host_of(cloud, each) for each in guests]
    going = next(each for each, host in zip(guests, hosts, strict=True) if hosts.count(host) > 1)
    host, address = host_of(cloud, going), cloud.describe(going)["PrivateIpAddress"]
    cloud.until(lambda: "login:" in cloud.console(going), "the guest has booted")
    loop = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; usleep 200000; done"

    with subprocess.Popen(login.command(host, address, loop), stdout=subprocess.PIPE, text=True) as talking:
        assert talking.stdout is not None
        assert talking.stdout.readline() == "line 1\n"
        moved(cloud, going)
        assert host_of(cloud, going) != host
        rest = talking.stdout.read().splitlines()
    assert talking.returncode == 0
    assert rest[-1] == "line 40"
    ended(cloud, *guests)
