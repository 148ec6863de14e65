"""Many at once make the same thing: one does, the others hear the documented word, on either database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Database
from tests.unit.clc.as_a_client import Client
from tests.unit.clc.pretend_cloud import PretendCloud
from tests.unit.clc.pretend_objects import LOCATION

Ask = Callable[[int], Coroutine[Any, Any, Any]]


@pytest.fixture
async def admin(database_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    async with await Database.open(database_url, metadata=metadata, durable=False) as db:
        pretend = await PretendCloud.make(db, tmp_path)
        yield Client.root(pretend.cloud, pretend.cloud.admin_account)


async def race(ask: Ask, runners: int = 12) -> Counter[str]:
    """What the runners heard; an empty word for one that did it."""

    async def run(number: int) -> str:
        try:
            await ask(number)
        except AwsError as error:
            return error.code
        return ""

    return Counter(await asyncio.gather(*(run(number) for number in range(runners))))


async def test_one_makes_it_and_the_others_hear_of_it(admin: Client) -> None:
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ec2, iam = admin.ec2, admin.iam
    group = (await ec2("CreateSecurityGroup", GroupName="held", Description="d"))["GroupId"]
    makers: tuple[tuple[Ask, str], ...] = (
        (
            lambda _: ec2("CreateSecurityGroup", GroupName="web", Description="d"),
            "InvalidGroup.Duplicate",
        ),
        (lambda _: ec2("CreateKeyPair", KeyName="k", KeyType="ed25519"), "InvalidKeyPair.Duplicate"),
        (lambda _: ec2("RegisterImage", Name="image", ImageLocation=LOCATION), "InvalidAMIName.Duplicate"),
        (
            lambda _: ec2("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[ssh]),
            "InvalidPermission.Duplicate",
        ),
        (lambda _: iam("CreateUser", UserName="ada"), "EntityAlreadyExists"),
        (lambda _: iam("CreateAccount", AccountName="new"), "EntityAlreadyExists"),
        (lambda _: ec2("DeleteSecurityGroup", GroupId=group), "InvalidGroup.NotFound"),
    )
    for ask, refusal in makers:
        assert await race(ask) == {"": 1, refusal: 11}


async def test_no_limit_is_overrun(admin: Client) -> None:
    await admin.iam("CreateUser", UserName="ada")
    heard = await race(lambda _: admin.iam("CreateAccessKey", UserName="ada"))
    assert heard == {"": 2, "LimitExceeded": 10}

    image = (await admin.ec2("RegisterImage", Name="image", ImageLocation=LOCATION))["ImageId"]

    async def tag(number: int) -> None:
        five = [{"Key": f"{number}-{each}", "Value": ""} for each in range(5)]
        await admin.ec2("CreateTags", Resources=[image], Tags=five)

    assert await race(tag) == {"": 10, "TagLimitExceeded": 2}
