"""`mallee doctor` on hosts that lack one thing each: it says what, and how to mend it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.commands.finding import Finding
from mallee.cli.commands.real_host import findings
from mallee.cli.commands.real_machine import Machine
from mallee.nc.config import NcConfig

VERSIONS = {
    "qemu-system-x86_64": "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)",
    "qemu-img": "qemu-img version 7.2.22",
    "nft": "nftables v1.0.6 (Lester Gooch #5)",
    "ip": "ip utility, iproute2-6.1.0, libbpf 1.1.2",
    "bridge": "bridge utility, 6.1.0",
    "dnsmasq": "Dnsmasq version 2.90  Copyright (c) 2000-2024 Simon Kelley",
    "virtlogd": "virtlogd (libvirt) 9.0.0",
}
DOCKERS = """table ip filter {
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
}
"""


class Fake:
    """A host on which everything is well, until a test says otherwise."""

    def __init__(self, folder: Path) -> None:
        (folder / "images/tiny").mkdir(parents=True)
        (folder / "images/tiny/vmlinuz").touch()
        self.missing: set[str] = set()
        self.says: dict[tuple[str, ...], str] = {
            ("ip", "-br", "addr"): "eth0 UP 10.0.0.1/24",
        }
        self.config = NcConfig(
            address="10.0.0.1:8777",
            cluster="10.0.0.9:8774",
            objects="10.0.0.9:8779",
            hypervisor="libvirt",
            network="flat",
            network_peers=("10.0.0.2",),
            image_folder=str(folder / "images"),
            guest_folder=str(folder),
        )
        self.machine = Machine(
            which=lambda name: None if name in self.missing else f"/usr/bin/{name}",
            said=self._said,
            read=lambda path: None if path in self.missing else "1",
            daemon=self._daemon,
            reaches=lambda host, port: f"{host}:{port}" not in self.missing,
            has_module=lambda name: name not in self.missing,
            kvm=lambda kernel: kernel.exists() and "kvm" not in self.missing,
            free=lambda _: 10**9 if "disk" in self.missing else 10**12,
            memory=lambda: 10**8 if "memory" in self.missing else 10**10,
            is_root=lambda: "root" not in self.missing,
        )

    def _said(self, *command: str) -> str:
        return self.says.get(
            command, VERSIONS.get(command[0], "") if command[-1] in {"--version", "-V"} else ""
        )

    def _daemon(self, uri: str) -> str:
        if "libvirtd" in self.missing:
            raise ValueError("no such socket")
        return "9.0.0"

    def found(self) -> dict[str, Finding]:
        return {each.name: each for each in findings(self.config, self.machine)}


@pytest.fixture
def host(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def test_a_fit_host_has_nothing_to_mend(host: Fake) -> None:
    assert [each for each in host.found().values() if each.ok is not True] == []
    assert host.found()["accelerator"].seen.startswith("KVM")


@pytest.mark.parametrize(
    ("missing", "name", "ok", "fix"),
    [
        ("root", "root", False, "as root"),
        ("qemu-system-x86_64", "QEMU", False, "apt install"),
        ("qemu-img", "qemu-img", False, "qemu-utils"),
        ("nft", "nft", False, "nftables"),
        ("ip", "ip", False, "iproute2"),
        ("dnsmasq", "dnsmasq", False, "dnsmasq-base"),
        ("virtlogd", "virtlogd", False, "libvirt-daemon-system"),
        ("libvirt", "libvirt-python", False, "libvirt-dev"),
        ("PIL", "libvirt-python", None, "mallee[libvirt]"),
        ("libvirtd", "libvirt", False, "systemctl start libvirtd"),
        ("kvm", "accelerator", None, "emulated"),
        ("memory", "guest memory", False, "larger host"),
        ("disk", "guest disk", False, "guest_folder"),
        ("/proc/sys/net/bridge/bridge-nf-call-iptables", "connections", False, "modprobe br_netfilter"),
        ("10.0.0.9:8774", "cluster", None, "firewall"),
        ("10.0.0.9:8779", "object store", None, "firewall"),
        ("10.0.0.2:8777", "host 10.0.0.2", None, "UDP 4789"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(
    host: Fake, missing: str, name: str, ok: bool | None, fix: str
) -> None:
    host.missing.add(missing)
    found = host.found()[name]
    assert found.ok is ok
    assert fix in found.fix


@pytest.mark.parametrize(
    ("command", "said", "name", "fix"),
    [
        (("qemu-system-x86_64", "--version"), "QEMU emulator version 4.2.1", "QEMU", "7.0 or newer"),
        (("nft", "--version"), "nftables v0.9.3", "nft", "1.0 or newer"),
        (("ip", "-br", "link", "show", "dev", "mallee0"), "mallee0 UP", "bridge", "bridge in [nc]"),
        (("nft", "list", "chains", "ip"), DOCKERS, "forwarding", "nft insert rule ip filter"),
        (("ip", "-br", "addr"), "eth0 UP 10.0.0.7/24", "own address", "migration_host"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(
    host: Fake, command: tuple[str, ...], said: str, name: str, fix: str
) -> None:
    host.says[command] = said
    found = host.found()[name]
    assert found.ok is False
    assert fix in found.fix


@pytest.mark.parametrize(
    ("changed", "name", "ok"),
    [
        ({"accelerator": "kvm"}, "accelerator", False),
        ({"accelerator": "qemu"}, "accelerator", True),
        ({"network": "none"}, "guest network", None),
        ({"image_folder": "/nowhere"}, "images", None),
        ({"address": "10.0.0.1:0"}, "host 10.0.0.2", None),
    ],
)
def test_what_was_asked_for_decides_what_stands_in_the_way(
    host: Fake, changed: dict[str, Any], name: str, ok: bool | None
) -> None:
    host.missing.add("kvm")
    host.config = replace(host.config, **changed)
    assert host.found()[name].ok is ok


def test_our_own_bridge_is_no_obstacle(host: Fake) -> None:
    host.says["ip", "-br", "link", "show", "dev", "mallee0"] = "mallee0 UP"
    host.says["nft", "list", "table", "bridge", "mallee0"] = "table bridge mallee0 {}"
    assert host.found()["bridge"].seen == "mallee0 is ours"
