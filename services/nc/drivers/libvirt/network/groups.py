"""Security groups in nft's words: what lets a packet through, and nothing of what becomes of it then."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from mallee.domain.guards import Guarded, GuardRule, Guards
from mallee.nc.drivers.libvirt.network.plugs import Plug, is_mac

_is_number = re.compile(r"[0-9]{1,3}", re.ASCII).fullmatch


def chains_of(plugs: Sequence[Plug], guards: Guards, deny: str) -> Iterator[str]:
    """A chain each way for each group, which accepts what its rules let through, and two for each guest.

    `deny` is what becomes of a packet that no rule lets through.
    """
    guarded = {plug.tap: guards.of(plug.instance_id) for plug in plugs}
    used = sorted({name for each in guarded.values() if each is not None for name in each.groups})
    named = sorted({rule.peer_group for name in used for rule in guards.groups.get(name, ())} - {""})
    members = {name: f"members{number}" for number, name in enumerate(named)}
    for name, called in members.items():
        yield f"set {called} {{ type ether_addr . ipv4_addr;"
        if cards := sorted(filter(None, map(_card, guards.members(name)))):
            yield f"elements = {{ {', '.join(cards)} }}"
        yield "}"
    numbers = {name: number for number, name in enumerate(used)}
    for name, number in numbers.items():
        rules = guards.groups.get(name, ())
        for way, egress in (("into", False), ("from", True)):
            yield f"chain {way}_group{number} {{"
            yield from (
                f"{words} accept"
                for rule in rules
                if rule.egress is egress
                for words in _words(rule, members)
            )
            yield "}"
    for tap, each in guarded.items():
        for way in ("into", "from"):
            yield f"chain {way}_{tap} {{"
            yield from (f"jump {way}_group{numbers[name]}" for name in (each.groups if each else ()))
            yield deny
            yield "}"


def _words(rule: GuardRule, members: dict[str, str]) -> Iterator[str]:
    """The condition of a rule; none for one that no IPv4 packet can meet."""
    side = "daddr" if rule.egress else "saddr"
    if rule.peer_group:
        peer = f"ether {side} . ip {side} @{members[rule.peer_group]}"
    else:
        try:
            block = ipaddress.IPv4Network(rule.cidr)
        except ValueError:
            return
        peer = f"ip {side} {block}" if block.prefixlen else "ether type ip"
    traffic = _traffic(rule)
    if traffic is not None:
        yield f"{peer} {traffic}".strip()


def _traffic(rule: GuardRule) -> str | None:
    low, high = rule.from_port, rule.to_port
    match rule.protocol:
        case "-1":
            return ""
        case "tcp" | "udp" if 0 <= low <= high <= 0xFFFF:
            every = (low, high) == (0, 0xFFFF)
            return f"ip protocol {rule.protocol}" if every else f"{rule.protocol} dport {low}-{high}"
        case "icmp" if -1 <= low <= 0xFF and -1 <= high <= 0xFF:
            kind = f" icmp type {low}" if low >= 0 else ""
            return f"ip protocol icmp{kind}" + (f" icmp code {high}" if high >= 0 else "")
        case number if _is_number(number) and int(number) <= 0xFF:
            return f"ip protocol {int(number)}"
    return None


def _card(member: Guarded) -> str:
    """A member as the sets have it; what is no address of a card is nobody's."""
    try:
        address = ipaddress.IPv4Address(member.address)
    except ValueError:
        return ""
    return f"{member.mac} . {address}" if is_mac(member.mac) else ""
