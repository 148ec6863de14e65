"""What the nodes of a zone must know of security groups: whoever has a card there, the groups, their rules."""

from __future__ import annotations

from mallee.clc.db import interfaces, network, security_groups
from mallee.clc.db.security_groups import Rule
from mallee.kernel.db import Tx
from mallee.rpc import common_pb2


def of_zone(tx: Tx, zone: str) -> common_pb2.Guards:
    """Everything, in an order that two readings share."""
    nics = interfaces.attached_in(tx, zone)
    groups = interfaces.groups_of(tx, [nic.id for nic in nics])
    rules = security_groups.rules_of(tx, sorted({each for names in groups.values() for each in names}))
    return common_pb2.Guards(
        groups=[
            common_pb2.GuardGroup(group_id=name, rules=[_rule(each) for each in those if _is_known(each)])
            for name, those in rules.items()
        ],
        guests=[
            common_pb2.GuardedGuest(
                instance_id=nic.instance_id,
                mac_address=nic.mac,
                address=network.text(nic.address),
                group_ids=groups.get(nic.id, ()),
            )
            for nic in nics
        ],
    )


def _is_known(rule: Rule) -> bool:
    """Guests have no IPv6: what is said of it is true of none of their packets."""
    return rule.peer_kind in {"ipv4", "group"}


def _rule(rule: Rule) -> common_pb2.GuardRule:
    by_group = rule.peer_kind == "group"
    return common_pb2.GuardRule(
        egress=rule.egress,
        protocol=rule.protocol,
        from_port=rule.from_port,
        to_port=rule.to_port,
        cidr="" if by_group else rule.peer,
        peer_group_id=rule.peer if by_group else "",
    )
