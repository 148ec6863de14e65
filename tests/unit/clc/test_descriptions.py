"""What a running guest is told may change; who guards it is told to its zone."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.clc import orders
from mallee.clc.db import guards
from mallee.clc.instance import Operation, State
from mallee.domain.guest import Power
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_cloud import PretendCloud

ANYWHERE = [{"CidrIp": "0.0.0.0/0"}]


async def running(pretend: PretendCloud, **launch: Any) -> str:
    (one,) = await pretend.run(**launch)
    await pretend.settle()
    return one


async def state(pretend: PretendCloud, one: str) -> str:
    shown = await pretend.text("DescribeInstances", InstanceIds=[one])
    return shown.partition("<metadataOptions><state>")[2].partition("<")[0]


async def described(pretend: PretendCloud, one: str) -> common_pb2.Guest:
    (wish,) = await pretend.cloud.db.read(lambda tx: orders.desired(tx, [one]))
    return common_pb2.Guest.FromString(wish.guest)


async def test_options_of_a_running_guest_are_pending_until_its_node_has_them(pretend: PretendCloud) -> None:
    one = await running(pretend)
    before = await pretend.row(one)
    answer = await pretend.ask(
        "ModifyInstanceMetadataOptions", InstanceId=one, HttpTokens="required", HttpPutResponseHopLimit=2
    )
    assert answer["InstanceMetadataOptions"]["State"] == "pending"
    row = await pretend.row(one)
    assert (row.revision, row.unsettled, row.operation) == (before.revision + 1, True, Operation.DESCRIBE)
    guest = await described(pretend, one)
    assert (guest.metadata.tokens_required, guest.metadata.hop_limit) == (True, 2)
    assert guest.description == row.revision

    # The zone has taken the wish over, and the node has not heard of it yet.
    await pretend.facts.take([pretend.fact(row, description=0)])
    assert await state(pretend, one) == "pending"
    await pretend.facts.take([pretend.fact(row, description=row.revision)])
    assert await state(pretend, one) == "applied"
    row = await pretend.row(one)
    assert (row.unsettled, row.operation, row.state) == (False, Operation.NONE, State.RUNNING)


async def test_the_same_options_again_are_no_wish(pretend: PretendCloud) -> None:
    one = await running(pretend)
    before = await pretend.row(one)
    await pretend.ask("ModifyInstanceMetadataOptions", InstanceId=one, HttpTokens="optional")
    assert (await pretend.row(one)).revision == before.revision


async def test_a_stopped_guest_is_described_anew_when_it_starts(pretend: PretendCloud) -> None:
    one = await running(pretend)
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    await pretend.ask("ModifyInstanceMetadataOptions", InstanceId=one, HttpEndpoint="disabled")
    row = await pretend.row(one)
    assert (row.unsettled, row.power) == (False, Power.STOPPED)
    assert await state(pretend, one) == "applied"
    await pretend.ask("StartInstances", InstanceIds=[one])
    assert (await described(pretend, one)).metadata.disabled


async def test_a_reboot_that_comes_between_does_not_lose_the_description(pretend: PretendCloud) -> None:
    one = await running(pretend)
    await pretend.ask("ModifyInstanceMetadataOptions", InstanceId=one, HttpTokens="required")
    await pretend.ask("RebootInstances", InstanceIds=[one])
    row = await pretend.row(one)
    await pretend.facts.take([pretend.fact(row, description=0)])
    row = await pretend.row(one)
    assert (row.unsettled, row.operation) == (True, Operation.DESCRIBE)
    await pretend.facts.take([pretend.fact(row, description=row.revision)])
    assert not (await pretend.row(one)).unsettled


async def test_tags_reach_a_guest_that_shows_them(pretend: PretendCloud) -> None:
    tagged = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}]}]
    one = await running(
        pretend, MetadataOptions={"InstanceMetadataTags": "enabled"}, TagSpecifications=tagged
    )
    assert dict((await described(pretend, one)).metadata.user_tags) == {"Name": "web"}
    await pretend.ask("CreateTags", Resources=[one], Tags=[{"Key": "ort", "Value": "x"}])
    row = await pretend.row(one)
    assert (row.unsettled, row.operation) == (True, Operation.DESCRIBE)
    assert dict((await described(pretend, one)).metadata.user_tags) == {"Name": "web", "ort": "x"}
    await pretend.ask("DeleteTags", Resources=[one], Tags=[{"Key": "Name"}])
    assert dict((await described(pretend, one)).metadata.user_tags) == {"ort": "x"}
    with pytest.raises(AwsError, match="not a valid tag key"):
        await pretend.ask("CreateTags", Resources=[one], Tags=[{"Key": "a/b", "Value": ""}])


async def test_tags_of_a_guest_that_shows_none_are_none_of_its_business(pretend: PretendCloud) -> None:
    one = await running(pretend)
    before = await pretend.row(one)
    await pretend.ask("CreateTags", Resources=[one], Tags=[{"Key": "a b/c", "Value": "x"}])
    assert (await pretend.row(one)).revision == before.revision
    with pytest.raises(AwsError, match="not a valid tag key"):
        await pretend.ask("ModifyInstanceMetadataOptions", InstanceId=one, InstanceMetadataTags="enabled")


async def test_a_plain_guest_says_nothing_of_options(pretend: PretendCloud) -> None:
    guest = await described(pretend, await running(pretend))
    assert not guest.HasField("metadata")
    assert guest.description == 0


async def test_a_screen_is_shown_of_what_runs(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    with pytest.raises(AwsError, match="not in the 'running' state"):
        await pretend.ask("GetConsoleScreenshot", InstanceId=one)
    await pretend.settle()
    answer = await pretend.ask("GetConsoleScreenshot", InstanceId=one, WakeUp=True)
    assert b64decode(answer["ImageData"]) == f"screen of {one}".encode()


async def test_a_zone_hears_of_its_guests_their_groups_and_every_rule(pretend: PretendCloud) -> None:
    made = await pretend.ask("CreateSecurityGroup", GroupName="web", Description="web")
    web = made["GroupId"]
    permissions = [
        {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 81, "IpRanges": ANYWHERE},
        {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": web}]},
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
    ]
    await pretend.ask("AuthorizeSecurityGroupIngress", GroupId=web, IpPermissions=permissions)
    one = await running(pretend, SecurityGroupIds=[web])
    zone = (await pretend.row(one)).zone

    told = await pretend.cloud.db.read(lambda tx: guards.of_zone(tx, zone))
    (guest,) = told.guests
    assert guest.instance_id == one
    assert guest.address == (await pretend.row(one)).private_address
    assert list(guest.group_ids) == [web]
    (group,) = told.groups
    ways = {
        (each.egress, each.protocol, each.from_port, each.to_port, each.cidr, each.peer_group_id)
        for each in group.rules
    }
    assert ways == {
        (True, "-1", -1, -1, "0.0.0.0/0", ""),
        (False, "tcp", 80, 81, "0.0.0.0/0", ""),
        (False, "-1", -1, -1, "", web),
    }
    again = await pretend.cloud.db.read(lambda tx: guards.of_zone(tx, zone))
    assert again == told

    await pretend.ask("TerminateInstances", InstanceIds=[one])
    await pretend.settle()
    assert not (await pretend.cloud.db.read(lambda tx: guards.of_zone(tx, zone))).guests
