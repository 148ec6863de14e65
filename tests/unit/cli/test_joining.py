"""A machine becomes a node once with a token of the cloud's, over the enrolment port of a real CLC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mallee.clc.app import CloudController
from mallee.clc.config import ClcConfig, ClusterConfig
from mallee.cli.joining import join, joined, renew_for_ever
from mallee.cli.ports import any_free
from mallee.cli.state import StateFolder
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SystemEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import Authority, IssuedKeys, StoredKeys
from mallee.kernel.rpc import Identity
from mallee.kernel.rpc.grpc_transport import GrpcTransport

ZONE, NODE, CLOCK = "mallee-1a", "far-1", SystemClock()


@pytest.fixture
async def clc(tmp_path: Path) -> AsyncIterator[CloudController]:
    authority = Authority.open(tmp_path / "keys", "mallee", CLOCK)
    config = ClcConfig(
        port=0,
        address=f"127.0.0.1:{any_free()}",
        enrolment_address="127.0.0.1:0",
        clusters=(ClusterConfig(ZONE, "cc.example:8775"),),
    )
    controller = CloudController(
        config,
        Identity("mallee", "clc", "clc"),
        folder=tmp_path / "clc",
        clock=CLOCK,
        entropy=SystemEntropy(),
        transport=GrpcTransport(IssuedKeys(authority.issue, CLOCK)),
        authority=authority,
    )
    await controller.start()
    yield controller
    await controller.stop()


def machine(root: Path) -> StateFolder:
    folder = StateFolder(root)
    folder.make()
    return folder


async def token(clc: CloudController) -> str:
    assert clc.cloud is not None
    assert clc.cloud.enrolment is not None
    return await clc.cloud.enrolment.token(ZONE, NODE)


async def test_a_token_makes_a_node(clc: CloudController, tmp_path: Path) -> None:
    folder = machine(tmp_path / "node")

    where = await join(folder, await token(clc), CLOCK)

    assert (where.zone, where.node, where.cluster) == (ZONE, NODE, "cc.example:8775")
    assert joined(folder) == where
    assert StoredKeys(folder.keys, CLOCK).current(where.identity)
    assert next(folder.keys.iterdir()).stat().st_mode & 0o777 == 0o600


async def test_a_token_is_good_once(clc: CloudController, tmp_path: Path) -> None:
    text = await token(clc)
    await join(machine(tmp_path / "first"), text, CLOCK)
    second = machine(tmp_path / "second")

    with pytest.raises(Fault) as refused:
        await join(second, text, CLOCK)

    assert refused.value.kind is Kind.FORBIDDEN
    assert joined(second) is None
    assert list(second.keys.iterdir()) == []


async def test_the_certificate_is_renewed_at_half_of_its_life(clc: CloudController, tmp_path: Path) -> None:
    folder = machine(tmp_path / "node")
    where = await join(folder, await token(clc), CLOCK)
    looked = asyncio.Event()

    class Later(SystemClock):
        """Half a day on, for the node alone; it looks once."""

        def now(self) -> datetime:
            return super().now() + timedelta(hours=13)

        async def sleep(self, seconds: float) -> None:
            looked.set()
            await asyncio.get_running_loop().create_future()

    keys = StoredKeys(folder.keys, Later())
    before = keys.current(where.identity)
    work = asyncio.create_task(renew_for_ever(where, keys, GrpcTransport(keys), Later()))
    async with asyncio.timeout(10):
        await looked.wait()
    work.cancel()

    assert keys.current(where.identity).certificate != before.certificate


async def test_half_a_token_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="not a join token"):
        await join(machine(tmp_path / "node"), "mallee-join.AAAA", CLOCK)
