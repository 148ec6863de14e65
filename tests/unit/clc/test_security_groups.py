"""Security groups and their rules: normal forms, limits, what is in use, what is another's."""

from __future__ import annotations

from typing import Any

import pytest

from mallee.clc.db import security_groups
from tests.unit.clc.as_a_client import Client, refused
from tests.unit.clc.pretend_cloud import PretendCloud

WORLD = [{"CidrIp": "0.0.0.0/0"}]
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": WORLD}


async def a_group(client: Client, name: str = "web") -> str:
    made = await client.ec2("CreateSecurityGroup", GroupName=name, Description="d")
    return str(made["GroupId"])


async def described(client: Client, group: str) -> dict[str, Any]:
    (shown,) = (await client.ec2("DescribeSecurityGroups", GroupIds=[group]))["SecurityGroups"]
    return shown  # type: ignore[no-any-return]


async def allow(
    client: Client, group: str, *permissions: dict[str, Any], **more: Any
) -> list[dict[str, Any]]:
    answer = await client.ec2(
        "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=list(permissions), **more
    )
    return answer["SecurityGroupRules"]  # type: ignore[no-any-return]


async def test_a_new_group_lets_everything_out_and_nothing_in(admin: Client) -> None:
    made = await admin.ec2(
        "CreateSecurityGroup",
        GroupName="web",
        Description="d",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    shown = await described(admin, made["GroupId"])
    assert made["Tags"] == shown["Tags"] == [{"Key": "a", "Value": "b"}]
    assert made["SecurityGroupArn"] == shown["SecurityGroupArn"]
    assert shown["IpPermissions"] == []
    (out,) = shown["IpPermissionsEgress"]
    assert (out["IpProtocol"], out["IpRanges"]) == ("-1", WORLD)
    assert "FromPort" not in out


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"GroupName": "default"}, "InvalidParameterValue"),
        ({"GroupName": "sg-web"}, "InvalidParameterValue"),
        ({"GroupName": "web\n"}, "InvalidParameterValue"),
        ({"GroupName": "w" * 256}, "InvalidParameterValue"),
        ({"Description": ""}, "InvalidParameterValue"),
        ({"Description": "ü"}, "InvalidParameterValue"),
        ({"VpcId": "vpc-none"}, "InvalidVpcID.NotFound"),
        ({"GroupName": "there"}, "InvalidGroup.Duplicate"),
        ({"GroupName": "there  "}, "InvalidGroup.Duplicate"),
        ({"GroupName": "  "}, "InvalidParameterValue"),
    ],
)
async def test_what_is_no_group_is_refused(admin: Client, parameters: dict[str, Any], code: str) -> None:
    await a_group(admin, "there")
    with refused(code):
        await admin.ec2("CreateSecurityGroup", **{"GroupName": "web", "Description": "d"} | parameters)


async def test_rules_are_kept_in_one_form(admin: Client) -> None:
    group = await a_group(admin)
    rules = await allow(
        admin,
        group,
        {
            "IpProtocol": "6",
            "FromPort": 80,
            "ToPort": 81,
            "IpRanges": [{"CidrIp": "10.1.2.3/8", "Description": "x"}],
        },
        {"IpProtocol": "ICMP", "FromPort": 8, "ToPort": -1, "IpRanges": WORLD},
        {"IpProtocol": "icmpv6", "Ipv6Ranges": [{"CidrIpv6": "2001:DB8::1/32"}]},
        {"IpProtocol": "-1", "FromPort": 5, "ToPort": 6, "IpRanges": WORLD},
        {"IpProtocol": "50", "FromPort": 5, "ToPort": 6, "IpRanges": WORLD},
    )
    seen = [
        (r["IpProtocol"], r["FromPort"], r["ToPort"], r.get("CidrIpv4") or r.get("CidrIpv6")) for r in rules
    ]
    assert seen == [
        ("tcp", 80, 81, "10.0.0.0/8"),
        ("icmp", 8, -1, "0.0.0.0/0"),
        ("icmpv6", -1, -1, "2001:db8::/32"),
        ("-1", -1, -1, "0.0.0.0/0"),
        ("50", -1, -1, "0.0.0.0/0"),
    ]
    listed = await admin.ec2(
        "DescribeSecurityGroupRules", SecurityGroupRuleIds=[r["SecurityGroupRuleId"] for r in rules]
    )
    assert sorted(listed["SecurityGroupRules"], key=str) == sorted(rules, key=str)
    assert rules[0]["Description"] == "x"
    assert rules[0]["GroupOwnerId"] == admin.principal.account_id


async def test_permissions_of_one_traffic_are_shown_together(admin: Client) -> None:
    group, other = await a_group(admin), await a_group(admin, "other")
    await allow(admin, group, {**SSH, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]})
    await allow(
        admin,
        group,
        {**SSH, "IpRanges": [], "UserIdGroupPairs": [{"GroupName": "other", "Description": "o"}]},
    )
    (shown,) = (await described(admin, group))["IpPermissions"]
    assert (shown["FromPort"], shown["ToPort"]) == (22, 22)
    assert shown["IpRanges"] == WORLD
    assert shown["Ipv6Ranges"] == [{"CidrIpv6": "::/0"}]
    assert shown["UserIdGroupPairs"] == [
        {"GroupId": other, "UserId": admin.principal.account_id, "Description": "o"}
    ]


@pytest.mark.parametrize(
    ("permission", "code"),
    [
        ({"FromPort": 1, "ToPort": 1, "IpRanges": WORLD}, "MissingParameter"),
        ({"IpProtocol": "tcp", "IpRanges": WORLD}, "InvalidParameterValue"),
        ({**SSH, "ToPort": 21}, "InvalidParameterValue"),
        ({**SSH, "ToPort": 65536}, "InvalidParameterValue"),
        ({**SSH, "FromPort": -1, "ToPort": -1}, "InvalidParameterValue"),
        ({**SSH, "IpProtocol": "quic"}, "InvalidParameterValue"),
        ({**SSH, "IpProtocol": "256"}, "InvalidParameterValue"),
        ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": 3, "IpRanges": WORLD}, "InvalidParameterValue"),
        ({"IpProtocol": "icmp", "FromPort": 256, "ToPort": 0, "IpRanges": WORLD}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": []}, "InvalidPermission.Malformed"),
        ({**SSH, "IpRanges": [{"CidrIp": "10.0.0.1"}]}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": [{"CidrIp": "10.0.0.0/33"}]}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": [{"CidrIp": "10.0.0.0/255.0.0.0"}]}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": [{"CidrIp": "::/0"}]}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "<b>"}]}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": WORLD * 2}, "InvalidParameterValue"),
        ({**SSH, "IpRanges": [], "UserIdGroupPairs": [{"Description": "x"}]}, "MissingParameter"),
        ({**SSH, "IpRanges": [], "UserIdGroupPairs": [{"GroupId": "sg-none"}]}, "InvalidGroupId.Malformed"),
        ({**SSH, "IpRanges": [], "UserIdGroupPairs": [{"GroupId": "sg-01234567"}]}, "InvalidGroup.NotFound"),
        (
            {**SSH, "IpRanges": [], "PrefixListIds": [{"PrefixListId": "pl-1"}]},
            "InvalidPrefixListID.NotFound",
        ),
        (
            {**SSH, "IpRanges": [], "UserIdGroupPairs": [{"GroupName": "web", "UserId": "1" * 12}]},
            "InvalidGroup.NotFound",
        ),
    ],
)
async def test_what_is_no_rule_is_refused(admin: Client, permission: dict[str, Any], code: str) -> None:
    group = await a_group(admin)
    with refused(code):
        await allow(admin, group, permission)
    assert (await described(admin, group))["IpPermissions"] == []


async def test_a_rule_is_there_once_whatever_its_spelling(admin: Client) -> None:
    group = await a_group(admin)
    await allow(admin, group, SSH)
    with refused(
        "InvalidPermission.Duplicate", match='"peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW"'
    ):
        await allow(
            admin,
            group,
            {**SSH, "FromPort": 80, "ToPort": 80},
            {**SSH, "IpProtocol": "6", "IpRanges": [{"CidrIp": "9.9.9.9/0", "Description": "again"}]},
        )
    assert len((await described(admin, group))["IpPermissions"]) == 1


async def test_a_retry_is_no_duplicate(admin: Client) -> None:
    group = await a_group(admin)
    assert await allow(admin, group, SSH, invocation="1") == await allow(admin, group, SSH, invocation="1")


async def test_sixty_rules_each_way_and_no_more(admin: Client) -> None:
    group = await a_group(admin)
    sixty = [{"CidrIp": f"10.0.{n}.0/24"} for n in range(60)]
    await allow(admin, group, {**SSH, "IpRanges": sixty})
    with refused("RulesPerSecurityGroupLimitExceeded"):
        await allow(admin, group, SSH)
    await allow(admin, group, {**SSH, "IpRanges": [], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]})
    await admin.ec2("AuthorizeSecurityGroupEgress", GroupId=group, IpPermissions=[SSH])


async def test_rules_by_single_parameters(admin: Client) -> None:
    group, other = await a_group(admin), await a_group(admin, "other")
    alone = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "10.0.0.0/8"}
    await admin.ec2("AuthorizeSecurityGroupIngress", GroupName="web", **alone)
    await admin.ec2("AuthorizeSecurityGroupIngress", GroupId=group, SourceSecurityGroupName="other")
    shown = (await described(admin, group))["IpPermissions"]
    assert {(p["IpProtocol"], p["FromPort"], p["ToPort"]) for p in shown} == {
        ("tcp", 22, 22),
        ("tcp", 0, 65535),
        ("udp", 0, 65535),
        ("icmp", -1, -1),
    }
    assert {pair["GroupId"] for p in shown for pair in p["UserIdGroupPairs"]} == {other}
    await admin.ec2("RevokeSecurityGroupIngress", GroupId=group, **alone)
    await admin.ec2("RevokeSecurityGroupIngress", GroupId=group, SourceSecurityGroupName="other")
    assert (await described(admin, group))["IpPermissions"] == []
    for wrong in ({**alone, "IpPermissions": [SSH]}, {**alone, "SourceSecurityGroupName": "other"}):
        with refused("InvalidParameterCombination"):
            await admin.ec2("AuthorizeSecurityGroupIngress", GroupId=group, **wrong)
    for missing in ({}, {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1}):
        with refused("MissingParameter"):
            await admin.ec2("AuthorizeSecurityGroupIngress", GroupId=group, **missing)
    with refused("MissingParameter"):
        await admin.ec2("AuthorizeSecurityGroupIngress", **alone)


async def test_a_source_group_may_be_named_with_its_owner(admin: Client, stranger: Client) -> None:
    group, _ = await a_group(admin), await a_group(admin, "other")
    source = {"SourceSecurityGroupName": "other", "SourceSecurityGroupOwnerId": admin.cloud.admin_account}
    await admin.ec2("AuthorizeSecurityGroupIngress", GroupId=group, **source)
    foreign = {**source, "SourceSecurityGroupOwnerId": stranger.principal.account_id}
    for operation in ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"):
        with refused("InvalidGroup.NotFound"):
            await admin.ec2(operation, GroupId=group, **foreign)
    await admin.ec2("RevokeSecurityGroupIngress", GroupId=group, **source)
    assert (await described(admin, group))["IpPermissions"] == []


async def test_an_interface_has_five_groups_and_no_more(pretend: PretendCloud, admin: Client) -> None:
    ids = [await a_group(admin, f"g{number}") for number in range(6)]
    (vpc,) = (await admin.ec2("DescribeVpcs"))["Vpcs"]
    where = (pretend.cloud.admin_account, vpc["VpcId"])
    five = await pretend.cloud.db.read(lambda tx: security_groups.resolve(tx, *where, ids=ids[:5]))
    assert len(five) == 5
    with refused("SecurityGroupsPerInterfaceLimitExceeded"):
        await pretend.cloud.db.read(lambda tx: security_groups.resolve(tx, *where, ids=ids))


async def test_revoke_takes_what_matches_or_nothing(admin: Client) -> None:
    group = await a_group(admin)
    (rule,) = await allow(admin, group, {**SSH, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "d"}]})
    with refused("InvalidPermission.NotFound", match="does not exist in this security group"):
        await admin.ec2(
            "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[SSH, {**SSH, "ToPort": 23}]
        )
    with refused("InvalidPermission.NotFound"):
        await admin.ec2("RevokeSecurityGroupEgress", GroupId=group, IpPermissions=[SSH])
    answer = await admin.ec2("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[SSH])
    assert [one["SecurityGroupRuleId"] for one in answer["RevokedSecurityGroupRules"]] == [
        rule["SecurityGroupRuleId"]
    ]
    with refused("InvalidSecurityGroupRuleId.NotFound"):
        await admin.ec2("DescribeSecurityGroupRules", SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]])


async def test_terraform_clears_the_way_out(admin: Client) -> None:
    group = await a_group(admin)
    everything = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0}
    await admin.ec2(
        "RevokeSecurityGroupEgress", GroupId=group, IpPermissions=[{**everything, "IpRanges": WORLD}]
    )
    with refused("InvalidPermission.NotFound"):
        await admin.ec2(
            "RevokeSecurityGroupEgress",
            GroupId=group,
            IpPermissions=[{**everything, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}],
        )
    assert (await described(admin, group))["IpPermissionsEgress"] == []


async def test_revoke_by_rule_id(admin: Client) -> None:
    group, other = await a_group(admin), await a_group(admin, "other")
    (rule,) = await allow(admin, group, SSH)
    rule_id = rule["SecurityGroupRuleId"]
    with refused("InvalidSecurityGroupRuleId.Malformed"):
        await admin.ec2("RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=["x"])
    for operation, of in (("Ingress", other), ("Egress", group)):
        with refused("InvalidSecurityGroupRuleId.NotFound"):
            await admin.ec2(f"RevokeSecurityGroup{operation}", GroupId=of, SecurityGroupRuleIds=[rule_id])
    with refused("InvalidParameterCombination"):
        await admin.ec2(
            "RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=[rule_id], IpPermissions=[SSH]
        )
    await admin.ec2("RevokeSecurityGroupIngress", GroupId=group, SecurityGroupRuleIds=[rule_id])
    assert (await described(admin, group))["IpPermissions"] == []


async def test_a_group_in_use_stays(pretend: PretendCloud, admin: Client) -> None:
    group, peer = await a_group(admin), await a_group(admin, "peer")
    await allow(
        admin, group, {**SSH, "IpRanges": [], "UserIdGroupPairs": [{"GroupId": peer}, {"GroupId": group}]}
    )
    with refused("DependencyViolation", match=f"resource {peer} has a dependent object"):
        await admin.ec2("DeleteSecurityGroup", GroupId=peer)
    (instance,) = await pretend.run(SecurityGroupIds=[group])
    with refused("DependencyViolation"):
        await admin.ec2("DeleteSecurityGroup", GroupName="web")
    await pretend.ask("TerminateInstances", InstanceIds=[instance])
    await pretend.settle()
    assert await admin.ec2("DeleteSecurityGroup", GroupName="web") == {"Return": True, "GroupId": group}
    await admin.ec2("DeleteSecurityGroup", GroupId=peer)
    with refused("InvalidGroup.NotFound"):
        await admin.ec2("DeleteSecurityGroup", GroupId=peer)
    for wrong, code in (({"GroupId": "x"}, "InvalidGroupId.Malformed"), ({}, "MissingParameter")):
        with refused(code):
            await admin.ec2("DeleteSecurityGroup", **wrong)
    with refused("CannotDelete"):
        await admin.ec2("DeleteSecurityGroup", GroupName="default")


async def test_another_accounts_group_does_not_exist(admin: Client, stranger: Client) -> None:
    group = await a_group(admin)
    (rule,) = await allow(admin, group, SSH)
    pair = {**SSH, "IpRanges": [], "UserIdGroupPairs": [{"GroupId": group}]}
    own = await a_group(stranger, "own")
    for operation, parameters in (
        ("DescribeSecurityGroups", {"GroupIds": [group]}),
        ("DeleteSecurityGroup", {"GroupId": group}),
        ("AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [SSH]}),
        ("AuthorizeSecurityGroupEgress", {"GroupId": group, "IpPermissions": [SSH]}),
        ("RevokeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [SSH]}),
        ("AuthorizeSecurityGroupIngress", {"GroupId": own, "IpPermissions": [pair]}),
    ):
        with refused("InvalidGroup.NotFound"):
            await stranger.ec2(operation, **parameters)
    with refused("InvalidSecurityGroupRuleId.NotFound"):
        await stranger.ec2("DescribeSecurityGroupRules", SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]])
    filtered = [{"Name": "group-id", "Values": [group]}]
    assert (await stranger.ec2("DescribeSecurityGroups", Filters=filtered))["SecurityGroups"] == []
    assert (await stranger.ec2("DescribeSecurityGroupRules", Filters=filtered))["SecurityGroupRules"] == []


async def test_groups_are_found_by_what_their_rules_say(admin: Client) -> None:
    web, other = await a_group(admin), await a_group(admin, "other")
    await allow(
        admin, web, {**SSH, "UserIdGroupPairs": [{"GroupId": other}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    )
    await admin.ec2("AuthorizeSecurityGroupEgress", GroupId=other, IpPermissions=[{**SSH, "FromPort": 21}])
    account = admin.principal.account_id

    async def found(name: str, *values: str) -> list[str]:
        filters = [{"Name": name, "Values": list(values)}, {"Name": "group-name", "Values": ["web", "other"]}]
        answer = await admin.ec2("DescribeSecurityGroups", Filters=filters)
        return [group["GroupId"] for group in answer["SecurityGroups"]]

    for name, value in (
        ("ip-permission.from-port", "22"),
        ("ip-permission.cidr", "0.0.0.0/0"),
        ("ip-permission.ipv6-cidr", "::/0"),
        ("ip-permission.group-id", other),
        ("ip-permission.group-name", "oth*"),
        ("ip-permission.user-id", account),
        ("ip-permission.protocol", "tcp"),
        ("group-name", "w?b"),
        ("group-id", web),
    ):
        assert await found(name, value) == [web], name
    assert await found("egress.ip-permission.to-port", "22") == [other]
    assert await found("egress.ip-permission.from-port", "22") == []
    assert sorted(await found("egress.ip-permission.cidr", "0.0.0.0/0")) == sorted([web, other])
    assert await found("ip-permission.prefix-list-id", "pl-1") == []
    with refused("InvalidParameterValue", match="The filter 'colour' is invalid"):
        await found("colour", "red")


async def test_groups_and_rules_come_in_pages(admin: Client) -> None:
    for n in range(7):
        await a_group(admin, f"g{n}")

    async def walk(operation: str, member: str, key: str) -> list[str]:
        found, more = [], {}
        while True:
            answer = await admin.ec2(operation, MaxResults=5, **more)
            assert len(answer[member]) <= 5
            found += [one[key] for one in answer[member]]
            if "NextToken" not in answer:
                return found
            more = {"NextToken": answer["NextToken"]}

    for operation, member, key in (
        ("DescribeSecurityGroups", "SecurityGroups", "GroupId"),
        ("DescribeSecurityGroupRules", "SecurityGroupRules", "SecurityGroupRuleId"),
    ):
        everything = [one[key] for one in (await admin.ec2(operation))[member]]
        assert len(everything) >= 8
        assert await walk(operation, member, key) == everything
    with refused("InvalidParameterValue", match="maxResults"):
        await admin.ec2("DescribeSecurityGroups", MaxResults=4)
