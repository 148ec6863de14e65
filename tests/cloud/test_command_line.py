"""What people type beside a running cloud: lists that go on, and the profile for other tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from tests.cloud.clouds import TestCloud

MALLEE = str(Path(sys.executable).parent / "mallee")


@contextmanager
def typed(cloud: TestCloud, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until Ctrl-C, and then ends quietly."""
    command = [MALLEE, *words, "--state", str(cloud.folder.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert "Traceback" not in said
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("what", ["status", "nodes", "instances", "migrations"])
def test_a_list_that_is_watched_is_a_line_each_time(cloud: TestCloud, what: str) -> None:
    with typed(cloud, what, "--watch", "-o", "json") as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert isinstance(json.loads(first), list)
        assert isinstance(json.loads(second), list)


def test_a_watched_list_shows_what_changes(cloud: TestCloud) -> None:
    with typed(cloud, "instances", "--watch", "-o", "json") as process:
        assert process.stdout is not None
        before = process.stdout.readline()
        (instance,) = cloud.run(1)
        assert instance not in before
        while instance not in (line := process.stdout.readline()):
            assert line
        cloud.ec2.terminate_instances(InstanceIds=[instance])
        cloud.wait("instance_terminated", [instance])


def test_configure_writes_a_profile_that_works_and_takes_it_out_again(
    cloud: TestCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    own["HOME"] = str(tmp_path)
    (tmp_path / ".aws").mkdir()
    config = tmp_path / ".aws/config"
    config.write_text("[default]\nregion = eu-west-1\n")

    def configure(*words: str) -> str:
        command = [MALLEE, "configure", *words]
        return subprocess.run(command, env=own, capture_output=True, text=True, check=True).stderr

    said = configure("--state", str(cloud.folder.root))
    assert "aws --profile mallee ec2 describe-instances" in said
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / ".aws/credentials"))
    zones = boto3.Session(profile_name="mallee").client("ec2").describe_availability_zones()
    assert [zone["ZoneName"] for zone in zones["AvailabilityZones"]] == cloud.access.zones
    configure("--remove")
    assert config.read_text().rstrip("\n") == "[default]\nregion = eu-west-1"
