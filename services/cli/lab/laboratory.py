"""A whole cloud with real guests on one machine: its controllers here, a node controller in each pretended host.

Everything in it is what several machines would run: the hosts join with tokens, reach the controllers
at an address, and exchange guests over a network. It ends with its owner, and leaves nothing behind.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mallee.cli.client import Cloud
from mallee.cli.lab import MACHINE, Host, missing, some_hosts, until
from mallee.cli.state import Access, StateFolder
from mallee.kernel.errors import Fault, Kind

_IMAGES: Final = Path("/var/lib/mallee/images")
_PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Laboratory:
    """The cloud and its hosts.

    Attributes:
        folder: of the cloud; what `--state` names.
        access: how to reach it.
        hosts: in the order of their nodes' names, `host-1`, `host-2` ...
    """

    folder: StateFolder
    access: Access
    hosts: Sequence[Host]

    def host_of(self, ec2: Any, instance: str) -> Host:
        """Where an instance is."""
        [found] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
        where = found["Placement"]["HostId"]
        return next(host for host in self.hosts if self.id_of(ec2, host) == where)

    def id_of(self, ec2: Any, host: Host) -> str:
        """A host's id in the cloud."""
        name = f"host-{self.hosts.index(host) + 1}"
        return next(
            str(found["HostId"])
            for found in ec2.describe_hosts()["Hosts"]
            if {"Key": "Name", "Value": name} in found["Tags"]
        )

    def login(self, host: Host, key: Path, way: Sequence[str], command: str) -> list[str]:
        """The words that run a command in a guest.

        Args:
            host: where it is typed.
            key: the private one.
            way: the addresses of the guests to go through, and of the guest at last.
            command: for the guest's shell.
        """
        # A guest has an address some seconds before its sshd listens: one attempt a second.
        patient = ("ConnectionAttempts=60", "ConnectTimeout=30")
        quiet = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", *patient)
        ssh = ["ssh", "-i", str(key), *(word for option in quiet for word in ("-o", option))]
        through: list[str] = []
        for address in way[:-1]:
            through = ["-o", "ProxyCommand=" + shlex.join([*ssh, *through, "-W", "%h:%p", f"root@{address}"])]
        return [*_inside(host), *ssh, *through, f"root@{way[-1]}", command]


@contextmanager
def laboratory(folder: StateFolder, count: int, tell: Callable[[str], None]) -> Iterator[Laboratory]:
    """A cloud of `count` hosts, ready: every one has joined.

    Args:
        folder: of the cloud; new.
        count: of hosts.
        tell: takes a line for what takes long.

    Raises:
        Fault: UNAVAILABLE `no-hosts`, with what this machine lacks.
    """
    from mallee.cli.commands.clouds import end
    from mallee.cli.commands.demo import launch

    if reason := missing():
        raise Fault(
            Kind.UNAVAILABLE,
            "Hosts with real guests cannot be made here.",
            why=f"{reason}.",
            fix="Run it as root; docs/real-guests.md lists the Debian packages, and mallee doctor looks at all of it.",
            code="no-hosts",
        )
    images = _images(folder, tell)
    with ExitStack() as stack:
        hosts = stack.enter_context(some_hosts(count, folder.root / "hosts", uplink=True))
        access, _ = launch(folder, 0, "--zones", "1", "--nodes", "0", "--listen", MACHINE)
        stack.callback(end, folder)
        ec2 = Cloud(access).ec2
        for number in range(1, count + 1):
            token = ec2.create_node_token(AvailabilityZone=access.zones[0], NodeName=f"host-{number}")
            _join(folder, hosts, number, token["Token"], images, stack)
        until(lambda: _attending(ec2) == count, "the nodes of all hosts", _PATIENCE)
        yield Laboratory(folder, access, hosts)


def _images(folder: StateFolder, tell: Callable[[str], None]) -> Path:
    """Where the tiny image is; built for this laboratory alone where the machine has none."""
    from mallee.cli.tiny import build

    if (_IMAGES / "tiny").exists():
        return _IMAGES
    own = folder.root / "images"
    tell("  building the tiny image out of Debian packages; `mallee image build-tiny` keeps one for ever")
    build(own / "tiny")
    return own


def _join(
    folder: StateFolder, hosts: Sequence[Host], number: int, token: str, images: Path, stack: ExitStack
) -> None:
    host = hosts[number - 1]
    state = folder.root / f"host-{number}"
    settings = {
        "HYPERVISOR": "libvirt",
        "LIBVIRT_URI": host.uri,
        "IMAGE_FOLDER": str(images),
        "NETWORK": "flat",
        "HOST_VCPUS": "8",  # they share this machine's processors in any case
    }
    program = [*_inside(host), sys.executable, "-P", "-m", "mallee.cli.main"]
    with (folder.logs / f"host-{number}.log").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            [*program, "node", "join", token, "--state", str(state)],
            env=os.environ | {f"MALLEE_NC_{name}": value for name, value in settings.items()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    stack.callback(child.wait, _PATIENCE)
    stack.callback(child.terminate)


def _attending(ec2: Any) -> int:
    return sum(host["State"] == "available" for host in ec2.describe_hosts()["Hosts"])


def _inside(host: Host) -> list[str]:
    return ["ip", "netns", "exec", host.netns]
