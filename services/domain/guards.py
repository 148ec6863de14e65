"""Security groups as nodes enforce them: rules by group, and who is guarded by which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class GuardRule(NamedTuple):
    """What a group lets through, one way.

    Attributes:
        protocol: `tcp`, `udp`, `icmp`, a number, or `-1` for all.
        from_port: of ICMP its type; -1 for all.
        to_port: of ICMP its code; -1 for all.
        cidr: of the other side, IPv4; '' where a group is named.
        peer_group: the other side's group.
    """

    egress: bool
    protocol: str
    from_port: int
    to_port: int
    cidr: str = ""
    peer_group: str = ""


class Guarded(NamedTuple):
    """A guest's card, and the groups that guard it."""

    instance_id: str
    mac: str
    address: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guards:
    """Rules by group, and everybody who is guarded by them or named in them through a group.

    Attributes:
        hosts: the addresses of all hosts of the zone on which such guests may be.
    """

    groups: Mapping[str, tuple[GuardRule, ...]] = field(default_factory=dict)
    guests: tuple[Guarded, ...] = ()
    hosts: tuple[str, ...] = ()

    def about(self, instance_ids: Collection[str]) -> Guards:
        """As much as a node needs that has these guests: their groups, and whom the rules of these name."""
        own = [each for each in self.guests if each.instance_id in instance_ids]
        groups = {name: self.groups.get(name, ()) for each in own for name in each.groups}
        named = {rule.peer_group for rules in groups.values() for rule in rules if rule.peer_group}
        guests = [
            each
            for each in self.guests
            if each.instance_id in instance_ids or not named.isdisjoint(each.groups)
        ]
        return Guards(groups, tuple(guests))

    def of(self, instance_id: str) -> Guarded | None:
        """Who guards an instance; None when nobody has said."""
        return next((each for each in self.guests if each.instance_id == instance_id), None)

    def members(self, group: str) -> list[Guarded]:
        return [each for each in self.guests if group in each.groups]
