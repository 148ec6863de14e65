"""The flat network between two hosts, with the security groups that guard its guests, on a real kernel."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from mallee.domain.guards import Guarded, GuardRule, Guards
from tests.live.namespaces import NetGuest, NetHost, inside, missing, net_hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ANYWHERE = "0.0.0.0/0"
OUT = GuardRule(True, "-1", -1, -1, ANYWHERE)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NetHost, NetHost]]:
    if reason := missing():
        pytest.skip(reason)
    with net_hosts(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture(scope="module")
def guests(hosts: tuple[NetHost, NetHost]) -> tuple[NetGuest, NetGuest, NetGuest]:
    """Two on the first host, and one on the other."""
    here, there = hosts
    return here.add(4), here.add(5), there.add(6)


class Cloud:
    """Says who is guarded how, to both hosts, as a cluster controller does."""

    def __init__(self, guests: tuple[NetGuest, ...]) -> None:
        self.guests = guests

    def guard(
        self, groups: Mapping[str, tuple[GuardRule, ...]], *of: tuple[str, ...], only: NetHost | None = None
    ) -> None:
        """Guests are guarded by the groups at their places in `of`."""
        guards = Guards(
            groups,
            tuple(
                Guarded(each.key.instance_id, each.guest.mac_address, each.address, names)
                for each, names in zip(self.guests, of, strict=True)
            ),
        )
        for host in dict.fromkeys(each.host for each in self.guests):
            if only in {None, host}:
                host.do(host.network.guard(guards.about(set(host.guests))))


@pytest.fixture
def cloud(guests: tuple[NetGuest, ...]) -> Cloud:
    return Cloud(guests)


def within(*more: GuardRule) -> tuple[GuardRule, ...]:
    """The rules of a default group, whose own members reach each other."""
    return (GuardRule(False, "-1", -1, -1, "", "sg-d"), OUT, *more)


def test_nobody_reaches_a_guest_of_whom_nothing_is_known(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    one, _, other = guests
    cloud.guard({}, (), (), ())
    assert not one.reaches(other, 80)
    assert not other.pings(one.address)


def test_members_of_a_default_group_reach_each_other_and_nobody_else(
    guests: tuple[NetGuest, ...], cloud: Cloud
) -> None:
    one, beside, other = guests
    cloud.guard({"sg-d": within(), "sg-x": (OUT,)}, ("sg-d",), ("sg-x",), ("sg-d",))
    assert one.reaches(other, 80)
    assert other.reaches(one, 8080)
    assert one.pings(other.address)
    assert other.tells(one, 53)
    assert not beside.reaches(one, 80)
    assert not beside.reaches(other, 80)
    assert not one.reaches(beside, 80)
    assert not beside.tells(other, 53)
    assert not one.pings(beside.address)


@pytest.mark.parametrize(
    ("rule", "let", "stopped"),
    [
        (GuardRule(False, "tcp", 80, 90, ANYWHERE), ("tcp", 90), ("tcp", 91)),
        (GuardRule(False, "tcp", 80, 80, "172.31.0.4/32"), ("tcp", 80), ("udp", 80)),
        (GuardRule(False, "udp", 53, 53, "172.31.0.0/24"), ("udp", 53), ("tcp", 53)),
        (GuardRule(False, "udp", 0, 65535, "", "sg-a"), ("udp", 9999), ("icmp", 0)),
        (GuardRule(False, "icmp", 8, -1, ANYWHERE), ("icmp", 0), ("tcp", 80)),
        (GuardRule(False, "icmp", -1, -1, "", "sg-a"), ("icmp", 0), ("udp", 80)),
        (GuardRule(False, "17", -1, -1, ANYWHERE), ("udp", 5), ("tcp", 5)),
        (GuardRule(False, "-1", -1, -1, "172.31.0.4/31"), ("tcp", 1), ("", 0)),
        (GuardRule(False, "tcp", 80, 80, "10.0.0.0/8"), ("", 0), ("tcp", 80)),
        (GuardRule(False, "icmp", 13, -1, ANYWHERE), ("", 0), ("icmp", 0)),
        (GuardRule(False, "-1", -1, -1, "", "sg-nobody"), ("", 0), ("tcp", 80)),
        (GuardRule(False, "tcp", 80, 80, "not a block"), ("", 0), ("tcp", 80)),
    ],
)
def test_a_rule_lets_in_what_it_says(
    guests: tuple[NetGuest, ...],
    cloud: Cloud,
    rule: GuardRule,
    let: tuple[str, int],
    stopped: tuple[str, int],
) -> None:
    one, _, other = guests
    cloud.guard({"sg-a": (OUT,), "sg-b": (rule, OUT)}, ("sg-a",), (), ("sg-b",))
    for (protocol, port), wanted in ((let, True), (stopped, False)):
        match protocol:
            case "tcp":
                assert one.reaches(other, port) is wanted
            case "udp":
                assert one.tells(other, port) is wanted
            case "icmp":
                assert one.pings(other.address) is wanted


def test_what_may_not_go_out_does_not(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    one, _, other = guests
    inward = (GuardRule(False, "-1", -1, -1, ANYWHERE), OUT)
    outward = (GuardRule(True, "tcp", 80, 80, ANYWHERE), GuardRule(True, "udp", 5, 5, "", "sg-b"))
    cloud.guard({"sg-a": outward, "sg-b": inward}, ("sg-a",), (), ("sg-b",))
    assert one.reaches(other, 80)
    assert one.tells(other, 5)
    assert not one.reaches(other, 81)
    assert not one.pings(other.address)
    assert one.pings("172.31.0.1") is False


def test_an_answer_passes_whatever_the_rules_say(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    one, _, other = guests
    # Nothing may come in to the one, and nothing may go out of the other.
    cloud.guard(
        {"sg-a": (OUT,), "sg-b": (GuardRule(False, "tcp", 7, 7, ANYWHERE),)}, ("sg-a",), (), ("sg-b",)
    )
    with other.listen(7) as server, one.connect(other.address, 7) as line:
        line.sendall(b"question")
        answering, _ = server.accept()
        with answering:
            answering.settimeout(5)
            assert answering.recv(64) == b"question"
            answering.sendall(b"answer")
            assert line.recv(64) == b"answer"
            # A rule that is taken away stops what begins, and not what goes on: as on EC2.
            cloud.guard({"sg-a": (OUT,), "sg-b": ()}, ("sg-a",), (), ("sg-b",))
            line.sendall(b"again")
            assert answering.recv(64) == b"again"
    assert not one.reaches(other, 7)


def test_rules_change_while_guests_talk(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    one, _, other = guests
    for port, wanted in ((80, False), (81, True), (80, False)):
        rules = {"sg-a": (OUT,), "sg-b": (GuardRule(False, "tcp", 81, 81, ANYWHERE),)}
        cloud.guard(rules, ("sg-a",), (), ("sg-b",))
        assert one.reaches(other, port) is wanted
    cloud.guard({"sg-a": (OUT,), "sg-b": ()}, ("sg-a",), (), ("sg-b",))
    assert not one.reaches(other, 81)


def test_a_node_that_begins_anew_keeps_the_last_rules(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    one, beside, other = guests
    cloud.guard({"sg-d": within(), "sg-x": (OUT,)}, ("sg-d",), ("sg-x",), ("sg-d",))
    with other.listen(7) as server, one.connect(other.address, 7) as line:
        answering, _ = server.accept()
        other.host.restart()
        line.sendall(b"still")
        with answering:
            answering.settimeout(5)
            assert answering.recv(64) == b"still"
    assert one.reaches(other, 80)
    assert not beside.reaches(other, 80)


def test_nobody_borrows_the_address_of_a_member(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    _, beside, other = guests
    cloud.guard({"sg-d": within(), "sg-x": (OUT,)}, ("sg-d",), ("sg-x",), ("sg-d",))
    with other.open(socket.SOCK_DGRAM) as ear, beside.open(socket.SOCK_RAW, socket.IPPROTO_RAW) as mouth:
        ear.bind(("0.0.0.0", 53))
        mouth.sendto(udp_packet("172.31.0.4", other.address, 53), (other.address, 0))
        with pytest.raises(TimeoutError):
            ear.recv(16)


def test_a_host_reaches_its_guests_and_they_nothing_of_it(guests: tuple[NetGuest, ...], cloud: Cloud) -> None:
    one, _, _ = guests
    cloud.guard({"sg-a": (OUT,)}, ("sg-a",), ("sg-a",), ("sg-a",))
    with one.listen(22), inside(one.host.netns, socket.socket) as line:
        line.settimeout(5)
        line.connect((one.address, 22))
    assert one.pings("172.31.0.1")
    with pytest.raises(TimeoutError):
        one.connect("172.31.0.1", 53)


def test_a_host_reaches_the_guests_of_others_and_what_it_routes_does_not(
    hosts: tuple[NetHost, NetHost], guests: tuple[NetGuest, ...], cloud: Cloud
) -> None:
    one, _, other = guests
    cloud.guard({"sg-a": (OUT,)}, ("sg-a",), ("sg-a",), ("sg-a",))
    name = f"{hosts[0].netns}o"
    outside = NetGuest(hosts[0], name, one.key, one.guest)
    try:
        for words in (
            ("ip", "netns", "add", name),
            (
                "ip",
                "link",
                "add",
                "o0",
                "netns",
                hosts[0].netns,
                "type",
                "veth",
                "peer",
                "name",
                "o1",
                "netns",
                name,
            ),
            ("ip", "-n", name, "addr", "add", "192.168.9.2/24", "dev", "o1"),
            ("ip", "-n", name, "link", "set", "o1", "up"),
            ("ip", "-n", name, "route", "add", "default", "via", "192.168.9.1"),
            ("ip", "-n", hosts[0].netns, "addr", "add", "192.168.9.1/24", "dev", "o0"),
            ("ip", "-n", hosts[0].netns, "link", "set", "o0", "up"),
        ):
            subprocess.run(words, check=True, capture_output=True)
        hosts[0].said("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for guest in (one, other):
            guest.run("ip", "route", "replace", "192.168.9.0/24", "via", "172.31.0.1")
            assert not outside.reaches(guest, 80)
        # A host that a guest has left still knows its card: what it said to the guest before goes on.
        card = other.guest.mac_address
        hosts[0].said("ip", "neigh", "replace", other.address, "lladdr", card, "dev", "mallee0")
        with other.open(socket.SOCK_DGRAM) as ear, inside(hosts[0].netns, udp_socket) as mouth:
            ear.bind(("0.0.0.0", 53))
            mouth.sendto(b"hello", (other.address, 53))
            assert ear.recv(16) == b"hello"
        rules = (OUT, GuardRule(False, "tcp", 80, 80, "192.168.9.0/24"))
        cloud.guard({"sg-a": rules}, ("sg-a",), ("sg-a",), ("sg-a",))
        assert outside.reaches(one, 80)
        assert outside.tells(one, 81) is False
    finally:
        hosts[0].said("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
        subprocess.run(["ip", "netns", "del", name], check=True)


def udp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def udp_packet(source: str, destination: str, port: int) -> bytes:
    """An IPv4 packet with whatever source; the kernel fills in its length and checksum. RFC 791, RFC 768."""
    payload = b"spoofed"
    udp = b"".join(n.to_bytes(2) for n in (1234, port, 8 + len(payload), 0)) + payload
    head = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0])
    return head + socket.inet_aton(source) + socket.inet_aton(destination) + udp
