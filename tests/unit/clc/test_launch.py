"""RunInstances: what it takes and refuses, capacity shared by many, one token one reservation."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.clc.db import instances, interfaces, network
from mallee.clc.errors import InsufficientInstanceCapacity
from mallee.kernel.db import Database
from mallee.kernel.errors import Fault, Kind
from tests.unit.clc.pretend_cloud import IMAGE, ZONES, PretendCloud, ids_in

ONE = {"MinCount": 1, "MaxCount": 1, "ImageId": IMAGE, "InstanceType": "t3.micro"}


@pytest.fixture
async def pretend(db: Database, tmp_path: Path) -> PretendCloud:
    """On each of the databases."""
    return await PretendCloud.make(db, tmp_path)


async def refused(pretend: PretendCloud, **parameters: Any) -> str:
    """The code of the refusal; nothing may be left behind."""
    before = [len(cluster.claims) for cluster in pretend.clusters.values()]
    with pytest.raises(AwsError) as error:
        await pretend.ask("RunInstances", **{**ONE, **parameters})
    assert [len(cluster.claims) for cluster in pretend.clusters.values()] == before
    return error.value.code


async def test_n_at_once_on_room_for_l_give_exactly_l(pretend: PretendCloud) -> None:
    for cluster in pretend.clusters.values():
        cluster.room = 7
    answers = await asyncio.gather(*(pretend.run() for _ in range(40)), return_exceptions=True)
    launched = [ids for ids in answers if isinstance(ids, list)]
    assert len(launched) == 14
    assert all(isinstance(each, list | InsufficientInstanceCapacity) for each in answers)
    assert sum(len(cluster.claims) for cluster in pretend.clusters.values()) == 14


async def test_fewer_than_wished_but_enough(pretend: PretendCloud) -> None:
    for cluster in pretend.clusters.values():
        cluster.room = 3
    text = await pretend.text("RunInstances", **{**ONE, "MinCount": 2, "MaxCount": 10})
    assert len(ids_in(text)) == 3
    text = await pretend.text("RunInstances", **{**ONE, "MinCount": 1, "MaxCount": 10})
    assert len(ids_in(text)) == 3  # the other zone
    assert await refused(pretend) == "InsufficientInstanceCapacity"


async def test_the_zone_with_most_room_is_taken(pretend: PretendCloud) -> None:
    pretend.clusters["mallee-1a"].room = 5
    pretend.clusters["mallee-1b"].room = 50
    (one,) = await pretend.run()
    assert (await pretend.row(one)).zone == "mallee-1b"
    (two,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    assert (await pretend.row(two)).zone == "mallee-1a"


async def test_a_zone_that_cannot_be_reached_is_passed_over(pretend: PretendCloud) -> None:
    pretend.clusters["mallee-1a"].failure = Fault(Kind.UNAVAILABLE, "gone")
    (one,) = await pretend.run()
    assert (await pretend.row(one)).zone == "mallee-1b"
    assert await refused(pretend, Placement={"AvailabilityZone": "mallee-1a"}) == "Unavailable"


async def test_one_token_is_one_reservation(pretend: PretendCloud) -> None:
    texts = await asyncio.gather(*(pretend.text("RunInstances", token="abc", **ONE) for _ in range(50)))
    assert len({tuple(ids_in(text)) for text in texts}) == 1
    assert sum(len(cluster.claims) for cluster in pretend.clusters.values()) == 1
    with pytest.raises(AwsError) as mismatch:
        await pretend.ask("RunInstances", token="abc", **{**ONE, "MaxCount": 2})
    assert mismatch.value.code == "IdempotentParameterMismatch"
    other = await pretend.account()
    assert ids_in(await pretend.text("RunInstances", token="abc", account=other, **ONE)) != ids_in(texts[0])


async def test_a_repeated_request_shows_the_newer_state(pretend: PretendCloud) -> None:
    first = await pretend.text("RunInstances", token="t", **ONE)
    await pretend.settle()
    again = await pretend.text("RunInstances", token="t", **ONE)
    assert ids_in(again) == ids_in(first)
    assert "<name>pending</name>" in first
    assert "<name>running</name>" in again


async def test_addresses_are_given_once_and_rest_when_released(pretend: PretendCloud) -> None:
    account = pretend.cloud.admin_account
    first = await pretend.run(5, Placement={"AvailabilityZone": "mallee-1a"})
    old = {row.private_address for row in await pretend.rows(*first)}
    await pretend.ask("TerminateInstances", InstanceIds=first)
    await pretend.settle()
    second = await pretend.run(5, Placement={"AvailabilityZone": "mallee-1a"})
    new = {row.private_address for row in await pretend.rows(*second)}
    assert len(new) == 5
    assert not old & new
    subnets = await pretend.cloud.db.read(lambda tx: network.default_subnets(tx, account))
    assert subnets[0].free == 4096 - 5 - 5


async def test_a_subnet_without_addresses_keeps_no_claim(pretend: PretendCloud) -> None:
    subnet = (
        await pretend.cloud.db.read(lambda tx: network.default_subnets(tx, pretend.cloud.admin_account))
    )[0]
    pretend.clusters["mallee-1a"].room = 10_000
    ids: list[str] = []
    for _ in range(4):
        ids += await pretend.run(1000, SubnetId=subnet.id)
    assert await refused(pretend, SubnetId=subnet.id, MinCount=92, MaxCount=92) == (
        "InsufficientFreeAddressesInSubnet"
    )
    ids += await pretend.run(91, SubnetId=subnet.id)
    addresses = {row.private_address for row in await pretend.rows(*ids)}
    assert len(addresses) == 4091
    gone = ids[100:103]
    await pretend.ask("TerminateInstances", InstanceIds=gone)
    await pretend.settle()
    again = await pretend.run(3, SubnetId=subnet.id)
    assert len({row.private_address for row in await pretend.rows(*again)}) == 3
    assert await refused(pretend, SubnetId=subnet.id) == "InsufficientFreeAddressesInSubnet"


async def test_a_wanted_address(pretend: PretendCloud) -> None:
    (one,) = await pretend.run(PrivateIpAddress="172.31.16.77")
    row = await pretend.row(one)
    assert (row.private_address, row.zone) == ("172.31.16.77", "mallee-1b")
    assert await refused(pretend, PrivateIpAddress="172.31.16.77") == "InvalidIPAddress.InUse"
    assert (
        await refused(pretend, PrivateIpAddress="172.31.16.78", MaxCount=2) == "InvalidParameterCombination"
    )


async def test_everything_that_is_asked_for_is_shown(pretend: PretendCloud) -> None:
    account = await pretend.account()
    data = b64encode(b"#!/bin/sh").decode()
    (one,) = await pretend.run(
        account=account,
        KeyName="mine",
        UserData=data,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "a & b"}]}],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3},
        Monitoring={"Enabled": True},
        CreditSpecification={"CpuCredits": "standard"},
        CpuOptions={"CoreCount": 1, "ThreadsPerCore": 1},
        NetworkInterfaces=[{"DeviceIndex": 0, "Description": "first", "DeleteOnTermination": True}],
    )
    text = await pretend.text("DescribeInstances", account=account, InstanceIds=[one])
    for part in (
        *("<keyName>mine</keyName>", "<value>a &amp; b</value>", "<httpTokens>required</httpTokens>"),
        *("<httpPutResponseHopLimit>3</httpPutResponseHopLimit>", "<state>enabled</state>"),
        *("<description>first</description>", "<coreCount>1</coreCount>"),
    ):
        assert part in text
    attribute = await pretend.ask(
        "DescribeInstanceAttribute", account=account, InstanceId=one, Attribute="userData"
    )
    assert attribute["UserData"] == {"Value": data}
    credits_ = await pretend.ask("DescribeInstanceCreditSpecifications", account=account, InstanceIds=[one])
    assert credits_["InstanceCreditSpecifications"] == [{"InstanceId": one, "CpuCredits": "standard"}]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"MinCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 0}, "InvalidParameterValue"),
        ({"MaxCount": 1001}, "InvalidParameterValue"),
        ({"InstanceType": "t9.huge"}, "InvalidInstanceType"),
        ({"ImageId": "ami-0fffffffffffffff0"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "emi-1"}, "InvalidAMIID.Malformed"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-0fffffffffffffff0"]}, "InvalidGroup.NotFound"),
        ({"SubnetId": "subnet-0fffffffffffffff0"}, "InvalidSubnetID.NotFound"),
        ({"Placement": {"AvailabilityZone": "moon"}}, "InvalidParameterValue"),
        ({"Placement": {"Tenancy": "dedicated"}}, "UnsupportedOperation"),
        ({"UserData": "???"}, "InvalidUserData.Malformed"),
        ({"UserData": "\U0001f998"}, "InvalidUserData.Malformed"),
        ({"UserData": b64encode(b"x" * 16385).decode()}, "InvalidParameterValue"),
        ({"HibernationOptions": {"Configured": True}}, "UnsupportedOperation"),
        (
            {"InstanceType": "m5.large", "CreditSpecification": {"CpuCredits": "unlimited"}},
            "InvalidParameterCombination",
        ),
        (
            {"NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": True}]},
            "UnsupportedOperation",
        ),
        ({"NetworkInterfaces": [{"DeviceIndex": 0}], "SubnetId": "subnet-1"}, "InvalidParameterCombination"),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, "InvalidParameterValue"),
        ({"CpuOptions": {"CoreCount": 9, "ThreadsPerCore": 1}}, "InvalidParameterValue"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1"}]}, "UnsupportedOperation"),
    ],
)
async def test_what_is_refused(pretend: PretendCloud, parameters: dict[str, Any], code: str) -> None:
    assert await refused(pretend, **parameters) == code


async def test_the_type_that_is_meant_where_none_is_named(pretend: PretendCloud) -> None:
    (one,) = await pretend.run(InstanceType="")
    assert (await pretend.row(one)).instance_type == "m1.small"


async def test_nodes_are_chosen_by_the_administrator_alone(pretend: PretendCloud) -> None:
    (one,) = await pretend.run(Placement={"HostId": "h-mallee-1a-9"})
    assert (await pretend.row(one)).host_id == "h-mallee-1a-9"
    other = await pretend.account()
    with pytest.raises(AwsError) as error:
        await pretend.run(account=other, Placement={"HostId": "h-mallee-1a-9"})
    assert error.value.code == "UnauthorizedOperation"


async def test_a_group_deleted_while_the_claim_was_made(pretend: PretendCloud) -> None:
    """What the request was checked against may be gone when it is written: nothing stays behind."""
    cluster = pretend.clusters["mallee-1a"]
    place = cluster.place

    async def slow(ask: Any) -> Any:
        placed = await place(ask)
        await pretend.cloud.db.transact(
            lambda tx: network.drop_account(tx, pretend.cloud.admin_account)  # everything is gone
        )
        return placed

    cluster.place = slow  # type: ignore[method-assign]
    with pytest.raises(Exception):  # noqa: B017 - whatever it is, nothing stays
        await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    assert cluster.claims == {}
    assert await pretend.cloud.db.read(lambda tx: instances.living(tx, ZONES[0])) == []


async def test_another_accounts_instance_does_not_exist(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    other = await pretend.account()
    missing = "i-0ffffffffffffffff"
    for operation, parameters in {
        "DescribeInstances": {"InstanceIds": [one]},
        "StopInstances": {"InstanceIds": [one]},
        "StartInstances": {"InstanceIds": [one]},
        "RebootInstances": {"InstanceIds": [one]},
        "TerminateInstances": {"InstanceIds": [one]},
        "DescribeInstanceStatus": {"InstanceIds": [one]},
        "GetConsoleOutput": {"InstanceId": one},
        "DescribeInstanceAttribute": {"InstanceId": one, "Attribute": "userData"},
        "ModifyInstanceAttribute": {"InstanceId": one, "DisableApiStop": {"Value": True}},
        "ModifyInstanceMetadataOptions": {"InstanceId": one, "HttpTokens": "required"},
        "MonitorInstances": {"InstanceIds": [one]},
        "GetInstanceUefiData": {"InstanceId": one},
    }.items():
        messages = []
        for instance_id in (one, missing):
            asked = {
                key: (
                    [instance_id] if key == "InstanceIds" else instance_id if key == "InstanceId" else value
                )
                for key, value in parameters.items()
            }
            with pytest.raises(AwsError) as error:
                await pretend.ask(operation, account=other, **asked)
            assert error.value.code == "InvalidInstanceID.NotFound", operation
            messages.append(error.value.message.replace(instance_id, "i"))
        assert messages[0] == messages[1]
    assert (await pretend.row(one)).state == 0
    assert await pretend.cloud.db.read(lambda tx: interfaces.of_instances(tx, other, [one])) == []


async def test_a_quota_is_not_passed_by_many_at_once(pretend: PretendCloud) -> None:
    object.__setattr__(pretend.cloud.config, "max_instances_per_account", 5)
    answers = await asyncio.gather(*(pretend.run() for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(each, list) for each in answers) == 5
    assert {each.code for each in answers if isinstance(each, AwsError)} == {"InstanceLimitExceeded"}
    assert sum(len(cluster.claims) for cluster in pretend.clusters.values()) == 5
