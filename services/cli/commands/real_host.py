"""Is this machine fit for real guests: everything that a node with `hypervisor = "libvirt"` stands on.

Nothing is changed by looking, but for one guest that is started for a moment where there is a /dev/kvm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mallee.cli.commands.finding import Finding
from mallee.cli.commands.real_machine import Machine
from mallee.nc.config import NcConfig
from mallee.nc.drivers.libvirt.images import KERNEL

PACKAGES: Final = (
    "apt install --no-install-recommends qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients"
    " iproute2 nftables dnsmasq-base"
)
OLDEST: Final = {"QEMU": (7, 0), "libvirt": (8, 0), "nft": (1, 0)}  # what guests and rules are written for
GUEST_DISK, GUEST_MEMORY = 10 * 10**9, 1024 * 10**6  # bytes free, for a few guests
VXLAN, MIGRATION = 4789, "49152-49215"
_version = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?").search


def findings(config: NcConfig, machine: Machine) -> Iterator[Finding]:
    """Every check of a host for real guests, in the order in which things fail."""
    yield _root(machine)
    yield from _programs(machine)
    yield _binding(machine)
    yield _libvirt(config, machine)
    yield _accelerator(config, machine)
    yield from _room(config, machine)
    yield _images(config)
    if config.network == "flat":
        yield from _network(config, machine)
    else:
        fix = 'network = "flat" in [nc] gives guests addresses, metadata and security groups'
        yield Finding(None, "guest network", config.network, fix)
    yield from _others(config, machine)


def _root(machine: Machine) -> Finding:
    return Finding(
        machine.is_root(), "root", "yes" if machine.is_root() else "no", "Run the node controller as root."
    )


def _programs(machine: Machine) -> Iterator[Finding]:
    for name, command in (
        ("QEMU", ("qemu-system-x86_64", "--version")),
        ("qemu-img", ("qemu-img", "--version")),
        ("nft", ("nft", "--version")),
        ("ip", ("ip", "-V")),
        ("bridge", ("bridge", "-V")),
        ("dnsmasq", ("dnsmasq", "--version")),
        ("virtlogd", ("virtlogd", "--version")),
    ):
        if machine.which(command[0]) is None:
            yield Finding(False, name, "none", PACKAGES)
            continue
        yield _new_enough(name, machine.said(*command))


def _new_enough(name: str, said: str) -> Finding:
    found = _version(said)
    if found is None:
        return Finding(True, name, said.strip().partition("\n")[0] or "there")
    oldest = OLDEST.get(name, (0, 0))
    is_enough = (int(found[1]), int(found[2])) >= oldest
    fix = f"{name} {'.'.join(map(str, oldest))} or newer is needed: Debian 12 has it."
    return Finding(is_enough, name, found[0], fix)


def _binding(machine: Machine) -> Finding:
    missing = [each for each in ("libvirt", "PIL") if not machine.has_module(each)]
    fix = "apt install libvirt-dev pkg-config gcc python3-dev, then pip install 'mallee[libvirt]'"
    if "libvirt" in missing:
        return Finding(False, "libvirt-python", "none", fix)
    if missing:
        return Finding(None, "libvirt-python", "there, without Pillow", f"For pictures of screens: {fix}")
    return Finding(True, "libvirt-python", "there")


def _libvirt(config: NcConfig, machine: Machine) -> Finding:
    if not machine.has_module("libvirt"):
        return Finding(False, "libvirt", "not asked", "Install libvirt-python first.")
    try:
        return _new_enough("libvirt", machine.daemon(config.libvirt_uri))
    except ValueError as error:
        fix = f"systemctl start libvirtd, or name another daemon: libvirt_uri in [nc]; {PACKAGES}"
        return Finding(False, "libvirt", f"{config.libvirt_uri}: {error}", fix)


def _accelerator(config: NcConfig, machine: Machine) -> Finding:
    """By a kernel that makes progress: neither the device file nor the firmware says so."""
    if config.accelerator == "qemu":
        return Finding(True, "accelerator", "software emulation, as asked for")
    if machine.kvm(Path(config.image_folder) / "tiny" / KERNEL):
        return Finding(True, "accelerator", "KVM: a guest really makes progress with it")
    needs_it = False if config.accelerator == "kvm" else None
    fix = (
        "Guests are emulated, many times slower. Load kvm_intel or kvm_amd, switch virtualisation on in the"
        " firmware; in a virtual machine, nested virtualisation in its host"
    )
    if not (Path(config.image_folder) / "tiny" / KERNEL).exists():
        return Finding(
            needs_it, "accelerator", "KVM was not tried", "mallee image build-tiny, which is booted"
        )
    return Finding(needs_it, "accelerator", "KVM does not work", fix)


def _room(config: NcConfig, machine: Machine) -> Iterator[Finding]:
    free = machine.memory()
    yield Finding(
        free > GUEST_MEMORY,
        "guest memory",
        f"{free / 1e9:.1f} GB free",
        "Stop something, or take a larger host.",
    )
    place = next(
        each for each in (Path(config.guest_folder or "/var/lib"), *Path("/var/lib").parents) if each.exists()
    )
    free = machine.free(place)
    yield Finding(
        free > GUEST_DISK,
        "guest disk",
        f"{free / 1e9:.1f} GB free in {place}",
        "Free some space, or name another folder: guest_folder in [nc].",
    )


def _images(config: NcConfig) -> Finding:
    folder = Path(config.image_folder)
    found = sorted(path.parent.name for path in folder.glob(f"*/{KERNEL}"))
    fix = f"mallee image build-tiny, or import one of your own; image_folder in [nc] is {folder}"
    return Finding(True if found else None, "images", ", ".join(found) or f"none in {folder}", fix)


def _network(config: NcConfig, machine: Machine) -> Iterator[Finding]:
    bridged = machine.read("/proc/sys/net/bridge/bridge-nf-call-iptables") is not None
    known = bridged or bool(machine.said("modinfo", "br_netfilter"))
    yield Finding(
        known,
        "connections",
        "br_netfilter " + ("is there" if bridged else "can be loaded" if known else "is missing"),
        "Security groups need it: install the kernel's modules, then modprobe br_netfilter",
    )
    yield _bridge(config, machine)
    yield _others_rules(config.bridge, machine)


def _bridge(config: NcConfig, machine: Machine) -> Finding:
    there = machine.said("ip", "-br", "link", "show", "dev", config.bridge)
    ours = bool(machine.said("nft", "list", "table", "bridge", config.bridge))
    if there and not ours:
        fix = "Somebody else has a link of that name: bridge in [nc] names another."
        return Finding(False, "bridge", f"{config.bridge} is not ours", fix)
    return Finding(True, "bridge", f"{config.bridge} " + ("is ours" if there else "is free"))


def _others_rules(bridge: str, machine: Machine) -> Finding:
    """What is bridged is led through everybody's rules: one that drops what is forwarded drops guests' packets."""
    drops = _dropping(machine.said("nft", "list", "chains", "ip"))
    if drops:
        fix = (
            f"Let guests' packets through there (Docker does this to a host): nft insert rule ip {drops[0]}"
            f" FORWARD iifname {bridge} oifname {bridge} accept"
        )
        return Finding(False, "forwarding", f"table ip {drops[0]} drops what is forwarded", fix)
    return Finding(True, "forwarding", "nobody else drops it")


def _dropping(chains: str) -> list[str]:
    """Tables of the ip family with a chain that drops what is forwarded unless it says otherwise."""
    table, found = "", []
    for line in map(str.strip, chains.splitlines()):
        if line.startswith("table ip "):
            table = line.split()[2]
        elif "hook forward" in line and "policy drop" in line:
            found.append(table)
    return found


def _others(config: NcConfig, machine: Machine) -> Iterator[Finding]:
    """The other machines: those that this one must reach, and those that must reach it."""
    for name, address in (("cluster", config.cluster), ("object store", config.objects)):
        host, _, port = address.rpartition(":")
        if port.isdigit():
            fix = f"Start it, or let this machine reach {address} (a firewall between?)."
            reached = machine.reaches(host.strip("[]"), int(port))
            yield Finding(reached or None, name, f"{address} " + ("answers" if reached else "is silent"), fix)
    own = config.migration_host or config.address.rpartition(":")[0]
    if config.network_peers:
        yield _own_address(own, machine)
    for peer in config.network_peers:
        yield _peer(peer, config, machine)


def _own_address(own: str, machine: Machine) -> Finding:
    has = f" {own}/" in machine.said("ip", "-br", "addr")
    fix = "Other hosts send guests' packets and memory there: migration_host in [nc] must be this machine's."
    return Finding(has, "own address", own if has else f"{own} is not this machine's", fix)


def _peer(peer: str, config: NcConfig, machine: Machine) -> Finding:
    port = config.address.rpartition(":")[2]
    if port in {"", "0"}:
        return Finding(None, f"host {peer}", "not asked", "Give all nodes one port: address in [nc].")
    reached = machine.reaches(peer, int(port))
    fix = f"Start its node controller at port {port}; between hosts open TCP {port} and {MIGRATION}, UDP {VXLAN}."
    return Finding(reached or None, f"host {peer}", "answers" if reached else "is silent", fix)
