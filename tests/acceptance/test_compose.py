"""docker-compose.yml is the same cloud: the story of `mallee demo` against ten containers and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mallee.cli.client import Cloud
from mallee.cli.ports import any_free
from mallee.cli.state import Access
from mallee.cli.story import Story
from mallee.kernel.clock import SystemClock
from tests.acceptance.containers import (
    ROOT,
    Docker,
    base_image,
    call,
    network_as_it_was,
    skip_unless_possible,
    until,
)

FILES = ("-f", "docker-compose.yml", "-f", "tests/acceptance/postgres.yml")
SERVICES = 10


@pytest.fixture
async def docker() -> AsyncIterator[Docker]:
    skip_unless_possible()
    folder = Path(tempfile.mkdtemp(prefix="mlx", dir="/var/tmp"))
    docker = Docker(folder)
    try:
        with network_as_it_was():
            await docker.start()
            try:
                yield docker
            finally:
                await docker.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compose(docker: Docker, *words: str, **env: str) -> str:
    return docker.run("docker-compose", *FILES, *words, **env)


def _health(docker: Docker) -> dict[str, str]:
    ids = docker.run("docker", "ps", "-aq").split()
    found = json.loads(docker.run("docker", "inspect", *ids))
    return {
        box["Name"]: box["State"].get("Health", {}).get("Status", box["State"]["Status"]) for box in found
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_the_story_in_containers(docker: Docker) -> None:
    call("make", "wheelhouse")
    base_image(docker)
    port = any_free()
    env = {
        "MALLEE_BASE": "mallee-base",
        "MALLEE_PORT": str(port),
        "MALLEE_S3_PORT": str(any_free(besides=frozenset({port}))),
    }
    _compose(docker, "build", "clc", **env)
    try:
        _compose(docker, "up", "-d", "--no-build", **env)
        await until(
            lambda: list(_health(docker).values()).count("healthy") == SERVICES,
            "every container is healthy",
            120,
        )
        access = msgspec.json.decode(
            _compose(docker, "exec", "-T", "clc", "mallee", "env", "--format", "json", **env), type=Access
        )
        assert access.endpoint == f"http://127.0.0.1:{port}"
        assert access.zones == ["mallee-1a", "mallee-1b"]

        lines = await asyncio.to_thread(_tell, Cloud(access))

        assert any("migrate-instances" in line for line in lines)
    except Exception as error:
        logs = _compose(docker, "logs", "--no-color", "--tail", "30", **env)
        raise AssertionError(f"{error}\n{logs}") from error
    finally:
        _compose(docker, "down", "-v", **env)


def _tell(cloud: Cloud) -> list[str]:
    lines: list[str] = []
    clock = SystemClock()

    def watch(migration: str) -> dict[str, Any]:
        cloud.ec2.get_waiter("instance_migration_completed").wait(
            MigrationIds=[migration], WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        moved: dict[str, Any] = cloud.ec2.describe_instance_migrations(MigrationIds=[migration])[
            "Migrations"
        ][0]
        return moved

    Story(cloud, clock, lines.append, watch).run()
    return lines


def test_the_compose_file_names_every_service() -> None:
    text = (ROOT / "docker-compose.yml").read_text()

    assert not any(line.startswith("name:") for line in text.splitlines()), "docker-compose 1.29 refuses it"
    for service in ("clc", "cc-a", "cc-b", "nc-a1", "nc-a2", "nc-b1", "nc-b2", "sc", "walrus", "postgres"):
        assert f"\n  {service}:" in text
