"""IpPermissions as requests carry them, as rules, and as answers show them.

A permission is a protocol and ports with many peers; a rule is one of its peers. Protocols become
names where EC2 uses names, CIDRs their network, so that two spellings of a rule are one rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, NamedTuple

from mallee.aws.errors import InvalidParameterValue, MissingParameter
from mallee.clc.db.security_groups import Group, Rule
from mallee.clc.errors import InvalidPermissionMalformed, InvalidPrefixListIdNotFound

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import UserIdGroupPairTypeDef

_NAMES = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
_is_number = re.compile(r"[0-9]{1,3}").fullmatch
_is_description = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{0,255}").fullmatch
_has_prefix = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}").fullmatch


class Asked(NamedTuple):
    """A rule without a group and an id: what somebody asks to add or take away."""

    protocol: str
    from_port: int
    to_port: int
    peer_kind: str
    peer: str
    peer_account: str = ""
    description: str = ""

    def rule(self, rule_id: str, group: Group, *, egress: bool) -> Rule:
        return Rule(rule_id, group.account_id, group.id, egress, *self)

    def text(self) -> str:
        """As EC2 names a rule that is there already."""
        protocol = "ALL" if self.protocol == "-1" else self.protocol.upper()
        ports = "" if self.protocol == "-1" else f", from port: {self.from_port}, to port: {self.to_port}"
        return f'"peer: {self.peer}, {protocol}{ports}, ALLOW"'


FindGroup = Callable[["UserIdGroupPairTypeDef"], Group]


def asked(permissions: Sequence[Mapping[str, Any]], find_group: FindGroup) -> list[Asked]:
    """The rules that IpPermissions ask for.

    Args:
        permissions: as the request has them.
        find_group: the group that a pair means, or its typed NotFound.

    Raises:
        InvalidParameterValue, MissingParameter, InvalidPermissionMalformed: what AWS says of each.
    """
    wanted = [
        Asked(*traffic, *peer)
        for one in permissions
        for traffic in (_traffic(one.get("IpProtocol"), one.get("FromPort"), one.get("ToPort")),)
        for peer in _peers(one, find_group)
    ]
    if len({one._replace(description="") for one in wanted}) < len(wanted):
        raise InvalidParameterValue("The same permission must not appear multiple times")
    return wanted


def everything_from(group: Group) -> list[Asked]:
    """The three rules that a source group by its name alone stands for: all TCP, UDP and ICMP."""
    ports = (("tcp", 0, 65535), ("udp", 0, 65535), ("icmp", -1, -1))
    return [Asked(*one, "group", group.id, group.account_id) for one in ports]


def _traffic(protocol: str | None, from_port: int | None, to_port: int | None) -> tuple[str, int, int]:
    if protocol is None:
        raise MissingParameter("ipProtocol")
    name = _NAMES.get(protocol, protocol.lower())
    if name in {"tcp", "udp"}:
        return name, *_ports(from_port, to_port)
    if name in {"icmp", "icmpv6"}:
        return name, *_icmp(from_port, to_port)
    if name != "-1" and not (_is_number(name) and int(name) <= 255):
        raise InvalidParameterValue(f"Invalid value '{protocol}' for IP protocol. Unknown protocol.")
    return (name if name == "-1" else str(int(name))), -1, -1  # whatever ports came with it


def _ports(low: int | None, high: int | None) -> tuple[int, int]:
    if low is None or high is None:
        raise InvalidParameterValue(
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange."
        )
    for port in (low, high):
        if not 0 <= port <= 65535:
            raise InvalidParameterValue(f"TCP/UDP port ({port}) out of range")
    if low > high:
        raise InvalidParameterValue(f"Invalid TCP/UDP port range ({low}:{high})")
    return low, high


def _icmp(kind: int | None, code: int | None) -> tuple[int, int]:
    kind, code = -1 if kind is None else kind, -1 if code is None else code
    if not -1 <= kind <= 255:
        raise InvalidParameterValue(f"ICMP type ({kind}) out of range")
    if not -1 <= code <= 255:
        raise InvalidParameterValue(f"ICMP code ({code}) out of range")
    if kind == -1 and code != -1:
        raise InvalidParameterValue(f"ICMP code ({code}) must be -1 where the type is -1")
    return kind, code


def _peers(permission: Mapping[str, Any], find_group: FindGroup) -> Iterator[tuple[str, str, str, str]]:
    none = True
    for name, key, kind in (("IpRanges", "CidrIp", "ipv4"), ("Ipv6Ranges", "CidrIpv6", "ipv6")):
        for one in permission.get(name) or ():
            none = False
            yield kind, cidr(one.get(key), kind), "", _description(one)
    for pair in permission.get("UserIdGroupPairs") or ():
        none = False
        group = find_group(pair)
        yield "group", group.id, group.account_id, _description(pair)
    for prefix_list in permission.get("PrefixListIds") or ():
        raise InvalidPrefixListIdNotFound(prefix_list.get("PrefixListId", ""))
    if none:
        raise InvalidPermissionMalformed("A permission must have a CIDR block or a security group.")


def cidr(text: str | None, kind: str) -> str:
    """The network that a CIDR block means, host bits cleared."""
    if not text:
        raise MissingParameter("cidrIp" if kind == "ipv4" else "cidrIpv6")
    if not _has_prefix(text):
        raise InvalidParameterValue(f"CIDR block {text} is malformed")
    try:
        network = IPv4Network(text, strict=False) if kind == "ipv4" else IPv6Network(text, strict=False)
    except ValueError as error:
        raise InvalidParameterValue(f"CIDR block {text} is malformed") from error
    return str(network)


def _description(peer: Mapping[str, Any]) -> str:
    text: str = peer.get("Description") or ""
    if not _is_description(text):
        raise InvalidParameterValue(
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the"
            " following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
        )
    return text


def shown(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules of one direction as IpPermissions, those of the same traffic together."""
    together: dict[tuple[str, int, int], dict[str, Any]] = {}
    for rule in rules:
        traffic = (rule.protocol, rule.from_port, rule.to_port)
        one = together.setdefault(traffic, _empty(rule))
        text = {"Description": rule.description} if rule.description else {}
        if rule.peer_kind == "ipv4":
            one["IpRanges"].append({"CidrIp": rule.peer, **text})
        elif rule.peer_kind == "ipv6":
            one["Ipv6Ranges"].append({"CidrIpv6": rule.peer, **text})
        else:
            pair = {"GroupId": rule.peer, "UserId": rule.peer_account, **text}
            one["UserIdGroupPairs"].append(pair)
    return list(together.values())


def _empty(rule: Rule) -> dict[str, Any]:
    ports = {"FromPort": rule.from_port, "ToPort": rule.to_port} if has_ports(rule) else {}
    return {
        "IpProtocol": rule.protocol,
        **ports,
        "UserIdGroupPairs": [],
        "IpRanges": [],
        "Ipv6Ranges": [],
        "PrefixListIds": [],
    }


def has_ports(rule: Rule) -> bool:
    """Whether the ports (or ICMP's type and code) of a rule say anything."""
    return rule.protocol in _NAMES.values()
