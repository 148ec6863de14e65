"""Attributes, metadata options, monitoring, status, console and types of instances."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.clc.db import instances
from mallee.kernel.errors import Fault, Kind
from tests.unit.clc.pretend_cloud import PretendCloud


async def attribute(pretend: PretendCloud, instance_id: str, name: str) -> dict[str, Any]:
    answer = await pretend.ask("DescribeInstanceAttribute", InstanceId=instance_id, Attribute=name)
    answer.pop("InstanceId")
    return answer


async def modify(pretend: PretendCloud, instance_id: str, **change: Any) -> None:
    await pretend.ask("ModifyInstanceAttribute", InstanceId=instance_id, **change)


async def code(pretend: PretendCloud, operation: str, **parameters: Any) -> str:
    with pytest.raises(AwsError) as error:
        await pretend.ask(operation, **parameters)
    return error.value.code


async def stopped(pretend: PretendCloud) -> str:
    (one,) = await pretend.run()
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    return one


async def test_the_type_of_a_stopped_instance_changes(pretend: PretendCloud) -> None:
    one = await stopped(pretend)
    await modify(pretend, one, InstanceType={"Value": "m5.large"})
    assert await attribute(pretend, one, "instanceType") == {"InstanceType": {"Value": "m5.large"}}
    details = instances.decode((await pretend.row(one)).details)
    assert (details.vcpus, details.memory_mib, details.credits) == (2, 8192, "")
    assert "<instanceType>m5.large</instanceType>" in await pretend.text(
        "DescribeInstances", InstanceIds=[one]
    )
    await pretend.ask("StartInstances", InstanceIds=[one])
    refused = await code(
        pretend, "ModifyInstanceAttribute", InstanceId=one, InstanceType={"Value": "t3.micro"}
    )
    assert refused == "IncorrectInstanceState"


async def test_user_data_changes_while_stopped(pretend: PretendCloud) -> None:
    one = await stopped(pretend)
    await modify(pretend, one, UserData={"Value": b"new"})
    assert await attribute(pretend, one, "userData") == {"UserData": {"Value": b64encode(b"new").decode()}}
    await modify(pretend, one, Attribute="userData", Value="")
    assert await attribute(pretend, one, "userData") == {"UserData": {}}


async def test_groups_and_address_checks_change_while_running(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    vpc = (await pretend.row(one)).vpc_id
    group = await pretend.ask("CreateSecurityGroup", GroupName="web", Description="d", VpcId=vpc)
    before = await pretend.text("DescribeInstances", InstanceIds=[one])
    await modify(pretend, one, Groups=[group["GroupId"]])
    await modify(pretend, one, SourceDestCheck={"Value": False})
    text = await pretend.text("DescribeInstances", InstanceIds=[one])
    assert before != text
    assert "<groupName>web</groupName>" in text
    assert "<sourceDestCheck>false</sourceDestCheck>" in text
    assert await code(pretend, "DeleteSecurityGroup", GroupId=group["GroupId"]) == "DependencyViolation"
    await pretend.ask("ResetInstanceAttribute", InstanceId=one, Attribute="sourceDestCheck")
    assert await attribute(pretend, one, "sourceDestCheck") == {"SourceDestCheck": {"Value": True}}


@pytest.mark.parametrize(
    ("name", "change", "shown"),
    [
        (
            "disableApiTermination",
            {"DisableApiTermination": {"Value": True}},
            {"DisableApiTermination": {"Value": True}},
        ),
        (
            "disableApiStop",
            {"Attribute": "disableApiStop", "Value": "true"},
            {"DisableApiStop": {"Value": True}},
        ),
        (
            "instanceInitiatedShutdownBehavior",
            {"InstanceInitiatedShutdownBehavior": {"Value": "terminate"}},
            {"InstanceInitiatedShutdownBehavior": {"Value": "terminate"}},
        ),
        ("enaSupport", {"EnaSupport": {"Value": True}}, {"EnaSupport": {"Value": True}}),
        ("rootDeviceName", {"EnaSupport": {"Value": True}}, {"RootDeviceName": {"Value": "/dev/sda1"}}),
    ],
)
async def test_other_attributes(
    pretend: PretendCloud, name: str, change: dict[str, Any], shown: dict[str, Any]
) -> None:
    (one,) = await pretend.run()
    await modify(pretend, one, **change)
    assert await attribute(pretend, one, name) == shown


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "InvalidParameterCombination"),
        ({"DisableApiStop": {"Value": True}, "EnaSupport": {"Value": True}}, "InvalidParameterCombination"),
        ({"Kernel": {"Value": "aki-1"}}, "UnsupportedOperation"),
        ({"EnaSupport": {"Value": False}}, "UnsupportedOperation"),
        ({"EnclaveOptions": {"Enabled": True}}, "UnsupportedOperation"),
        ({"InstanceInitiatedShutdownBehavior": {"Value": "dance"}}, "InvalidParameterValue"),
        ({"Groups": ["sg-0fffffffffffffff0"]}, "InvalidGroup.NotFound"),
        ({"UserData": {"Value": b"x"}}, "IncorrectInstanceState"),
    ],
)
async def test_changes_that_are_refused(pretend: PretendCloud, change: dict[str, Any], expected: str) -> None:
    (one,) = await pretend.run()
    assert await code(pretend, "ModifyInstanceAttribute", InstanceId=one, **change) == expected


async def test_metadata_options_and_monitoring(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    answer = await pretend.ask(
        "ModifyInstanceMetadataOptions", InstanceId=one, HttpTokens="required", HttpPutResponseHopLimit=2
    )
    assert answer["InstanceMetadataOptions"]["HttpTokens"] == "required"
    refused = await code(pretend, "ModifyInstanceMetadataOptions", InstanceId=one, HttpPutResponseHopLimit=0)
    assert refused == "InvalidParameterValue"
    await pretend.ask("MonitorInstances", InstanceIds=[one])
    assert "<monitoring><state>enabled" in await pretend.text("DescribeInstances", InstanceIds=[one])
    await pretend.ask("UnmonitorInstances", InstanceIds=[one])
    assert "<monitoring><state>disabled" in await pretend.text("DescribeInstances", InstanceIds=[one])


async def test_status_says_what_cannot_be_reached_and_what_moves(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    assert (await pretend.ask("DescribeInstanceStatus"))["InstanceStatuses"] == []
    everything = await pretend.ask("DescribeInstanceStatus", IncludeAllInstances=True)
    assert everything["InstanceStatuses"][0]["InstanceStatus"] == {"Status": "not-applicable"}
    await pretend.settle()
    row = await pretend.row(one)
    (status,) = (await pretend.ask("DescribeInstanceStatus"))["InstanceStatuses"]
    assert status["SystemStatus"]["Status"] == "ok"
    for cluster in pretend.clusters.values():
        cluster.failure = Fault(Kind.UNAVAILABLE, "The zone is away.")
    (unknown,) = (await pretend.ask("DescribeInstanceStatus"))["InstanceStatuses"]
    assert unknown["SystemStatus"] == unknown["InstanceStatus"]
    assert unknown["SystemStatus"]["Status"] == "insufficient-data"
    assert unknown["SystemStatus"]["Details"] == [{"Name": "reachability", "Status": "insufficient-data"}]
    for cluster in pretend.clusters.values():
        cluster.failure = None
    await pretend.facts.take([pretend.fact(row, reachable=False, migration_id="mig-0123")])
    impaired = [{"Name": "system-status.status", "Values": ["impaired"]}]
    (status,) = (await pretend.ask("DescribeInstanceStatus", Filters=impaired))["InstanceStatuses"]
    assert status["InstanceStatus"]["Details"][0]["Status"] == "failed"
    assert [event["Code"] for event in status["Events"]] == ["system-maintenance"]
    assert (await pretend.row(one)).state == 16


async def test_console_and_firmware(pretend: PretendCloud) -> None:
    (one,) = await pretend.run()
    answer = await pretend.ask("GetConsoleOutput", InstanceId=one)
    assert answer["Output"] == b64encode(f"hello from {one}".encode()).decode()
    assert await code(pretend, "GetInstanceUefiData", InstanceId=one) == "UnsupportedOperation"


async def test_types_and_offerings(pretend: PretendCloud) -> None:
    answer = await pretend.ask("DescribeInstanceTypes", InstanceTypes=["t3.micro"])
    (micro,) = answer["InstanceTypes"]
    assert micro["VCpuInfo"]["DefaultVCpus"] == 2
    assert micro["MemoryInfo"]["SizeInMiB"] == 1024
    filters = [
        {"Name": "vcpu-info.default-vcpus", "Values": ["16"]},
        {"Name": "hypervisor", "Values": ["nitro"]},
    ]
    found = await pretend.ask("DescribeInstanceTypes", Filters=filters)
    assert {each["InstanceType"] for each in found["InstanceTypes"]} >= {"m5.4xlarge", "c5.4xlarge"}
    assert await code(pretend, "DescribeInstanceTypes", InstanceTypes=["t9.x"]) == "InvalidInstanceType"
    names: list[str] = []
    token = None
    while True:
        more = {"NextToken": token} if token else {}
        page = await pretend.ask("DescribeInstanceTypes", MaxResults=20, **more)
        names += [each["InstanceType"] for each in page["InstanceTypes"]]
        token = page.get("NextToken")
        if token is None:
            break
    assert names == sorted(set(names)) == [kind.name for kind in pretend.cloud.types]
    offers = await pretend.ask(
        "DescribeInstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["t3.micro"]}],
    )
    assert [each["Location"] for each in offers["InstanceTypeOfferings"]] == ["mallee-1a", "mallee-1b"]
