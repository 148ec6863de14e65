"""A machine joins with a token and hosts guests: everything listens at an address that it can reach."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.containers import until
from tests.cloud.clouds import TestCloud

MALLEE = Path(sys.executable).parent / "mallee"
LISTEN = "127.0.0.2"  # not where a cloud listens that was told nothing


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[TestCloud]:
    made = TestCloud.start(
        tmp_path / "cloud", "--zones", "1", "--nodes", "1", "--instant", "--listen", LISTEN
    )
    yield made
    assert made.stop() == 0


@pytest.fixture
def far(cloud: TestCloud, tmp_path: Path) -> Iterator[Path]:
    """The state folder of a machine that has joined, and runs."""
    token = cloud.ec2.create_node_token(AvailabilityZone="mallee-1a", NodeName="far-1")["Token"]
    folder = tmp_path / "far"
    with (tmp_path / "far.log").open("wb") as log:
        join = [str(MALLEE), "node", "join", token, "--state", str(folder)]
        node = subprocess.Popen(join, stdout=log, stderr=log)
    yield folder
    node.send_signal(signal.SIGTERM)
    assert node.wait(30) == 0


def hosts(cloud: TestCloud) -> dict[str, str]:
    """Host ids by name."""
    found = cloud.ec2.describe_hosts()["Hosts"]
    return {tag["Value"]: host["HostId"] for host in found for tag in host["Tags"] if tag["Key"] == "Name"}


@pytest.mark.slow
async def test_a_joined_node_hosts_a_guest(cloud: TestCloud, far: Path) -> None:
    assert cloud.access.endpoint.startswith(f"http://{LISTEN}:")
    await until(lambda: "far-1" in hosts(cloud), "it attends", 45)
    (instance,) = cloud.run(1, Placement={"HostId": hosts(cloud)["far-1"]})
    assert cloud.describe([instance])[instance]["Placement"]["HostId"] == hosts(cloud)["far-1"]
    # The controller dials the node for this, at the address that the node itself has found.
    assert "login:" in cloud.ec2.get_console_output(InstanceId=instance)["Output"]
    assert f"{LISTEN}:" in (far / "node.json").read_text()
