"""300,000 requests of every built action in every run, whole and half, right and wrong: never a 5xx, never a hang.

Everything goes through the whole pipeline, signature included. `MALLEE_FUZZ_REQUESTS=5000000` and
`MALLEE_FUZZ_SEED=2` make it longer and another one. What fails says its seed and its number; the same seed
sends the same requests to the same cloud.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa

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
from mallee.kernel.clock import SystemClock
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import SeededEntropy, resource_id
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_cloud import TABLES, ZONES, PretendCloud
from tests.wire.chance import Chance
from tests.wire.fuzzed_forms import Form, FormWriter, Known
from tests.wire.fuzzed_requests import SECRET, Requests, Sent

REQUESTS = int(os.environ.get("MALLEE_FUZZ_REQUESTS", "300000"))
SEED = int(os.environ.get("MALLEE_FUZZ_SEED", "1"))
PARTS = 6
HANG_SECONDS = 2.0
GROWTH_BYTES = 50 * 1024 * 1024
AFRESH = 1_500  # requests after which the cloud is again what it was at first
MODELS = {name: model.load(name) for name in TABLES}
ACTIONS = [(service, action) for service, table in TABLES.items() for action in table]
WRITERS = [(service, action, FormWriter(MODELS[service], action)) for service, action in ACTIONS]


class Door:
    """A front with every built action behind it, and clusters that do what they are told."""

    def __init__(self, pretend: PretendCloud, chance: Chance) -> None:
        self.pretend = pretend
        self.known = Known()
        self.codes = Counter[str]()
        self.sent = 0
        self.slowest = 0.0
        self.patience = HANG_SECONDS
        self._chance = chance
        self._requests = Requests(chance)
        self._first: dict[str, Sequence[Any]] = {}
        cloud = pretend.cloud
        account = cloud.admin_account
        self._root = Principal(account, f"arn:aws:iam::{account}:root", account, "AKIDEXAMPLE", is_root=True)
        services = {
            name: Service(table, Protocol(MODELS[name]), lambda request: Call(request, cloud))
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
        return Key(SECRET, self._root) if access_key_id == "AKIDEXAMPLE" else None

    async def ask(self) -> None:
        """One request, and what must hold of its answer."""
        service, action, writer = self._chance.of(WRITERS)
        form = self._form(service, action, writer)
        sent = self._requests.make(service, self.moment(), form)
        answer = await self._send(sent)
        if answer is None:
            assert not sent.whole, self._said(action, sent)
            return
        status, body = answer
        assert status < 500, f"{self._said(action, sent)}: {body[:300]!r}"
        if sent.method == "HEAD":
            return
        root = ET.fromstring(body)
        code = root.findtext(".//{*}Code") if status >= 400 else "fine"
        assert code, f"{self._said(action, sent)}: {body[:300]!r}"
        self.codes[f"{action.name} {code}"] += 1
        if status == 200:
            self.known.learn(body.decode())

    async def code(self, action: str, form: Form, *, whole: bool = False) -> str:
        """The error code of a well-signed request of EC2, '' for none; `whole` when the form names its action."""
        head = [] if whole else [("Action", action), ("Version", MODELS["ec2"].version)]
        sent = self._requests.plain("ec2", self.moment(), head + self.known.fill(form))
        return await self.code_of(sent)

    async def code_of(self, sent: Sent, *, stalls: bool = False) -> str:
        """The same of any request; one that `stalls` sends nothing more and does not go away."""
        answer = await self._send(sent, stalls=stalls)
        assert answer is not None
        self.known.learn(answer[1].decode())
        return ET.fromstring(answer[1]).findtext(".//{*}Code") or "" if answer[0] >= 400 else ""

    def _said(self, action: Action, sent: Sent) -> str:
        return f"seed {SEED}, request {self.sent}, {action.name}: {sent}"

    def _form(self, service: str, action: Action, writer: FormWriter) -> list[tuple[str, str]]:
        head = [("Action", action.name), ("Version", MODELS[service].version)]
        return head + self.known.fill(writer.draw(self._chance))

    def moment(self) -> str:
        return self.pretend.clock.now().strftime("%Y%m%dT%H%M%SZ")

    async def _send(self, sent: Sent, *, stalls: bool = False) -> tuple[int, bytes] | None:
        self.sent += 1
        answered: list[Any] = []
        parts = iter(sent.parts)
        left = len(sent.parts)

        async def receive() -> dict[str, Any]:
            nonlocal left
            left -= 1
            if stalls:
                await asyncio.Event().wait()
            if left < 0:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": next(parts), "more_body": left > 0 or not sent.whole}

        async def send(message: Any) -> None:
            answered.append(message)

        began = time.process_time()
        await self._front(sent.scope(), receive, send)
        self.slowest = max(self.slowest, time.process_time() - began)
        return (answered[0]["status"], answered[1]["body"]) if answered else None

    async def go_on(self) -> None:
        """Let the zones do what was wished, and keep something there to be asked for."""
        await self.pretend.settle()
        if self.sent % 200 == 0 or not self.known.ids["@i"]:
            await self.furnish()
        if self.sent % AFRESH == 0:
            await self.pretend.cloud.db.transact(self._back_to_the_first_day)

    async def furnish(self) -> None:
        """An image and two instances of it, whatever became of those that were there."""
        cloud = self.pretend.cloud
        image = resource_id(cloud.entropy, "ami")
        public = Image(image, cloud.admin_account, "amazon", image, "", "builtin:tiny", public=True)
        await cloud.db.transact(lambda tx: images.add(tx, public))
        self.known.ids["@i"].extend(await self.pretend.run(2, ImageId=image))

    async def open(self) -> None:
        await self.furnish()
        await self.pretend.settle()
        self._first = await self.pretend.cloud.db.read(everything)
        for zone in ZONES:
            self.known.ids["@h"].extend(node.host_id for node in nodes_of(zone))

    def _back_to_the_first_day(self, tx: Tx) -> None:
        for table in reversed(metadata.sorted_tables):
            tx.execute(sa.delete(table))
        for table in metadata.sorted_tables:
            if rows := self._first[table.name]:
                tx.execute(sa.insert(table), rows)


def everything(tx: Tx) -> dict[str, Sequence[Any]]:
    tables = metadata.sorted_tables
    return {table.name: [dict(row._mapping) for row in tx.execute(sa.select(table))] for table in tables}


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


async def opened(folder: Path, chance: Chance) -> Door:
    db = await Database.open(f"sqlite:///{folder}/state.db", metadata=metadata, durable=False)
    pretend = await PretendCloud.make(db, folder)
    for zone, cluster in pretend.clusters.items():
        cluster.listed_nodes = nodes_of(zone)

        async def cordon(host_id: str, *, cordoned: bool, zone: str = zone) -> pb.Node:
            return pb.Node(host_id=host_id, zone=zone, state="cordoned" if cordoned else "ready")

        cluster.cordon = cordon  # type: ignore[method-assign]
    door = Door(pretend, chance)
    await door.open()
    return door


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def pass_time(door: Door) -> None:
    """Let whoever waits for the clock go on; whoever waits for anything else for two seconds hangs."""
    clock = SystemClock()
    seen = -1
    stuck = 0.0
    while True:
        await clock.sleep(0.05)
        await door.pretend.clock.advance(1.0)
        stuck = stuck + 0.05 if door.sent == seen else 0.0
        seen = door.sent
        assert stuck < door.patience, f"request {door.sent} of seed {SEED} hangs"


async def send_all(door: Door, requests: int) -> int:
    """Send them; by how many bytes the process grew after the first third."""
    settled = 0
    for number in range(requests):
        await door.ask()
        if number % 20 == 0:
            await door.go_on()
        if number == requests // 3:
            settled = resident()
    return resident() - settled


async def fuzz(door: Door, requests: int) -> int:
    """The same, with time passing, and an end when a request hangs."""
    sending = asyncio.create_task(send_all(door, requests))
    ticking = asyncio.create_task(pass_time(door))
    await asyncio.wait((sending, ticking), return_when=asyncio.FIRST_COMPLETED)
    if ticking.done():
        sending.cancel()
        await asyncio.wait((sending,))
        await ticking
    ticking.cancel()
    return await sending


@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_request_is_a_fault_of_ours(part: int, tmp_path: Path) -> None:
    async def run() -> None:
        door = await opened(tmp_path, Chance(1000 * SEED + part))
        try:
            grown = await fuzz(door, REQUESTS // PARTS)
        finally:
            await door.pretend.cloud.db.close()
        assert door.slowest < HANG_SECONDS
        assert grown < GROWTH_BYTES
        reached = {code.partition(" ")[0] for code in door.codes if code.endswith(" fine")}
        missed = sorted({action.name for _, action in ACTIONS} - reached)
        assert len(missed) <= len(ACTIONS) // 5, missed  # refusals alone would prove little

    asyncio.run(run())


async def test_a_hang_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = await opened(tmp_path, Chance(1))
    door.patience = 0.2
    stalling = Requests(Chance(1)).plain("ec2", door.moment(), [("Action", "DescribeRegions")])
    monkeypatch.setattr(door, "ask", lambda: door.code_of(stalling, stalls=True))
    with pytest.raises(AssertionError, match="hangs"):
        await fuzz(door, 5)
    await door.pretend.cloud.db.close()


async def test_a_fault_of_ours_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = await opened(tmp_path, Chance(1))
    monkeypatch.setattr(Call, "is_cloud_admin", property(lambda _call: 1 // 0))
    with pytest.raises(AssertionError, match="InternalError"):
        await fuzz(door, 2_000)
    await door.pretend.cloud.db.close()
