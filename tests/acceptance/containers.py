"""A Docker of our own for one test: private socket, private data, everything removed afterwards.

It works without an image registry and without systemd: the base image is made from Debian's archive,
and what goes into it is downloaded outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mallee.kernel.clock import SystemClock

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "python3,python3-venv,ca-certificates,postgresql"
NETWORK = "10.77.0.1/24"
TOOLS = ("dockerd", "docker", "docker-compose", "mmdebstrap", "iptables", "ip")


def skip_unless_possible() -> None:
    """Say loudly why there will be no containers, if so."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"COMPOSE STAGE NOT RUN: {', '.join(missing)} not installed")
    if os.geteuid() != 0:
        pytest.skip("COMPOSE STAGE NOT RUN: dockerd needs root")


def call(*command: str, env: dict[str, str] | None = None, seconds: float = 600) -> str:
    """Run to the end; its output. A failure shows what it said."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


async def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    clock = SystemClock()
    end = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        await clock.sleep(0.2)


class Docker:
    """A running daemon.

    Args:
        folder: its data, sockets and log. Short, a socket's path may have 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"DOCKER_HOST": f"unix://{folder}/s", "COMPOSE_PROJECT_NAME": "malleetest"}
        self._daemon: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return when it answers; skip the test when it cannot run on this machine."""
        log = self.folder / "log"
        where = ("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec")
        with log.open("wb") as output:
            self._daemon = daemon = await asyncio.create_subprocess_exec(
                "dockerd",
                *where,
                *("--pidfile", f"{self.folder}/pid", "-H", self.env["DOCKER_HOST"], "--bip", NETWORK),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        await until(lambda: daemon.returncode is not None or self._answers(), "dockerd", 60)
        if daemon.returncode is not None:
            said = log.read_text(errors="replace").strip().splitlines()[-1:]
            pytest.skip(f"COMPOSE STAGE NOT RUN: dockerd cannot run here: {' '.join(said)}")

    def _answers(self) -> bool:
        asked = subprocess.run(
            ["docker", "version"], env=os.environ | self.env, capture_output=True, check=False, timeout=30
        )
        return asked.returncode == 0

    async def stop(self) -> None:
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.terminate()
            await self._daemon.wait()

    def run(self, *command: str, seconds: float = 600, **env: str) -> str:
        return call(*command, env=self.env | env, seconds=seconds)


TABLES = ("filter", "nat")


@contextmanager
def network_as_it_was() -> Iterator[None]:
    """Take back what dockerd does to the machine: rules, chains, bridges, forwarding."""
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before, links, forwarded = {table: _rules(table) for table in TABLES}, _links(), forwarding.read_text()
    try:
        yield
    finally:
        for table in TABLES:
            _restore(table, before[table])
        for link in _links() - links:
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        forwarding.write_text(forwarded)


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(call("ip", "-j", "link"))}


def _rules(table: str) -> list[str]:
    return call("iptables", "-t", table, "-S").splitlines()


def _restore(table: str, before: list[str]) -> None:
    """Rules first: a chain that a rule names cannot be removed."""
    added = [words.split() for words in _rules(table) if words not in before]
    for word, *rest in added:
        if word == "-A":
            call("iptables", "-t", table, "-D", *rest)
    for word, *rest in added:
        if word == "-N":
            call("iptables", "-t", table, "-X", *rest)
    for policy in before:
        if policy.startswith("-P"):
            call("iptables", "-t", table, *policy.split())


def base_image(docker: Docker) -> None:
    """Debian with Python and PostgreSQL as image `mallee-base`, made once a machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mallee-tests"
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"bookworm {PACKAGES}".encode()).hexdigest()[:16]
    tar = cache / f"base-{name}.tar"
    if not tar.exists():
        fresh = tar.with_suffix(".new.tar")
        call("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(fresh), seconds=900)
        fresh.rename(tar)
    docker.run("docker", "import", str(tar), "mallee-base")
