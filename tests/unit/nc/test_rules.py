"""A host's rules in nft's words: no word of them is a user's."""

from __future__ import annotations

import ipaddress

import pytest

from mallee.domain.guards import Guarded, GuardRule, Guards
from mallee.nc.drivers.libvirt.network.plugs import Plug, Segment
from mallee.nc.drivers.libvirt.network.rules import rules_of

EVIL = 'x" accept } table ip evil { #'
NET = ipaddress.IPv4Network("172.31.0.0/20")
SEGMENT = Segment("mallee0", "mallee0-vx", "02:00:00:00:00:aa", ("02:00:00:00:00:bb",), "02:00:00:00:00:cc")
ONE = Plug("i-1", "mt1", "02:00:00:00:00:01", "172.31.0.4", NET, 40_001)


def written(rule: GuardRule, *members: Guarded, plugs: tuple[Plug, ...] = (ONE,), group: str = "sg-1") -> str:
    own = Guarded("i-1", ONE.mac, ONE.address, (group,))
    return "\n".join(rules_of(SEGMENT, plugs, Guards({group: (rule,)}, (own, *members))))


@pytest.mark.parametrize(
    "rule",
    [
        GuardRule(False, EVIL, 1, 2, "0.0.0.0/0"),
        GuardRule(False, "tcp", 1, 2, EVIL),
        GuardRule(False, "tcp", 1, 2, "", EVIL),
        GuardRule(False, "tcp", -5, 2, "0.0.0.0/0"),
        GuardRule(False, "tcp", 9, 70_000, "0.0.0.0/0"),
        GuardRule(False, "tcp", 9, 3, "0.0.0.0/0"),
        GuardRule(True, "icmp", 300, 0, "0.0.0.0/0"),
        GuardRule(True, "256", -1, -1, "0.0.0.0/0"),
        GuardRule(True, "٣", -1, -1, "0.0.0.0/0"),
        GuardRule(True, "icmpv6", -1, -1, "::/0"),
        GuardRule(True, "-1", -1, -1, "2001:db8::/32"),
    ],
)
def test_a_rule_that_makes_no_sense_lets_nobody_through(rule: GuardRule) -> None:
    text = written(rule)
    assert "evil" not in text
    chain = text.partition("chain into_group0 {")[2].partition("chain into_mt1")[0]
    assert "accept" not in chain or "@members0" in chain  # a group without members


def test_names_of_groups_and_cards_of_members_are_never_written() -> None:
    rule = GuardRule(False, "-1", -1, -1, "", EVIL)
    evil = Guarded("i-2", EVIL, "172.31.0.5", (EVIL,))
    also = Guarded("i-3", "02:00:00:00:00:03", EVIL, (EVIL,))
    good = Guarded("i-4", "02:00:00:00:00:04", "172.31.0.7", (EVIL,))
    text = written(rule, evil, also, good, group=EVIL)
    assert "evil" not in text
    assert "elements = { 02:00:00:00:00:01 . 172.31.0.4, 02:00:00:00:00:04 . 172.31.0.7 }" in text


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (GuardRule(False, "tcp", 22, 22, "10.0.0.0/8"), "ip saddr 10.0.0.0/8 tcp dport 22-22 accept"),
        (GuardRule(False, "udp", 0, 65535, "0.0.0.0/0"), "ether type ip ip protocol udp accept"),
        (GuardRule(True, "-1", -1, -1, "0.0.0.0/0"), "ether type ip accept"),
        (
            GuardRule(True, "icmp", 8, 0, "10.0.0.1/32"),
            "ip daddr 10.0.0.1/32 ip protocol icmp icmp type 8 icmp code 0",
        ),
        (GuardRule(False, "47", -1, -1, "10.0.0.1/32"), "ip saddr 10.0.0.1/32 ip protocol 47 accept"),
        (GuardRule(True, "tcp", 1, 2, "", "sg-2"), "ether daddr . ip daddr @members0 tcp dport 1-2 accept"),
    ],
)
def test_a_rule_is_written_for_its_way(rule: GuardRule, words: str) -> None:
    way, other = ("from", "into") if rule.egress else ("into", "from")
    text = written(rule)
    assert words in text.partition(f"chain {way}_group0 {{")[2].partition("}")[0]
    assert "accept" not in text.partition(f"chain {other}_group0 {{")[2].partition("}")[0]


def test_a_guest_of_whom_nothing_is_known_is_denied_both_ways() -> None:
    text = "\n".join(rules_of(SEGMENT, (ONE,), Guards()))
    for way in ("into", "from"):
        chain = text.partition(f"chain {way}_mt1 {{")[2].partition("}")[0].strip()
        assert chain == "meta mark set meta mark or 0x10000"


def test_a_bridge_without_guests_has_rules_all_the_same() -> None:
    assert "vmap" not in "\n".join(rules_of(SEGMENT, (), Guards()))
