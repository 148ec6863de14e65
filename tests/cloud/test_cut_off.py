"""Leases for real: a node in a network namespace whose cable is pulled.

It pauses its guests when its lease lapses, by itself and unheard. Its instances start elsewhere only after lease and
margin. When the cable is plugged in again, what it has is of an older generation and is destroyed; no clock
anywhere resumes a guest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.ports import any_free
from mallee.cli.state import StateFolder
from mallee.kernel.clock import SystemClock
from tests.acceptance.containers import until
from tests.cloud import audit
from tests.cloud.audit import rows
from tests.cloud.clouds import TestCloud
from tests.cloud.shared_databases import PROGRAM, ZONE
from tests.cloud.test_races import at_rest

LEASE, MARGIN, RENEW = 2.0, 2.0, 0.5
HOST, GUEST_NET = "10.213.77.1", "10.213.77.0/24"
NODES = {"one": "10.213.77.11", "two": "10.213.77.12"}
SLACK = 5.0  # seconds that a busy machine may be late to notice what has happened

Line = Callable[..., None]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wires() -> Iterator[None]:
    """A bridge and a namespace for each node."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("LEASES NOT TESTED ON A REAL WIRE: that needs root and ip(8)")
    made: list[tuple[str, ...]] = []
    try:
        ip("link", "add", "mlt-br", "type", "bridge")
        made.append(("link", "delete", "mlt-br"))
        ip("address", "add", f"{HOST}/24", "dev", "mlt-br")
        ip("link", "set", "mlt-br", "up")
        for name, address in NODES.items():
            ip("netns", "add", f"mlt-{name}")
            made.append(("netns", "delete", f"mlt-{name}"))
            ip("link", "add", f"mlt-{name}", "type", "veth", "peer", "name", "eth0", "netns", f"mlt-{name}")
            ip("link", "set", f"mlt-{name}", "master", "mlt-br", "up")
            inside = ("-n", f"mlt-{name}")
            ip(*inside, "address", "add", f"{address}/24", "dev", "eth0")
            ip(*inside, "link", "set", "eth0", "up")
            ip(*inside, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _take_down(made)
        pytest.skip(f"LEASES NOT TESTED ON A REAL WIRE: {error.stderr.strip()}")
    yield
    _take_down(made)


def _take_down(made: list[tuple[str, ...]]) -> None:
    for words in reversed(made):
        subprocess.run(["ip", *words], check=False, capture_output=True)


@dataclass
class Wired:
    """A cloud of which each node is in a namespace. It has what `tests.cloud.audit` asks of a `TestCloud`."""

    root: Path
    ports: dict[str, int]
    children: dict[str, subprocess.Popen[bytes]]
    _client: Any = None

    @classmethod
    def begin(cls, root: Path, *, evacuate: bool) -> Wired:
        made = cls(root, {each: any_free() for each in ("clc", "cc")}, {})
        root.mkdir(parents=True)
        (root / "mallee.toml").write_text(
            f"""
[clc]
port = {made.ports["clc"]}
clusters = [{{zone = "{ZONE}", address = "{HOST}:{made.ports["cc"]}"}}]
[cc]
zone = "{ZONE}"
lease_seconds = {LEASE}
lease_margin = {MARGIN}
renew_seconds = {RENEW}
evacuate = {str(evacuate).lower()}
[nc]
zone = "{ZONE}"
cluster = "{HOST}:{made.ports["cc"]}"
start_seconds = 0.2
lease_seconds = {LEASE}
"""
        )
        made.spawn("clc")
        made.spawn("cc", "--zone", ZONE, "--address", f"{HOST}:{made.ports['cc']}")
        for name, address in NODES.items():
            made.spawn("nc", "--name", name, "--address", f"{address}:8777", inside=f"mlt-{name}")
        return made

    def spawn(self, role: str, *words: str, inside: str = "") -> None:
        label = f"{role}-{words[1]}" if role == "nc" else role
        within = ("ip", "netns", "exec", inside) if inside else ()
        command = [*within, *PROGRAM, "run", role, "--state", str(self.root), *words]
        with (self.root / f"{label}.log").open("ab") as log:
            self.children[label] = subprocess.Popen(
                [*command, "--config", str(self.root / "mallee.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if role == "clc":  # it makes the authority that the others need
            clock = SystemClock()
            end = clock.monotonic() + 30
            while not (self.root / "access.json").exists():
                assert clock.monotonic() < end, (self.root / "clc.log").read_text()

    def end(self) -> None:
        for child in self.children.values():
            child.terminate()
        for child in self.children.values():
            child.wait(30)

    @property
    def folder(self) -> StateFolder:
        return StateFolder(self.root)

    @property
    def ec2(self) -> Any:
        if self._client is None:
            from mallee.cli.client import Cloud

            self._client = Cloud(self.folder.access()).client("ec2")
        return self._client

    def image(self) -> str:
        found: str = self.ec2.describe_images()["Images"][0]["ImageId"]
        return found

    zone_rows = TestCloud.zone_rows
    describe = TestCloud.describe
    wait = TestCloud.wait
    launch = TestCloud.launch
    run = TestCloud.run
    clear = TestCloud.clear

    def hosts(self) -> dict[str, Any]:
        pages = self.ec2.get_paginator("describe_hosts").paginate()
        return {audit._name(host): host for page in pages for host in page["Hosts"]}

    def state(self, node: str) -> str:
        tags = {tag["Key"]: tag["Value"] for tag in self.hosts()[node]["Tags"]}
        return str(tags.get("mallee:state", ""))

    def home(self, instance: str) -> str:
        here = self.describe([instance])[instance]["Placement"]["HostId"]
        return next(name for name, host in self.hosts().items() if host["HostId"] == here)

    def phases(self, node: str) -> dict[tuple[str, int], str]:
        """What really is on a node, read beside it."""
        found = rows(
            self.root / "services" / f"nc-{node}" / "nc.db",
            "SELECT instance_id, generation, phase FROM fake_guest",
        )
        return {(instance, generation): phase for instance, generation, phase in found}


def pull(node: str) -> None:
    ip("link", "set", f"mlt-{node}", "down")


def plug(node: str) -> None:
    ip("link", "set", f"mlt-{node}", "up")


@pytest.fixture
async def cloud(wires: None, request: pytest.FixtureRequest) -> Any:
    made = Wired.begin(Path(tempfile.mkdtemp(prefix="wired-")) / "state", evacuate=request.param)
    try:
        await until(lambda: ready(made), "both nodes attend", 40)
        yield made
    finally:
        for node in NODES:
            plug(node)
        made.end()
        shutil.rmtree(made.root.parent, ignore_errors=True)


def ready(cloud: Wired) -> bool:
    try:
        return len(cloud.hosts()) == 2
    except Exception:  # noqa: BLE001 - whatever a cloud says that has just begun
        return False


@pytest.mark.slow
@pytest.mark.parametrize("cloud", [True], indirect=True, ids=["evacuate"])
async def test_its_instances_start_elsewhere_only_after_it_has_paused_them(cloud: Wired) -> None:
    (instance,) = cloud.run(1)
    home = cloud.home(instance)
    other = next(node for node in NODES if node != home)
    clock = SystemClock()
    pull(home)
    pulled = clock.monotonic()

    paused_at = moved_at = 0.0
    while not moved_at:
        now = clock.monotonic()
        # In this order: what no longer runs here never runs here again, so both running is no trick of the looks.
        there, here = cloud.phases(other), cloud.phases(home)
        assert now < pulled + 30, (here, there)
        if not paused_at and here == {(instance, 1): "paused"}:
            paused_at = now
        if "running" in there.values():
            moved_at = now
        assert not ("running" in here.values() and "running" in there.values())
    assert paused_at
    assert paused_at - pulled < LEASE + SLACK
    # The lease counts from the last renewal that was sent, up to one renewal before the cut.
    assert moved_at - pulled > LEASE * MARGIN - RENEW
    cloud.wait("instance_running", [instance])
    assert cloud.home(instance) == other

    plug(home)
    await until(lambda: cloud.phases(home) == {}, "the old generation is destroyed", 30)
    assert list(cloud.phases(other).values()) == ["running"]
    await at_rest(cloud)


@pytest.mark.slow
@pytest.mark.parametrize("cloud", [False], indirect=True, ids=["stay"])
async def test_no_clock_resumes_a_guest(cloud: Wired) -> None:
    """Cut off for many leases it stays paused, through a restart of its controller too; plugged in again it goes on."""
    (instance,) = cloud.run(1)
    home = cloud.home(instance)
    pull(home)
    await until(lambda: cloud.phases(home) == {(instance, 1): "paused"}, "it is paused", LEASE + SLACK + 5)
    await until(lambda: cloud.state(home) == "fenced", "its silence is noticed", 30)
    child = cloud.children[f"nc-{home}"]
    child.kill()
    child.wait()
    cloud.spawn("nc", "--name", home, "--address", f"{NODES[home]}:8777", inside=f"mlt-{home}")
    clock = SystemClock()
    end = clock.monotonic() + 4 * LEASE
    while clock.monotonic() < end:
        assert cloud.phases(home) == {(instance, 1): "paused"}
    assert cloud.describe([instance])[instance]["State"]["Name"] == "running"  # as EC2: impaired, not ended

    plug(home)
    await until(lambda: cloud.phases(home) == {(instance, 1): "running"}, "it goes on", 30)
    await at_rest(cloud)
