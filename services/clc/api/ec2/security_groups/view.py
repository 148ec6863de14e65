"""Security groups and their rules, as they are described."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.listing import (
    TAG_LOOKS,
    Listing,
    Looks,
    Shown,
    Sought,
    listed,
    member,
    missing,
    nothing,
    page_of,
    slice_of,
)
from mallee.clc.api.ec2.security_groups import permissions, rules
from mallee.clc.api.ec2.security_groups.groups import arn
from mallee.clc.call import Call
from mallee.clc.db import network, security_groups, tags
from mallee.clc.db.security_groups import Group, Rule
from mallee.clc.errors import (
    InvalidGroupNotFound,
    InvalidSecurityGroupRuleIdMalformed,
    InvalidSecurityGroupRuleIdNotFound,
)
from mallee.clc.resource_ids import is_id
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DescribeSecurityGroupRulesRequestTypeDef,
        DescribeSecurityGroupsRequestTypeDef,
    )

Result = dict[str, Any]


def _way(prefix: str, side: str) -> Looks:
    """The filters on the rules of one direction."""
    return {
        f"{prefix}ip-permission.cidr": member(side, "IpRanges", "CidrIp"),
        f"{prefix}ip-permission.from-port": member(side, "FromPort"),
        f"{prefix}ip-permission.group-id": member(side, "UserIdGroupPairs", "GroupId"),
        f"{prefix}ip-permission.group-name": nothing,  # until `_with_names`
        f"{prefix}ip-permission.ipv6-cidr": member(side, "Ipv6Ranges", "CidrIpv6"),
        f"{prefix}ip-permission.prefix-list-id": nothing,
        f"{prefix}ip-permission.protocol": member(side, "IpProtocol"),
        f"{prefix}ip-permission.to-port": member(side, "ToPort"),
        f"{prefix}ip-permission.user-id": member(side, "UserIdGroupPairs", "UserId"),
    }


_SIDES = {"": "IpPermissions", "egress.": "IpPermissionsEgress"}
_GROUP_LOOKS: Looks = {
    **TAG_LOOKS,
    "description": member("Description"),
    "group-id": member("GroupId"),
    "group-name": member("GroupName"),
    "owner-id": member("OwnerId"),
    "vpc-id": member("VpcId"),
    **{name: look for prefix, side in _SIDES.items() for name, look in _way(prefix, side).items()},
}
_RULE_LOOKS: Looks = {
    "tag:": nothing,
    "group-id": member("GroupId"),
    "security-group-rule-id": member("SecurityGroupRuleId"),
}


def _with_names(names: Mapping[str, str]) -> Looks:
    """The filters, those on the names of peers too: answers show only the ids of these."""

    def look(side: str) -> Callable[[Shown], Any]:
        ids = member(side, "UserIdGroupPairs", "GroupId")
        return lambda shown: [names.get(one) for one in ids(shown)]

    return {
        **_GROUP_LOOKS,
        **{f"{prefix}ip-permission.group-name": look(side) for prefix, side in _SIDES.items()},
    }


@ec2.action(
    "DescribeSecurityGroups",
    accepts=("GroupIds", "GroupNames", "Filters", "MaxResults", "NextToken", "DryRun"),
    filters=_GROUP_LOOKS,
)
async def describe_security_groups(call: Call, req: DescribeSecurityGroupsRequestTypeDef) -> Result:
    """The account's groups with their rules; names are those of the default VPC."""
    page, names = page_of(call, req), dict[str, str]()
    sought = Sought(req.get("Filters"), _with_names(names))
    ids, wanted_names = req.get("GroupIds", ()), req.get("GroupNames", ())

    def work(tx: Tx) -> Listing:
        if any(one.name.endswith("ip-permission.group-name") for one in sought.filters):
            names.update({one.id: one.name for one in security_groups.page(tx, call.account, size=100_000)})
        return listed(
            tx,
            page,
            fetch=_asked(tx, call.account, ids, wanted_names) or _narrowed(tx, call.account, sought),
            show=lambda tx, rows: _groups(tx, call, rows),
            key=lambda one: one.id,
            sought=sought,
        )

    return (await call.cloud.db.read(work)).answer(call, "SecurityGroups")


Fetch = Callable[[Tx, str, int], Sequence[Group]]


def _asked(tx: Tx, account: str, ids: Sequence[str], names: Sequence[str]) -> Fetch | None:
    """The groups named in the request, all of which must be there; None if none is named."""
    if not ids and not names:
        return None
    security_groups.check_ids(ids)
    home = network.default_vpc(tx, account)
    found = security_groups.by_ids(tx, account, ids) if ids else []
    named = security_groups.by_names(tx, account, home.id, names) if names and home else []
    unknown = missing(ids, {one.id for one in found}) + missing(names, {one.name for one in named})
    if unknown:
        raise InvalidGroupNotFound(*unknown)
    return _in_order({*found, *named})


def _narrowed(tx: Tx, account: str, sought: Sought) -> Fetch:
    """The groups that can pass, by an index where a filter names what one is for."""
    ids, names = sought.exact("group-id"), sought.exact("group-name")
    if ids is not None:
        return _in_order(security_groups.by_ids(tx, account, ids))
    if names is not None:
        homes = network.vpcs_of(tx, account)
        found = [one for home in homes for one in security_groups.by_names(tx, account, home.id, names)]
        return _in_order(found)
    return lambda tx, after, size: security_groups.page(tx, account, after, size)


def _in_order(groups: Sequence[Group] | set[Group]) -> Fetch:
    return slice_of(sorted(groups, key=lambda one: one.id), lambda one: one.id)


def _groups(tx: Tx, call: Call, rows: Sequence[Group]) -> list[Result]:
    ids = [one.id for one in rows]
    rules, tagged = security_groups.rules_of(tx, ids), tags.of(tx, call.account, ids)
    return [_group(call, one, rules[one.id], tagged.get(one.id, {})) for one in rows]


def _group(call: Call, group: Group, rules: Sequence[Rule], tagged: Mapping[str, str]) -> Result:
    return {
        "GroupId": group.id,
        "IpPermissionsEgress": permissions.shown(rule for rule in rules if rule.egress),
        "Tags": tagging.shown(tagged),
        "VpcId": group.vpc_id,
        "SecurityGroupArn": arn(call, "security-group", group.id),
        "OwnerId": group.account_id,
        "GroupName": group.name,
        "Description": group.description,
        "IpPermissions": permissions.shown(rule for rule in rules if not rule.egress),
    }


@ec2.action(
    "DescribeSecurityGroupRules",
    accepts=("SecurityGroupRuleIds", "Filters", "MaxResults", "NextToken", "DryRun"),
    filters=_RULE_LOOKS,
)
async def describe_security_group_rules(call: Call, req: DescribeSecurityGroupRulesRequestTypeDef) -> Result:
    """The rules of the account's groups, one by one."""
    sought, page = Sought(req.get("Filters"), _RULE_LOOKS), page_of(call, req)
    wanted = req.get("SecurityGroupRuleIds", ())

    def show(tx: Tx, rows: Sequence[Rule]) -> list[Result]:
        tagged = tags.of(tx, call.account, [one.id for one in rows])
        return [rules.shown(call, one, tagged.get(one.id, {})) for one in rows]

    def work(tx: Tx) -> Listing:
        fetch = _rules_asked(tx, call.account, wanted) if wanted else _rules(tx, call.account, sought)
        return listed(tx, page, fetch=fetch, show=show, key=lambda one: one.id, sought=sought)

    return (await call.cloud.db.read(work)).answer(call, "SecurityGroupRules")


FetchRules = Callable[[Tx, str, int], Sequence[Rule]]


def _rules_asked(tx: Tx, account: str, wanted: Sequence[str]) -> FetchRules:
    for one in wanted:
        if not is_id("sgr", one):
            raise InvalidSecurityGroupRuleIdMalformed(one)
    found = security_groups.rules_by_ids(tx, account, wanted)
    unknown = missing(wanted, {one.id for one in found})
    if unknown:
        raise InvalidSecurityGroupRuleIdNotFound(*unknown)
    return slice_of(sorted(found), lambda one: one.id)


def _rules(tx: Tx, account: str, sought: Sought) -> FetchRules:
    groups = sought.exact("group-id")
    if groups is None:
        return lambda tx, after, size: security_groups.rule_page(tx, account, after, size)
    own = [one.id for one in security_groups.by_ids(tx, account, groups)]
    rules = [rule for of_one in security_groups.rules_of(tx, own).values() for rule in of_one]
    return slice_of(sorted(rules), lambda one: one.id)
