"""The rules of security groups: added, taken away. Each is all or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterCombination, InvalidParameterValue, MissingParameter
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.security_groups import permissions
from mallee.clc.api.ec2.security_groups.groups import arn, meant
from mallee.clc.api.ec2.security_groups.permissions import Asked
from mallee.clc.call import Call
from mallee.clc.db import security_groups, tags
from mallee.clc.db.security_groups import Group, Rule
from mallee.clc.errors import (
    InvalidGroupNotFound,
    InvalidPermissionDuplicate,
    InvalidPermissionNotFound,
    InvalidSecurityGroupRuleIdMalformed,
    InvalidSecurityGroupRuleIdNotFound,
    RulesPerSecurityGroupLimitExceeded,
)
from mallee.clc.resource_ids import is_id
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        AuthorizeSecurityGroupEgressRequestTypeDef,
        AuthorizeSecurityGroupIngressRequestTypeDef,
        RevokeSecurityGroupEgressRequestTypeDef,
        RevokeSecurityGroupIngressRequestTypeDef,
        UserIdGroupPairTypeDef,
    )

RULES_PER_GROUP = 60  # each way, and for IPv4 and IPv6 apart

Result = dict[str, object]

_ALONE = ("IpProtocol", "FromPort", "ToPort", "CidrIp")
_SOURCE = ("SourceSecurityGroupName", "SourceSecurityGroupOwnerId")


@ec2.action(
    "AuthorizeSecurityGroupIngress",
    accepts=("GroupId", "GroupName", "IpPermissions", *_ALONE, *_SOURCE, "TagSpecifications", "DryRun"),
)
async def authorize_ingress(call: Call, req: AuthorizeSecurityGroupIngressRequestTypeDef) -> Result:
    """Let more in."""
    return await _authorize(call, req, egress=False)


@ec2.action(
    "AuthorizeSecurityGroupEgress", accepts=("GroupId", "IpPermissions", "TagSpecifications", "DryRun")
)
async def authorize_egress(call: Call, req: AuthorizeSecurityGroupEgressRequestTypeDef) -> Result:
    """Let more out. A group's rules by single parameters are for ingress only, as on EC2."""
    return await _authorize(call, req, egress=True)


@ec2.action(
    "RevokeSecurityGroupIngress",
    accepts=(
        "GroupId",
        "GroupName",
        "IpPermissions",
        *_ALONE,
        *_SOURCE,
        "SecurityGroupRuleIds",
        "DryRun",
    ),
)
async def revoke_ingress(call: Call, req: RevokeSecurityGroupIngressRequestTypeDef) -> Result:
    """Let less in."""
    return await _revoke(call, req, egress=False)


@ec2.action(
    "RevokeSecurityGroupEgress", accepts=("GroupId", "IpPermissions", "SecurityGroupRuleIds", "DryRun")
)
async def revoke_egress(call: Call, req: RevokeSecurityGroupEgressRequestTypeDef) -> Result:
    """Let less out."""
    return await _revoke(call, req, egress=True)


async def _authorize(call: Call, req: Mapping[str, Any], *, egress: bool) -> Result:
    kind = "security-group-rule"
    wanted_tags = tagging.specified(req.get("TagSpecifications", ()), kind)[kind]

    def work(tx: Tx) -> list[Rule]:
        group = meant(tx, call.account, req.get("GroupId"), req.get("GroupName"))
        wanted = _asked(tx, group, req)
        _check_new(tx, group, wanted, egress=egress)
        rules = [one.rule(resource_id(call.cloud.entropy, "sgr"), group, egress=egress) for one in wanted]
        security_groups.add_rules(tx, rules)
        tags.attach(tx, call.account, kind, [rule.id for rule in rules], wanted_tags)
        return rules

    rules = await call.change(work, list[Rule])
    return {"Return": True, "SecurityGroupRules": [shown(call, rule, wanted_tags) for rule in rules]}


def _check_new(tx: Tx, group: Group, wanted: Sequence[Asked], *, egress: bool) -> None:
    there = [r for r in security_groups.rules_of(tx, (group.id,))[group.id] if r.egress == egress]
    known = {rule.same for rule in there}
    for one in wanted:
        if one.rule("", group, egress=egress).same in known:
            raise InvalidPermissionDuplicate(f"the specified rule {one.text()} already exists")
    count = Counter(rule.peer_kind for rule in there) + Counter(one.peer_kind for one in wanted)
    if max(count["ipv4"], count["ipv6"]) + count["group"] > RULES_PER_GROUP:
        raise RulesPerSecurityGroupLimitExceeded(
            "The maximum number of rules per security group has been reached."
        )


async def _revoke(call: Call, req: Mapping[str, Any], *, egress: bool) -> Result:
    """What does not match is an error and nothing goes, also in a default VPC: silence hides mistakes."""

    def work(tx: Tx) -> list[Rule]:
        group = meant(tx, call.account, req.get("GroupId"), req.get("GroupName"))
        there = [r for r in security_groups.rules_of(tx, (group.id,))[group.id] if r.egress == egress]
        ids = req.get("SecurityGroupRuleIds")
        gone = _by_ids(there, ids, req) if ids else _by_values(there, _asked(tx, group, req, revoking=True))
        security_groups.remove_rules(tx, [rule.id for rule in gone])
        tags.drop(tx, call.account, [rule.id for rule in gone])
        return gone

    gone = await call.change(work, list[Rule])
    return {"Return": True, "RevokedSecurityGroupRules": [_revoked(rule) for rule in gone]}


def _by_ids(there: Iterable[Rule], ids: Sequence[str], req: Mapping[str, Any]) -> list[Rule]:
    if any(name in req for name in ("IpPermissions", *_ALONE, *_SOURCE)):
        raise InvalidParameterCombination(
            "The parameter 'securityGroupRuleIds' may not be used in combination with 'ipPermissions'"
        )
    known = {rule.id: rule for rule in there}
    for one in ids:
        if not is_id("sgr", one):
            raise InvalidSecurityGroupRuleIdMalformed(one)
    missing = [one for one in ids if one not in known]
    if missing:
        raise InvalidSecurityGroupRuleIdNotFound(*missing)
    return [known[one] for one in dict.fromkeys(ids)]


def _by_values(there: Iterable[Rule], wanted: Iterable[Asked]) -> list[Rule]:
    known = {rule.same[1:]: rule for rule in there}
    gone = [known.get((one.protocol, one.from_port, one.to_port, one.peer)) for one in wanted]
    found = [rule for rule in gone if rule is not None]
    if len(found) < len(gone):
        raise InvalidPermissionNotFound("The specified rule does not exist in this security group.")
    return found


def _asked(tx: Tx, group: Group, req: Mapping[str, Any], *, revoking: bool = False) -> list[Asked]:
    """The rules of a request, whichever of EC2's three ways it says them in."""
    alone = [name for name in (*_ALONE, *_SOURCE) if name in req]

    def find_group(pair: UserIdGroupPairTypeDef) -> Group:
        return _peer_group(tx, group, pair, revoking=revoking)

    if req.get("IpPermissions"):
        if alone:
            raise InvalidParameterCombination(
                f"The parameter 'ipPermissions' may not be used in combination with '{alone[0]}'"
            )
        return permissions.asked(req["IpPermissions"], find_group)
    if "SourceSecurityGroupName" in req:
        if any(name in req for name in _ALONE):
            raise InvalidParameterCombination(
                "The parameter 'sourceSecurityGroupName' may not be used with a protocol, ports or a CIDR"
            )
        owner = req.get("SourceSecurityGroupOwnerId")
        pair = {"GroupName": req["SourceSecurityGroupName"], **({"UserId": owner} if owner else {})}
        return permissions.everything_from(find_group(pair))  # type: ignore[arg-type]
    if not alone:
        raise MissingParameter("ipPermissions")
    if "CidrIp" not in req:
        raise MissingParameter("cidrIp")
    return permissions.asked([{**req, "IpRanges": [{"CidrIp": req["CidrIp"]}]}], find_group)


def _peer_group(tx: Tx, group: Group, pair: UserIdGroupPairTypeDef, *, revoking: bool) -> Group:
    """The group that a pair names: of the same VPC, since VPCs are not peered."""
    peer_id, name = pair.get("GroupId"), pair.get("GroupName")
    if not peer_id and not name:
        raise MissingParameter("Source group ID")
    if pair.get("UserId") not in {None, "", group.account_id}:
        raise InvalidGroupNotFound(peer_id or name or "")
    if pair.get("VpcId") not in {None, "", group.vpc_id} or pair.get("VpcPeeringConnectionId"):
        raise InvalidParameterValue("A security group of another VPC can only be named over a peering.")
    if revoking and peer_id:
        return group._replace(id=peer_id)  # a rule outlives the reading of its peer
    found = security_groups.resolve(
        tx,
        group.account_id,
        group.vpc_id,
        ids=[peer_id] if peer_id else [],
        names=[] if peer_id else [name or ""],
    )
    return found[0]


def shown(call: Call, rule: Rule, wanted_tags: Mapping[str, str]) -> Result:
    """A rule as EC2 shows it."""
    answer: Result = {
        "SecurityGroupRuleId": rule.id,
        "GroupId": rule.group_id,
        "GroupOwnerId": rule.account_id,
        "IsEgress": rule.egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.from_port,
        "ToPort": rule.to_port,
        **_peer(rule),
        "SecurityGroupRuleArn": arn(call, "security-group-rule", rule.id),
    }
    if rule.description:
        answer["Description"] = rule.description
    if wanted_tags:
        answer["Tags"] = tagging.shown(wanted_tags)
    return answer


def _peer(rule: Rule) -> Result:
    if rule.peer_kind == "ipv4":
        return {"CidrIpv4": rule.peer}
    if rule.peer_kind == "ipv6":
        return {"CidrIpv6": rule.peer}
    return {"ReferencedGroupInfo": {"GroupId": rule.peer, "UserId": rule.peer_account}}


def _revoked(rule: Rule) -> Result:
    """A rule that is no more, in the shape of its own that EC2 has for this."""
    peer = {"ReferencedGroupId": rule.peer} if rule.peer_kind == "group" else _peer(rule)
    answer: Result = {
        "SecurityGroupRuleId": rule.id,
        "GroupId": rule.group_id,
        "IsEgress": rule.egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.from_port,
        "ToPort": rule.to_port,
        **peer,
    }
    return {**answer, "Description": rule.description} if rule.description else answer
