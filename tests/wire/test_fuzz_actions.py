"""Every built action gets forms of its own shape with wrong values: whatever they are, never a 5xx.

A few thousand cases in every run; `MALLEE_FUZZ_CASES=100000 pytest tests/wire/test_fuzz_actions.py` for a long one.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mallee.aws import model
from mallee.aws.actions import Action
from mallee.aws.context import Principal
from mallee.aws.protocol import Protocol
from mallee.aws.server import Front
from mallee.aws.service import Service
from mallee.aws.sigv4 import Key
from mallee.clc.authorise import RootOnly
from mallee.clc.call import Call
from mallee.clc.db import images
from mallee.clc.db.images import Image
from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy, resource_id
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_cloud import TABLES, ZONES, PretendCloud
from tests.wire.fuzzed_forms import Form, Known, forms

CASES = int(os.environ.get("MALLEE_FUZZ_CASES", "2500"))
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ACTIONS = [(service, action) for service, table in TABLES.items() for action in table]
MODELS = {name: model.load(name) for name in TABLES}
FORMS = {(service, action.name): forms(MODELS[service], action) for service, action in ACTIONS}


class Door:
    """A front with every built action behind it, and clusters that do what they are told."""

    def __init__(self, pretend: PretendCloud) -> None:
        self.pretend = pretend
        self.known = Known()
        self.codes = Counter[str]()
        self.sent = 0
        cloud = pretend.cloud
        self.wires = {name: Protocol(each) for name, each in MODELS.items()}
        account = cloud.admin_account
        self._root = Principal(account, f"arn:aws:iam::{account}:root", account, "AKIDEXAMPLE", is_root=True)
        services = {
            name: Service(table, self.wires[name], lambda request: Call(request, cloud))
            for name, table in TABLES.items()
        }
        self._front = Front(
            services,
            keys=self,
            authoriser=RootOnly(account),
            clock=pretend.clock,
            entropy=SeededEntropy(1),
            access_log=False,
        )

    async def find(self, access_key_id: str) -> Key | None:
        return Key(SECRET, self._root)

    async def send(self, service: str, form: Form) -> tuple[int, bytes]:
        """A signed POST; status and body."""
        body = urlencode(form)
        made = AWSRequest(method="POST", url="http://localhost/", data=body)
        made.headers["Content-Type"] = "application/x-www-form-urlencoded"
        SigV4Auth(Credentials("AKIDEXAMPLE", SECRET), service, "mallee-1").add_auth(made)
        headers = [(name.lower().encode(), str(value).encode()) for name, value in made.headers.items()]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), *headers],
        }
        answered: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body.encode(), "more_body": False}

        async def send(message: Any) -> None:
            answered.append(message)

        await self._front(scope, receive, send)
        return answered[0]["status"], answered[1]["body"]

    async def ask(self, service: str, action: Action, form: Form) -> None:
        """One case, and what must hold of its answer."""
        self.sent += 1
        head = [("Action", action.name), ("Version", self.wires[service].model.version)]
        sent = self.known.fill(form)
        status, body = await self.send(service, head + sent)
        said = f"{service} {action.name} {[(name[:80], value[:80]) for name, value in sent]}: {body[:300]!r}"
        assert status < 500, said
        root = ET.fromstring(body)
        code = root.findtext(".//{*}Code") if status >= 400 else "fine"
        assert code, said
        self.codes[f"{action.name} {code}"] += 1
        if status == 200:
            self.known.learn(body.decode())
        if self.sent % 20 == 0:
            await self._go_on()

    async def _go_on(self) -> None:
        """Let the zones do what was wished, and keep something there to be asked for."""
        await self.pretend.settle()
        await self.pretend.clock.advance(1.0)
        if self.sent % 200 == 0 or not self.known.ids["@i"]:
            await self.furnish()

    async def furnish(self) -> None:
        """An image and two instances of it, whatever became of those that were there."""
        cloud = self.pretend.cloud
        image = resource_id(cloud.entropy, "ami")
        public = Image(image, cloud.admin_account, "amazon", image, "", "builtin:tiny", public=True)
        await cloud.db.transact(lambda tx: images.add(tx, public))
        self.known.ids["@i"].extend(await self.pretend.run(2, ImageId=image))


def nodes_of(zone: str) -> list[pb.Node]:
    size = common_pb2.Resources(vcpus=1000, memory_mib=1_000_000)
    return [
        pb.Node(
            host_id=f"h-{zone}-{n}",
            name=f"{zone}-node-{n}",
            zone=zone,
            state="ready",
            capacity=size,
            free=size,
        )
        for n in range(3)
    ]


async def opened(folder: Path) -> Door:
    db = await Database.open(
        os.environ.get("MALLEE_FUZZ_DATABASE", f"sqlite:///{folder}/state.db"),
        metadata=metadata,
        durable=False,
    )
    pretend = await PretendCloud.make(db, folder)
    for zone, cluster in pretend.clusters.items():
        cluster.listed_nodes = nodes_of(zone)

        async def cordon(host_id: str, *, cordoned: bool, zone: str = zone) -> pb.Node:
            return pb.Node(host_id=host_id, zone=zone, state="cordoned" if cordoned else "ready")

        cluster.cordon = cordon  # type: ignore[method-assign]
    door = Door(pretend)
    await door.furnish()
    await pretend.settle()
    for zone in ZONES:
        door.known.ids["@h"].extend(node.host_id for node in nodes_of(zone))
    for action in ("DescribeInstances", "DescribeSubnets", "DescribeSecurityGroups", "DescribeImages"):
        await door.ask("ec2", TABLES["ec2"].handlers[action], [])
    return door


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def door(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = runner.run(opened(tmp_path_factory.mktemp("fuzz")))
    with pytest.MonkeyPatch.context() as patch:
        now = made.pretend.clock.now
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: now().replace(tzinfo=None))
        yield made
    runner.run(made.pretend.cloud.db.close())


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Action, Form]:
    service, action = draw(st.sampled_from(ACTIONS))
    return service, action, draw(FORMS[service, action.name])


# What is there when a case is sent depends on those before it, so there is nothing to shrink to.
@pytest.mark.timeout(3 * 3600)
@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(case=cases())
def test_no_value_of_a_parameter_is_a_fault_of_ours(case: Any, door: Door, runner: asyncio.Runner) -> None:
    service, action, form = case
    runner.run(door.ask(service, action, form))


def test_most_actions_were_reached(door: Door) -> None:
    """Refusals alone would prove little."""
    reached = {code.partition(" ")[0] for code in door.codes if code.endswith(" fine")}
    missed = sorted({action.name for _, action in ACTIONS} - reached)
    assert len(missed) <= len(ACTIONS) // 5, missed
