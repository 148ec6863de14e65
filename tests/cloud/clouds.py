"""A whole cloud for tests: `mallee up` itself, in a process of its own, reached as any client reaches it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.client import Cloud
from mallee.cli.commands.demo import launch
from mallee.cli.state import Access, StateFolder

INSTANCE_TYPE = "t3.micro"  # 2 vCPUs, 1 GiB
QUICK = {"Delay": 0.05, "MaxAttempts": 600}


@dataclass
class TestCloud:
    """One cloud and what tests do with it.

    Attributes:
        access: what `mallee up --json` printed.
    """

    __test__ = False

    folder: StateFolder
    options: tuple[str, ...]
    access: Access
    process: subprocess.Popen[bytes]
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    @classmethod
    def start(cls, root: Path, *options: str) -> TestCloud:
        folder = StateFolder(root)
        access, process = launch(folder, 0, *options)
        return cls(folder, options, access, process)

    def start_again(self) -> None:
        """On the same state, with no more said than where it is."""
        again = tuple(option for option in self.options if option == "--processes")
        self.access, self.process = launch(self.folder, self.folder.shape().ports["ec2"], *again)  # type: ignore[union-attr]
        self._clients.clear()

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def client(self, service: str, access: Access | None = None) -> Any:
        """A boto3 client of the first account, or of another's keys."""
        used = access or self.access
        key = (service, used.access_key_id)
        if key not in self._clients:
            self._clients[key] = Cloud(used).client(service)
        return self._clients[key]

    @property
    def ec2(self) -> Any:
        return self.client("ec2")

    def account(self, name: str) -> Access:
        """Another account's way in."""
        import msgspec

        made = self.client("iam").create_account(AccountName=name)
        key = made["AccessKey"]
        return msgspec.structs.replace(
            self.access,
            account_id=made["Account"]["AccountId"],
            access_key_id=key["AccessKeyId"],
            secret_access_key=key["SecretAccessKey"],
        )

    def image(self) -> str:
        found: str = self.ec2.describe_images()["Images"][0]["ImageId"]
        return found

    def run(self, count: int = 1, *, tags: Mapping[str, str] | None = None, **more: Any) -> list[str]:
        """Instances, running."""
        ids = [instance["InstanceId"] for instance in self.launch(count, tags=tags, **more)]
        self.wait("instance_running", ids)
        return ids

    def launch(self, count: int = 1, *, tags: Mapping[str, str] | None = None, **more: Any) -> list[Any]:
        """RunInstances alone."""
        if tags:
            named = [{"Key": key, "Value": value} for key, value in tags.items()]
            more["TagSpecifications"] = [{"ResourceType": "instance", "Tags": named}]
        made: list[Any] = self.ec2.run_instances(
            **{"ImageId": self.image(), "InstanceType": INSTANCE_TYPE, "MinCount": count, "MaxCount": count}
            | more
        )["Instances"]
        return made

    def wait(self, waiter: str, ids: list[str]) -> None:
        self.ec2.get_waiter(waiter).wait(InstanceIds=ids, WaiterConfig=QUICK)

    def describe(self, ids: list[str] | None = None) -> dict[str, Any]:
        """Instances by ID, terminated ones left out."""
        pages = self.ec2.get_paginator("describe_instances").paginate(InstanceIds=ids or [])
        every = (i for page in pages for r in page["Reservations"] for i in r["Instances"])
        return {i["InstanceId"]: i for i in every if i["State"]["Name"] != "terminated"}

    def zone_rows(self, query: str) -> list[Any]:
        """Rows of every zone's database."""
        from tests.cloud.audit import rows

        folders = sorted((self.folder.root / "services").glob("cc-*"))
        return [row for folder in folders for row in rows(folder / "cc.db", query)]

    def clear(self) -> None:
        """Terminate everything there is."""
        ids = list(self.describe())
        if ids:
            self.ec2.terminate_instances(InstanceIds=ids)
            self.wait("instance_terminated", ids)

    def environment(self) -> dict[str, str]:
        """For aws-cli, as `mallee env` exports it; no other cloud's keys or files leak in."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return clean | {
            "AWS_ENDPOINT_URL": self.access.endpoint,
            "AWS_ACCESS_KEY_ID": self.access.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.access.secret_access_key,
            "AWS_DEFAULT_REGION": self.access.region,
            "AWS_PAGER": "",
            "HOME": str(self.folder.root / "home"),
        }


Starting = Callable[..., TestCloud]


@pytest.fixture
def start_cloud(tmp_path: Path) -> Iterator[Starting]:
    """Starts clouds of this test's own: `start_cloud("--zones", "1", "--instant")`."""
    with ExitStack() as running:

        def start(*options: str) -> TestCloud:
            number = sum(1 for _ in tmp_path.glob("cloud*"))
            made = TestCloud.start(tmp_path / f"cloud{number}", *options)
            running.callback(_end, made)
            return made

        yield start


@pytest.fixture(scope="session")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    made = TestCloud.start(tmp_path_factory.mktemp("cloud") / "state", "--instant")
    try:
        yield made
    finally:
        _end(made)


@pytest.fixture
def cloud(shared_cloud: TestCloud) -> Iterator[TestCloud]:
    """A cloud whose guests change state at once, shared by tests; its first account is empty at the end."""
    yield shared_cloud
    shared_cloud.clear()


def _end(cloud: TestCloud) -> None:
    if cloud.process.poll() is None:
        cloud.stop()
