"""A guest's metadata on a real network: cloud-init asks, neighbours try, and hops are counted."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mallee.domain.guest import MetadataOptions
from tests.live.namespaces import NetGuest, NetHost, inside, missing, net_hosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDdpUgfPWWbyLzJ9zOkZ8kYKDYJCkDsPkbYJTIBvDkqO me"
SCRIPT = b"#!/bin/sh\necho hello\n"
_PACKAGES = (
    *("cloud-init", "python3-configobj", "python3-jinja2", "python3-jsonpatch", "python3-json-pointer"),
    *("python3-jsonschema", "python3-oauthlib", "python3-requests", "python3-yaml", "python3-urllib3"),
    *("python3-idna", "python3-chardet", "python3-certifi", "python3-charset-normalizer", "python3-six"),
    *("python3-markupsafe", "python3-attr", "python3-pyrsistent", "python3-netifaces", "python3-serial"),
)
_GET = "GET /latest/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n"
_PUT = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NetHost, NetHost]]:
    if reason := missing():
        pytest.skip(reason)
    with net_hosts(tmp_path_factory.mktemp("net")) as made:
        yield made


@pytest.fixture(scope="module")
def guest(hosts: tuple[NetHost, NetHost]) -> NetGuest:
    return hosts[0].add(4, public_key=KEY, key_name="mine", user_data=SCRIPT, launch_index=2)


@pytest.fixture(scope="module")
def neighbour(hosts: tuple[NetHost, NetHost]) -> NetGuest:
    return hosts[0].add(5)


@pytest.fixture(scope="module")
def cloud_init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's cloud-init and what it needs, unpacked and not installed; the folder that Python must know."""
    folder = tmp_path_factory.mktemp("cloud-init")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("cloud-init needs Debian's own Python, /usr/bin/python3")
    got = subprocess.run(
        ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *_PACKAGES],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if got.returncode:
        pytest.skip(f"Debian's packages cannot be had here: {got.stderr.strip()[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder / "root")], check=True)
    return folder / "root/usr/lib/python3/dist-packages"


def asked(cloud_init: Path, guest: NetGuest) -> dict[str, Any]:
    command = ["/usr/bin/python3", str(Path(__file__).with_name("cloud_init_asks.py"))]
    words = ["ip", "netns", "exec", guest.netns, "env", f"PYTHONPATH={cloud_init}", *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def describe(guest: NetGuest, options: MetadataOptions) -> None:
    guest.guest = replace(guest.guest, metadata=options)
    guest.host.do(guest.host.network.describe(guest.key, guest.guest))


def token(guest: NetGuest) -> str:
    answer = guest.asks(_PUT.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
    assert answer.startswith(b"HTTP/1.1 200")
    return answer.rpartition(b"\r\n\r\n")[2].decode()


def got(guest: NetGuest, path: str, headers: str = "") -> bytes:
    return guest.asks(_GET.format(path, headers).encode())


@pytest.mark.parametrize("required", [True, False])
def test_cloud_init_finds_everything(cloud_init: Path, guest: NetGuest, *, required: bool) -> None:
    describe(guest, MetadataOptions(tokens_required=required, tags={"Name": "web"}))
    found = asked(cloud_init, guest)
    assert found["found"]
    assert found["used_token"]  # version 2, without being forced to
    assert found["instance_id"] == guest.key.instance_id
    assert found["user_data"] == SCRIPT.decode()
    assert found["keys"] == [KEY]
    assert (found["zone"], found["region"]) == ("local-1a", "local-1")
    assert found["metadata"]["local-ipv4"] == guest.address
    assert found["metadata"]["ami-launch-index"] == "2"
    assert found["metadata"]["tags"]["instance"]["Name"] == "web"
    card = found["metadata"]["network"]["interfaces"]["macs"][guest.guest.mac_address]
    assert card["local-ipv4s"] == guest.address
    (ethernet,) = found["network"]["ethernets"].values()
    assert ethernet["match"]["macaddress"] == guest.guest.mac_address


def test_cloud_init_gets_nothing_from_an_endpoint_that_is_disabled(cloud_init: Path, guest: NetGuest) -> None:
    describe(guest, MetadataOptions(enabled=False))
    assert not asked(cloud_init, guest)["found"]
    assert got(guest, "meta-data/instance-id").startswith(b"HTTP/1.1 403")
    describe(guest, MetadataOptions())


def test_each_guest_is_told_of_itself_by_its_card_and_not_by_its_address(
    guest: NetGuest, neighbour: NetGuest
) -> None:
    describe(guest, MetadataOptions())
    assert got(guest, "meta-data/instance-id").endswith(b"i-4")
    assert got(neighbour, "meta-data/instance-id").endswith(b"i-5")
    neighbour.run("ip", "addr", "add", f"{guest.address}/20", "dev", "eth0")
    try:
        with neighbour.open() as line:
            line.bind((guest.address, 0))
            with pytest.raises(TimeoutError):
                line.connect(("169.254.169.254", 80))
    finally:
        neighbour.run("ip", "addr", "del", f"{guest.address}/20", "dev", "eth0")


def test_a_guest_with_another_card_address_gets_nothing(guest: NetGuest, neighbour: NetGuest) -> None:
    own = neighbour.guest.mac_address
    neighbour.run("ip", "link", "set", "eth0", "address", guest.guest.mac_address)
    neighbour.run("ip", "route", "replace", "169.254.169.254/32", "dev", "eth0")
    try:
        with pytest.raises(OSError, match=r"timed out|unreachable|No route"):
            got(neighbour, "meta-data/instance-id")
    finally:
        neighbour.run("ip", "link", "set", "eth0", "address", own)
        neighbour.run("ip", "route", "replace", "169.254.169.254/32", "dev", "eth0")


def test_a_neighbours_port_is_out_of_reach_for_guests_and_for_the_host(
    guest: NetGuest, neighbour: NetGuest
) -> None:
    port = guest.host.do(guest.host.metadata.open(guest.key, guest.guest))
    with pytest.raises(TimeoutError):
        neighbour.connect("169.254.169.254", port)
    with inside(guest.host.netns, socket.socket) as line:
        line.settimeout(0.7)
        with pytest.raises(TimeoutError):
            line.connect(("169.254.169.254", port))


@pytest.mark.parametrize("hops", [1, 3])
def test_the_answer_with_the_token_goes_as_many_hops_as_it_may(guest: NetGuest, hops: int) -> None:
    describe(guest, MetadataOptions(hop_limit=hops))
    ears = inside(
        guest.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    )
    with ears:
        ears.settimeout(10)
        given = token(guest)
        while given.encode() not in (packet := ears.recv(65536)):
            pass
    assert packet[8] == hops  # RFC 791: time to live
    assert got(guest, "meta-data/mac", f"X-aws-ec2-metadata-token: {given}\r\n").endswith(
        b"02:00:00:00:00:04"
    )


def test_a_container_behind_the_guest_gets_no_token_and_version_1_as_on_ec2(guest: NetGuest) -> None:
    describe(guest, MetadataOptions(hop_limit=1))
    inner = f"{guest.netns}c"
    for words in (
        ("ip", "netns", "add", inner),
        (
            "ip",
            "link",
            "add",
            "c0",
            "netns",
            guest.netns,
            "type",
            "veth",
            "peer",
            "name",
            "c1",
            "netns",
            inner,
        ),
        ("ip", "-n", inner, "addr", "add", "192.168.9.2/24", "dev", "c1"),
        ("ip", "-n", inner, "link", "set", "c1", "up"),
        ("ip", "-n", inner, "route", "add", "default", "via", "192.168.9.1"),
    ):
        subprocess.run(words, check=True, capture_output=True)
    try:
        guest.run("ip", "addr", "add", "192.168.9.1/24", "dev", "c0")
        guest.run("ip", "link", "set", "c0", "up")
        guest.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        hide = "table ip c {\nchain p {\ntype nat hook postrouting priority 100;\noifname eth0 masquerade\n}\n}\n"
        guest.run("nft", hide)
        behind = NetGuest(guest.host, inner, guest.key, guest.guest)
        assert got(behind, "meta-data/instance-id").endswith(b"i-4")
        with behind.connect("169.254.169.254", 80) as line:
            line.sendall(_PUT.encode())
            with pytest.raises(TimeoutError):
                line.recv(4096)
    finally:
        guest.run("ip", "link", "del", "c0")
        subprocess.run(["ip", "netns", "del", inner], check=True)


def test_a_node_that_begins_anew_goes_on_telling_as_it_was_told(guest: NetGuest) -> None:
    describe(guest, MetadataOptions(tokens_required=True))
    before = token(guest)
    guest.host.restart()
    assert got(guest, "meta-data/mac").startswith(b"HTTP/1.1 401")
    # Its tokens are of another secret now: SDKs ask for a new one when they are told so.
    assert got(guest, "meta-data/mac", f"X-aws-ec2-metadata-token: {before}\r\n").startswith(b"HTTP/1.1 401")
    assert got(guest, "meta-data/mac", f"X-aws-ec2-metadata-token: {token(guest)}\r\n").startswith(
        b"HTTP/1.1 200"
    )


def test_a_guest_that_asks_without_end_is_slowed_down(guest: NetGuest) -> None:
    rules = guest.host.said("nft", "list", "chain", "bridge", "mallee0", "arriving")
    assert "limit rate over 1024/second" in rules
