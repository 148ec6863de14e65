"""The controller as a whole: its first start, its second, and who may do what."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from mallee.aws.actions import Action
from mallee.aws.context import Principal
from mallee.aws.errors import AwsError, UnauthorizedOperation
from mallee.clc.app import CloudController, tables
from mallee.clc.authorise import RootOnly
from mallee.clc.bootstrap import BUILT_IN, FIRST_KEY
from mallee.clc.config import ClcConfig, ClusterConfig
from mallee.clc.db import images, network
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault
from mallee.kernel.rpc import Identity
from mallee.kernel.rpc.memory import MemoryTransport
from tests.unit.clc.pretend_cloud import PretendCloud

CONFIG = ClcConfig(port=0, clusters=(ClusterConfig("mallee-1a", "cc:1"), ClusterConfig("mallee-1b", "cc:2")))


def controller(folder: Path, config: ClcConfig = CONFIG, seed: int = 1) -> CloudController:
    clock = ManualClock()
    return CloudController(
        config,
        Identity("mallee", "clc", "clc"),
        folder=folder,
        clock=clock,
        entropy=SeededEntropy(seed),
        transport=MemoryTransport(clock),
    )


async def test_a_second_start_finds_the_cloud_as_it_was(tmp_path: Path) -> None:
    first = controller(tmp_path / "clc")
    await first.start()
    key = json.loads((tmp_path / "clc" / FIRST_KEY).read_text())
    assert first.cloud is not None
    account, token = first.cloud.admin_account, first.cloud.pages
    await first.stop()
    await first.stop()
    assert stat.S_IMODE((tmp_path / "clc" / FIRST_KEY).stat().st_mode) == 0o600

    second = controller(tmp_path / "clc", seed=2)
    await second.start()
    cloud = second.cloud
    assert cloud is not None
    assert json.loads((tmp_path / "clc" / FIRST_KEY).read_text()) == key
    assert cloud.admin_account == account
    assert cloud.pages._key == token._key
    assert [image.id for image in await cloud.db.read(lambda tx: images.page(tx, account))] == [BUILT_IN]
    subnets = await cloud.db.read(lambda tx: network.default_subnets(tx, account))
    assert [subnet.zone for subnet in subnets] == ["mallee-1a", "mallee-1b"]
    found = await cloud.keys.find(key["access_key_id"])
    assert found is not None
    assert found.principal.is_root
    await second.stop()


async def test_a_port_that_is_taken_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = ClcConfig(port=taken.getsockname()[1], clusters=CONFIG.clusters)
        with pytest.raises(Fault) as fault:
            await controller(tmp_path, config).start()
    assert fault.value.code == "address-in-use"
    assert fault.value.fix


def test_every_action_of_every_table_is_one_of_the_model() -> None:
    from mallee.aws import model

    for name, table in tables().items():
        table.verify(model.load(name))


async def allowed(pretend: PretendCloud, who: Principal, operation: str, **parameters: Any) -> bool:
    request = pretend.request(operation, who.account_id, None, {})
    request.principal = who
    action: Action = tables()["ec2"].handlers[operation]
    try:
        await RootOnly(pretend.cloud.admin_account).authorise(request, action, parameters)
    except UnauthorizedOperation:
        return False
    return True


async def test_a_refusal_says_who_may_not_do_what(pretend: PretendCloud) -> None:
    arn = "arn:aws:iam::111111111111:user/ada"
    request = pretend.request("RunInstances", "111111111111", None, {})
    request.principal = Principal("111111111111", arn, "AIDA1", "AKIA1")
    authoriser = RootOnly(pretend.cloud.admin_account)
    said = {
        "ec2": "You are not authorized to perform this operation. User: "
        f"{arn} is not authorized to perform: ec2:RunInstances because no identity-based policy allows the "
        "ec2:RunInstances action.",
        "iam": f"User: {arn} is not authorized to perform: iam:ListUsers because no identity-based policy "
        "allows the iam:ListUsers action.",
    }
    for service, operation in (("ec2", "RunInstances"), ("iam", "ListUsers")):
        request.service = service
        with pytest.raises(AwsError) as denied:
            await authoriser.authorise(request, tables()[service].handlers[operation], {})
        assert denied.value.message.startswith(said[service])
        assert denied.value.status == 403
        assert denied.value.code == ("UnauthorizedOperation" if service == "ec2" else "AccessDenied")


async def test_roots_do_everything_and_users_nothing(pretend: PretendCloud) -> None:
    admin, other = pretend.cloud.admin_account, "111111111111"

    def root(account: str) -> Principal:
        return Principal(account, f"arn:aws:iam::{account}:root", account, "AKIA", is_root=True)

    user = Principal(admin, f"arn:aws:iam::{admin}:user/ada", "AIDA", "AKIA")
    assert await allowed(pretend, root(other), "RunInstances")
    assert not await allowed(pretend, user, "DescribeInstances")
    assert await allowed(pretend, root(admin), "MigrateInstances")
    assert not await allowed(pretend, root(other), "MigrateInstances")
    assert not await allowed(pretend, root(other), "RunInstances", Placement={"HostId": "h-1"})
    assert not await allowed(pretend, root(other), "ModifyInstancePlacement", HostId="h-1")
