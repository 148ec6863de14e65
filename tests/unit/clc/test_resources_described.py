"""Images, tags, zones, the network: as they are described, and who may see what."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.clc.as_a_client import Client, refused
from tests.unit.clc.pretend_cloud import IMAGE, PretendCloud
from tests.unit.clc.pretend_objects import LOCATION


async def an_image(client: Client, name: str = "mine", **more: Any) -> str:
    made = await client.ec2("RegisterImage", Name=name, ImageLocation=LOCATION, **more)
    return str(made["ImageId"])


async def found(client: Client, what: str, key: str, **how: Any) -> list[str]:
    answer = await client.ec2(f"Describe{what}", **how)
    return [one[key] for one in answer[what]]


def where(name: str, *values: str) -> dict[str, Any]:
    return {"Filters": [{"Name": name, "Values": list(values)}]}


# --- images -----------------------------------------------------------------------------------


async def test_an_image_is_registered_shown_and_forgotten(admin: Client) -> None:
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]
    image = await an_image(
        admin, Description="d", EnaSupport=True, ImdsSupport="v2.0", TagSpecifications=tags
    )
    (shown,) = (await admin.ec2("DescribeImages", ImageIds=[image]))["Images"]
    wanted = {
        "Name": "mine",
        "Description": "d",
        "ImageLocation": LOCATION,
        "Architecture": "x86_64",
        "RootDeviceType": "instance-store",
        "OwnerId": admin.principal.account_id,
        "State": "available",
        "Public": False,
        "ImdsSupport": "v2.0",
        "EnaSupport": True,
        "Tags": [{"Key": "a", "Value": "b"}],
        "CreationDate": "2026-01-01T00:00:00.000Z",
    }
    assert wanted.items() <= shown.items()
    with refused("InvalidAMIName.Duplicate", match=f"already in use by AMI {image}"):
        await an_image(admin)
    assert (await admin.ec2("DeregisterImage", ImageId=image))["Return"] is True
    with refused("InvalidAMIID.NotFound"):
        await admin.ec2("DescribeImages", ImageIds=[image])
    assert (await admin.ec2("DescribeTags"))["Tags"] == []


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"Name": "ab"}, "InvalidAMIName.Malformed"),
        ({"Name": "a" * 129}, "InvalidAMIName.Malformed"),
        ({"Name": "a&b"}, "InvalidAMIName.Malformed"),
        ({"Description": "d" * 256}, "InvalidParameterValue"),
        ({"ImageLocation": ""}, "MissingParameter"),
        ({"Architecture": "sparc"}, "InvalidParameterValue"),
        ({"VirtualizationType": "paravirtual"}, "UnsupportedOperation"),
        ({"VirtualizationType": "x"}, "InvalidParameterValue"),
        ({"RootDeviceName": "../sda"}, "InvalidParameterValue"),
        ({"ImdsSupport": "v1.0"}, "InvalidParameterValue"),
        ({"BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-1"}}]}, "UnsupportedOperation"),
        ({"BootMode": "uefi"}, "UnsupportedOperation"),
        ({"TpmSupport": "v2.0"}, "UnsupportedOperation"),
        ({"KernelId": "aki-1"}, "InvalidAMIID.Malformed"),
        ({"BillingProducts": ["x"]}, "UnsupportedOperation"),
    ],
)
async def test_what_is_no_image_is_refused(admin: Client, parameters: dict[str, Any], code: str) -> None:
    with refused(code):
        await admin.ec2("RegisterImage", **{"Name": "mine", "ImageLocation": LOCATION} | parameters)


async def test_images_are_found_by_owner(admin: Client, stranger: Client) -> None:
    mine, theirs = await an_image(admin), await an_image(stranger)

    async def ids(client: Client, **how: Any) -> set[str]:
        return set(await found(client, "Images", "ImageId", **how))

    assert await ids(stranger) == {IMAGE, theirs}
    assert await ids(stranger, Owners=["self"]) == {theirs}
    assert await ids(stranger, Owners=["amazon"]) == {IMAGE}
    assert await ids(stranger, Owners=[admin.principal.account_id]) == {IMAGE}
    assert await ids(admin, Owners=["self"]) == {IMAGE, mine}
    assert await ids(admin, Owners=["aws-marketplace"]) == set()
    assert await ids(admin, ExecutableUsers=["all"]) == {IMAGE}
    assert await ids(admin, ExecutableUsers=["self"]) == set()
    with refused("InvalidUserID.Malformed"):
        await ids(admin, Owners=["nobody"])
    with refused("InvalidAMIID.NotFound", match=mine):
        await ids(stranger, ImageIds=[mine])
    with refused("InvalidAMIID.Malformed"):
        await ids(stranger, ImageIds=["image"])
    with refused("InvalidAMIID.NotFound"):
        await stranger.ec2("DeregisterImage", ImageId=mine)
    with refused("AuthFailure", match=f"Not authorized for image:{IMAGE}"):
        await stranger.ec2("DeregisterImage", ImageId=IMAGE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "mi*"),
        ("architecture", "arm64"),
        ("is-public", "false"),
        ("creation-date", "2026-01-01T*"),
        ("manifest-location", "bucket/*"),
        ("tag:a", "b"),
        ("tag-key", "a"),
    ],
)
async def test_images_are_found_by_filter(admin: Client, name: str, value: str) -> None:
    tags = [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}]
    image = await an_image(admin, Architecture="arm64", TagSpecifications=tags)
    assert await found(admin, "Images", "ImageId", Owners=["self"], **where(name, value)) == [image]


async def test_images_come_in_pages_of_what_is_meant(admin: Client) -> None:
    made = {await an_image(admin, f"image-{n}") for n in range(5)}
    seen: list[str] = []
    more: dict[str, Any] = {}
    for _ in range(3):
        answer = await admin.ec2("DescribeImages", MaxResults=2, **where("name", "image-*"), **more)
        seen += [image["ImageId"] for image in answer["Images"]]
        more = {"NextToken": answer.get("NextToken")}
    assert more == {"NextToken": None}
    assert set(seen) == made
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("attribute", "wanted"),
    [
        ("description", {"Description": {"Value": "d"}}),
        ("launchPermission", {"LaunchPermissions": []}),
        ("blockDeviceMapping", {"BlockDeviceMappings": []}),
        ("kernel", {"KernelId": {}}),
        ("deregistrationProtection", {"DeregistrationProtection": {"Value": "disabled"}}),
    ],
)
async def test_an_attribute_of_an_image(admin: Client, attribute: str, wanted: dict[str, Any]) -> None:
    image = await an_image(admin, Description="d")
    answer = await admin.ec2("DescribeImageAttribute", ImageId=image, Attribute=attribute)
    assert answer == {"ImageId": image, **wanted}


async def test_attributes_are_for_the_owner(admin: Client, stranger: Client) -> None:
    answer = await admin.ec2("DescribeImageAttribute", ImageId=IMAGE, Attribute="launchPermission")
    assert answer["LaunchPermissions"] == [{"Group": "all"}]
    with refused("AuthFailure"):
        await stranger.ec2("DescribeImageAttribute", ImageId=IMAGE, Attribute="description")
    with refused("InvalidParameterValue"):
        await admin.ec2("DescribeImageAttribute", ImageId=IMAGE, Attribute="colour")


# --- tags -------------------------------------------------------------------------------------


async def test_everything_that_is_there_can_be_tagged(pretend: PretendCloud, admin: Client) -> None:
    (instance,) = await pretend.run()
    (nic,) = await found(admin, "NetworkInterfaces", "NetworkInterfaceId")
    subnets = await found(admin, "Subnets", "SubnetId")
    (vpc,) = await found(admin, "Vpcs", "VpcId")
    (group,) = await found(admin, "SecurityGroups", "GroupId")
    rule = (await found(admin, "SecurityGroupRules", "SecurityGroupRuleId"))[0]
    key = (await admin.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519"))["KeyPairId"]
    image = await an_image(admin)
    before = (await pretend.row(instance)).version
    resources = [instance, nic, subnets[0], vpc, group, rule, key, image]
    await admin.ec2("CreateTags", Resources=resources, Tags=[{"Key": "team", "Value": "a"}])
    for what, name, one in (
        ("NetworkInterfaces", "NetworkInterfaceId", nic),
        ("Subnets", "SubnetId", subnets[0]),
        ("Vpcs", "VpcId", vpc),
        ("SecurityGroups", "GroupId", group),
        ("SecurityGroupRules", "SecurityGroupRuleId", rule),
        ("KeyPairs", "KeyPairId", key),
        ("Images", "ImageId", image),
    ):
        assert await found(admin, what, name, **where("tag:team", "a")) == [one], what
        assert await found(admin, what, name, **where("tag:team", "A")) == [], what
    listed = (await admin.ec2("DescribeTags", **where("key", "team")))["Tags"]
    assert {tag["ResourceId"] for tag in listed} == set(resources)
    assert {tag["ResourceType"] for tag in listed} >= {"instance", "security-group-rule", "key-pair", "image"}
    assert (await pretend.row(instance)).version > before


async def test_a_tag_of_an_interface_is_shown_with_its_instance(pretend: PretendCloud, admin: Client) -> None:
    (instance,) = await pretend.run()
    (nic,) = await found(admin, "NetworkInterfaces", "NetworkInterfaceId")
    before = (await pretend.row(instance)).version
    await admin.ec2("CreateTags", Resources=[nic], Tags=[{"Key": "a", "Value": "b"}])
    assert (await pretend.row(instance)).version > before


@pytest.mark.parametrize(
    ("operation", "member", "given", "code"),
    [
        ("DescribeImages", "ImageIds", "ami-zz", "InvalidAMIID.Malformed"),
        ("DescribeImages", "ImageIds", "ami-0123456789ABCDEF0", "InvalidAMIID.Malformed"),
        ("DescribeImages", "ImageIds", "ami-01234567\n", "InvalidAMIID.Malformed"),
        ("DescribeImages", "ImageIds", "ami-01234567", "InvalidAMIID.NotFound"),
        ("DescribeSecurityGroups", "GroupIds", "sg-zz", "InvalidGroupId.Malformed"),
        ("DescribeSecurityGroups", "GroupIds", "sg-01234567", "InvalidGroup.NotFound"),
        ("DescribeSecurityGroupRules", "SecurityGroupRuleIds", "sgr-zz", "InvalidSecurityGroupRuleId.Malformed"),
        ("DescribeNetworkInterfaces", "NetworkInterfaceIds", "eni-zz", "InvalidNetworkInterfaceId.Malformed"),
        ("DescribeNetworkInterfaces", "NetworkInterfaceIds", "x", "InvalidNetworkInterfaceId.Malformed"),
        ("DescribeSubnets", "SubnetIds", "subnet-zz", "InvalidSubnetID.NotFound"),  # EC2 has no other word
        ("DescribeVpcs", "VpcIds", "vpc-zz", "InvalidVpcID.NotFound"),
        ("DescribeKeyPairs", "KeyPairIds", "x", "InvalidKeyPair.NotFound"),
    ],
)  # fmt: skip
async def test_what_is_no_id_is_malformed(
    admin: Client, operation: str, member: str, given: str, code: str
) -> None:
    with refused(code):
        await admin.ec2(operation, **{member: [given]})


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("ami-01234567", "InvalidAMIID.NotFound"),
        ("i-01234567", "InvalidInstanceID.NotFound"),
        ("eni-01234567", "InvalidNetworkInterfaceID.NotFound"),
        ("key-01234567", "InvalidKeyPair.NotFound"),
        ("sg-01234567", "InvalidGroup.NotFound"),
        ("sgr-01234567", "InvalidSecurityGroupRuleId.NotFound"),
        ("subnet-01234567", "InvalidSubnetID.NotFound"),
        ("vpc-01234567", "InvalidVpcID.NotFound"),
        ("i-zz", "InvalidID"),
        ("vpc-", "InvalidID"),
        ("vol", "InvalidID"),
        ("x-0", "InvalidID"),
        (IMAGE, "InvalidAMIID.NotFound"),
    ],
)
async def test_what_is_not_there_is_not_tagged(stranger: Client, resource: str, code: str) -> None:
    image = await an_image(stranger)
    for operation in ("CreateTags", "DeleteTags"):
        with refused(code):
            await stranger.ec2(operation, Resources=[image, resource], Tags=[{"Key": "a", "Value": "b"}])
    assert (await stranger.ec2("DescribeTags"))["Tags"] == []


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([{"Key": "aws:x", "Value": ""}], "InvalidParameterValue"),
        ([{"Key": "AWS:x", "Value": ""}], "InvalidParameterValue"),
        ([{"Key": "", "Value": ""}], "InvalidParameterValue"),
        ([{"Key": "k" * 129, "Value": ""}], "InvalidParameterValue"),
        ([{"Key": "k", "Value": "v" * 257}], "InvalidParameterValue"),
        ([{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}], "InvalidParameterValue"),
        ([{"Key": f"k{n}", "Value": ""} for n in range(51)], "TagLimitExceeded"),
    ],
)
async def test_what_is_no_tag_is_refused(admin: Client, tags: list[dict[str, str]], code: str) -> None:
    with refused(code):
        await admin.ec2("CreateTags", Resources=[await an_image(admin)], Tags=tags)


async def test_fifty_tags_fit(admin: Client) -> None:
    image = await an_image(admin)
    fifty = [{"Key": "k" * 100 + str(n), "Value": "v" * 256} for n in range(50)]
    await admin.ec2("CreateTags", Resources=[image], Tags=fifty)
    await admin.ec2("CreateTags", Resources=[image], Tags=fifty[:1])
    with refused("TagLimitExceeded"):
        await admin.ec2("CreateTags", Resources=[image], Tags=[{"Key": "more", "Value": ""}])


async def test_tags_go_by_key_by_value_or_all(admin: Client) -> None:
    image = await an_image(admin)
    tags = [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": ""},
        {"Key": "c", "Value": "3"},
        {"Key": "d", "Value": "4"},
    ]
    await admin.ec2("CreateTags", Resources=[image], Tags=tags)

    async def left() -> str:
        return "".join(tag["Key"] for tag in (await admin.ec2("DescribeTags"))["Tags"])

    await admin.ec2("DeleteTags", Resources=[image], Tags=[{"Key": "a", "Value": ""}])
    assert await left() == "abcd"  # an empty value means the empty value
    await admin.ec2(
        "DeleteTags", Resources=[image], Tags=[{"Key": "b", "Value": ""}, {"Key": "a", "Value": "1"}]
    )
    assert await left() == "cd"
    await admin.ec2("DeleteTags", Resources=[image], Tags=[{"Key": "c"}])
    assert await left() == "d"
    await admin.ec2("DeleteTags", Resources=[image])
    assert await left() == ""


async def test_tags_are_listed_by_filter_and_page(admin: Client, stranger: Client) -> None:
    one, two = await an_image(admin, "one"), await an_image(admin, "two")
    for image, value in ((one, "x"), (two, "y")):
        tags = [{"Key": key, "Value": value} for key in "abc"]
        await admin.ec2("CreateTags", Resources=[image], Tags=tags)

    async def pairs(**how: Any) -> list[tuple[str, str]]:
        return [(tag["ResourceId"], tag["Key"]) for tag in (await admin.ec2("DescribeTags", **how))["Tags"]]

    everything = await pairs()
    assert everything == sorted(everything)
    assert len(everything) == 6
    assert await pairs(**where("resource-id", one)) == [(one, key) for key in "abc"]
    assert await pairs(**where("tag:a", "y")) == [(two, "a")]
    assert len(await pairs(**where("value", "x"))) == 3
    assert await pairs(**where("resource-type", "instance")) == []
    first = await admin.ec2("DescribeTags", MaxResults=5)
    assert await pairs(NextToken=first["NextToken"]) == everything[5:]
    assert (await stranger.ec2("DescribeTags"))["Tags"] == []


# --- where ------------------------------------------------------------------------------------


async def test_the_region_and_its_zones(pretend: PretendCloud, admin: Client) -> None:
    assert await found(admin, "Regions", "RegionName") == ["mallee-1"]
    assert await found(admin, "Regions", "Endpoint") == ["cloud.example:8773"], "where the caller reached it"
    assert await found(admin, "Regions", "RegionName", **where("region-name", "us-*")) == []
    with refused("InvalidParameterValue", match="us-east-1"):
        await found(admin, "Regions", "RegionName", RegionNames=["us-east-1"])

    assert await found(admin, "AvailabilityZones", "ZoneName") == ["mallee-1a", "mallee-1b"]
    assert await found(admin, "AvailabilityZones", "ZoneName", ZoneIds=["mallee-1-az2"]) == ["mallee-1b"]
    for wrong in ({"ZoneNames": ["x"]}, {"ZoneIds": ["x"]}):
        with refused("InvalidParameterValue"):
            await found(admin, "AvailabilityZones", "ZoneName", **wrong)
    pretend.clusters["mallee-1b"].failure = ConnectionError()
    assert await found(admin, "AvailabilityZones", "ZoneName", **where("state", "unavailable")) == [
        "mallee-1b"
    ]


async def test_what_an_account_may(admin: Client) -> None:
    (vpc,) = await found(admin, "Vpcs", "VpcId")
    answer = (await admin.ec2("DescribeAccountAttributes"))["AccountAttributes"]
    seen = {one["AttributeName"]: [v["AttributeValue"] for v in one["AttributeValues"]] for one in answer}
    assert seen == {
        "supported-platforms": ["VPC"],
        "default-vpc": [vpc],
        "vpc-max-security-groups-per-interface": ["5"],
        "max-elastic-ips": ["0"],
        "vpc-max-elastic-ips": ["0"],
    }
    answer = await admin.ec2("DescribeAccountAttributes", AttributeNames=["default-vpc"])
    assert len(answer["AccountAttributes"]) == 1
    with refused("InvalidParameterValue"):
        await admin.ec2("DescribeAccountAttributes", AttributeNames=["colour"])


async def test_the_default_network(pretend: PretendCloud, admin: Client) -> None:
    (vpc,) = (await admin.ec2("DescribeVpcs", **where("is-default", "true")))["Vpcs"]
    assert (vpc["CidrBlock"], vpc["IsDefault"], vpc["State"]) == ("172.31.0.0/18", True, "available")
    await pretend.run(3, Placement={"AvailabilityZone": "mallee-1a"})
    subnets = (await admin.ec2("DescribeSubnets", **where("vpc-id", vpc["VpcId"])))["Subnets"]
    by_zone = {subnet["AvailabilityZone"]: subnet for subnet in subnets}
    assert by_zone["mallee-1a"]["AvailableIpAddressCount"] == 4091 - 3
    assert by_zone["mallee-1b"]["AvailableIpAddressCount"] == 4091
    assert by_zone["mallee-1b"]["AvailabilityZoneId"] == "mallee-1-az2"
    for name, value in (
        ("availability-zone", "mallee-1a"),
        ("availabilityZone", "mallee-1a"),
        ("cidr", "172.31.0.0/20"),
        ("available-ip-address-count", "4088"),
        ("subnet-id", by_zone["mallee-1a"]["SubnetId"]),
    ):
        ids = await found(admin, "Subnets", "SubnetId", **where(name, value))
        assert ids == [by_zone["mallee-1a"]["SubnetId"]], name


async def test_interfaces_are_found_by_what_they_serve(pretend: PretendCloud, admin: Client) -> None:
    ids = await pretend.run(6, Placement={"AvailabilityZone": "mallee-1b"})
    nics = (await admin.ec2("DescribeNetworkInterfaces"))["NetworkInterfaces"]
    assert {nic["Attachment"]["InstanceId"] for nic in nics} == set(ids)
    one = nics[2]
    (group,) = await found(admin, "SecurityGroups", "GroupId")
    assert one["Groups"] == [{"GroupId": group, "GroupName": "default"}]
    for name, value in (
        ("attachment.instance-id", one["Attachment"]["InstanceId"]),
        ("network-interface-id", one["NetworkInterfaceId"]),
        ("private-ip-address", one["PrivateIpAddress"]),
        ("addresses.private-ip-address", one["PrivateIpAddress"]),
        ("mac-address", one["MacAddress"]),
        ("attachment.attachment-id", one["Attachment"]["AttachmentId"]),
        ("private-dns-name", one["PrivateDnsName"]),
    ):
        wanted = [one["NetworkInterfaceId"]]
        assert (
            await found(admin, "NetworkInterfaces", "NetworkInterfaceId", **where(name, value)) == wanted
        ), name
    for name, value in (
        ("group-id", group),
        ("subnet-id", one["SubnetId"]),
        ("availability-zone-id", "mallee-1-az2"),
        ("status", "in-use"),
        ("attachment.device-index", "0"),
        ("source-dest-check", "true"),
    ):
        assert (
            len(await found(admin, "NetworkInterfaces", "NetworkInterfaceId", **where(name, value))) == 6
        ), name
    first = await admin.ec2("DescribeNetworkInterfaces", MaxResults=5)
    assert len(first["NetworkInterfaces"]) == 5
    rest = await admin.ec2("DescribeNetworkInterfaces", NextToken=first["NextToken"])
    assert len(rest["NetworkInterfaces"]) == 1
    with refused("InvalidParameterCombination"):
        await admin.ec2("DescribeNetworkInterfaces", MaxResults=5, NetworkInterfaceIds=["eni-0"])


async def test_another_accounts_network_does_not_exist(
    pretend: PretendCloud, admin: Client, stranger: Client
) -> None:
    await pretend.run()
    for what, key, parameter, code in (
        ("Vpcs", "VpcId", "VpcIds", "InvalidVpcID.NotFound"),
        ("Subnets", "SubnetId", "SubnetIds", "InvalidSubnetID.NotFound"),
        (
            "NetworkInterfaces",
            "NetworkInterfaceId",
            "NetworkInterfaceIds",
            "InvalidNetworkInterfaceID.NotFound",
        ),
    ):
        (first, *_) = await found(admin, what, key)
        with refused(code, match=first):
            await stranger.ec2(f"Describe{what}", **{parameter: [first]})
        nobodys = f"{first.partition('-')[0]}-0123456789abcdef0"
        with refused(code, match=nobodys):
            await stranger.ec2(f"Describe{what}", **{parameter: [nobodys]})
