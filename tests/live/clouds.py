"""A cloud whose nodes are real hosts: its controllers on the machine, a node controller in each host."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from boto3.session import Session

from mallee.cli.client import Cloud
from mallee.cli.lab import MACHINE, Host
from mallee.cli.ports import any_free
from mallee.cli.state import StateFolder
from mallee.kernel.clock import SystemClock

ZONE: Final = "mallee-1a"
NC_PORT: Final = 8777
PATIENCE: Final = 120.0


@dataclass
class RealCloud:
    """The cloud, and what tests do with it."""

    folder: StateFolder
    hosts: Sequence[Host]
    images: Path
    with_store: bool = False
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ec2: Any = None

    @property
    def ec2(self) -> Any:
        if self._ec2 is None:
            self._ec2 = Cloud(self.folder.access()).ec2
        return self._ec2

    @property
    def s3(self) -> Any:
        """A client of the cloud's own store."""
        access = self.folder.access()
        assert access is not None
        session = Session(access.access_key_id, access.secret_access_key, region_name=access.region)
        return session.client("s3", endpoint_url=access.s3_endpoint)

    def node_name(self, host: Host) -> str:
        return f"node-{self.hosts.index(host) + 1}"

    def start_node(self, host: Host) -> None:
        """Run the host's node controller inside it; again, after it was ended."""
        name = self.node_name(host)
        node = ("run", "nc", "--zone", ZONE, "--name", name, "--address", f"{host.address}:{NC_PORT}")
        env = {
            "MALLEE_NC_CLUSTER": self._cluster,
            "MALLEE_NC_HYPERVISOR": "libvirt",
            "MALLEE_NC_LIBVIRT_URI": host.uri,
            "MALLEE_NC_IMAGE_FOLDER": str(self.images),
            "MALLEE_NC_ACCELERATOR": "qemu",
            "MALLEE_NC_NETWORK": "flat",
            "MALLEE_NC_HOST_VCPUS": "8",
            "MALLEE_NC_OBJECTS": self._objects or "127.0.0.1:1",
        }
        self._start(name, node, env, into=("ip", "netns", "exec", host.netns))

    def start(self) -> None:
        """The controllers, then the nodes; returns when both nodes have joined."""
        clc, ec2, cc, s3, objects = (any_free() for _ in range(5))
        self._cluster = f"{MACHINE}:{cc}"
        self._objects = f"{MACHINE}:{objects}" if self.with_store else ""
        env = {
            "MALLEE_CLC_OBJECTS": self._objects,
            "MALLEE_CLOUD_S3_ENDPOINT": f"http://127.0.0.1:{s3}",
            "MALLEE_CLC_PORT": str(ec2),
            "MALLEE_CLC_CLUSTERS": f'[{{zone = "{ZONE}", address = "{self._cluster}"}}]',
        }
        self._start("clc", ("run", "clc", "--address", f"{MACHINE}:{clc}"), env)
        self.until(lambda: self.folder.root.joinpath("access.json").exists(), "the first key")
        if self.with_store:
            told = {"MALLEE_WALRUS_PORT": str(s3), "MALLEE_WALRUS_CLC": f"{MACHINE}:{clc}"}
            self._start("walrus", ("run", "walrus", "--address", self._objects), told)
        self._start("cc", ("run", "cc", "--zone", ZONE, "--address", self._cluster), {})
        for host in self.hosts:
            self.start_node(host)
        self.until(lambda: len(self.nodes()) == len(self.hosts), "all nodes")

    def nodes(self) -> list[dict[str, Any]]:
        """The hosts that take instances."""
        hosts: list[dict[str, Any]] = self.ec2.describe_hosts()["Hosts"]
        return [host for host in hosts if host["State"] == "available"]

    def describe(self, instance: str) -> dict[str, Any]:
        [reservation] = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
        found: dict[str, Any] = reservation["Instances"][0]
        return found

    def state(self, instance: str) -> str:
        return str(self.describe(instance)["State"]["Name"])

    def console(self, instance: str) -> str:
        return str(self.ec2.get_console_output(InstanceId=instance).get("Output", ""))

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition, or say which process has died."""
        clock, pause = SystemClock(), threading.Event()
        end = clock.monotonic() + seconds
        while not condition():
            dead = [name for name, process in self.running.items() if process.poll() is not None]
            assert not dead, f"{dead} ended while {what} was awaited: {self.log(dead[0])[-2000:]}"
            assert clock.monotonic() < end, f"{what} did not come within {seconds:.0f} s"
            pause.wait(0.1)

    def log(self, name: str) -> str:
        return (self.folder.root / f"{name}.log").read_text(errors="replace")

    def _start(
        self, name: str, words: Sequence[str], env: Mapping[str, str], into: Sequence[str] = ()
    ) -> None:
        keys = ("--state", str(self.folder.root), "--keys", str(self.folder.keys))
        command = [*into, sys.executable, "-m", "mallee.cli.main", *words, *keys]
        self.folder.root.mkdir(parents=True, exist_ok=True)
        with (self.folder.root / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


@contextmanager
def real_cloud(
    hosts: Sequence[Host], images: Path, folder: Path, *, with_store: bool = False
) -> Iterator[RealCloud]:
    """The cloud, ready; every process of it ends with it."""
    cloud = RealCloud(StateFolder(folder), hosts, images, with_store)
    with ExitStack() as stack:
        stack.callback(_end, cloud)
        cloud.start()
        yield cloud


def _end(cloud: RealCloud) -> None:
    for process in cloud.running.values():
        process.terminate()
    for process in cloud.running.values():
        process.wait(30)
