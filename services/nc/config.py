"""What the operator decides for a node controller: section `[nc]` of `mallee.toml`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mallee.kernel.errors import Fault, Kind

_is_link = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,14}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class NcConfig:
    """The node controller's settings.

    Attributes:
        zone: the availability zone it belongs to.
        address: `host:port` of its gRPC server; port 0 for any.
        cluster: `host:port` of its cluster controller.
        fake_nodes: how many pretend hosts this process is. One has the process's name, more of them
            are called `<name>.1`, `<name>.2` ...
        connection_each: every node reaches the cluster controller over a TCP connection of its own,
            as nodes on machines of their own would.
        hypervisor: `fake` or `libvirt`.
        vcpus, memory_mib, cpu_model: what each fake node offers.
        start_seconds: how long a pretend guest takes to run.
        instant: pretend guests take no time at all, for test suites.
        bandwidth_mbps: of each node's line for migrations, megabits a second.
        lease_seconds: how long a restarted controller lets adopted guests run unconfirmed.
        look_seconds: how often the inventory is read again, for what nobody announced.
        libvirt_uri: of the daemon whose guests are this node's.
        guest_folder: where stands what belongs to real guests, root disks too; empty for a folder beside the
            database. QEMU, as whoever it runs, must be able to open files in it.
        image_folder: where images lie that every node has, as `mallee image build-tiny` makes them.
        objects: `host:port` of the object store's gRPC server, where all other images come from.
        image_cache_mib: what ready images may take on the disk, beside those that guests stand on.
        accelerator: `kvm`, `qemu` for software emulation, or `auto`: KVM where a guest really makes
            progress with it.
        guest_cpu: the processor that real guests see, by QEMU's name. Guests only move between nodes
            that have the same.
        machine: QEMU's machine, with a version when hosts with different QEMUs are to exchange guests.
        network: `flat` makes one segment for the guests of all hosts that are named, with addresses,
            metadata and rules; `bridge` plugs guests into a bridge that somebody else looks after;
            `none` gives them no card. Nothing of a host's network is touched without being asked.
        bridge: its name on the host, and that of its rules: several clouds on one host have several.
        network_peers: the addresses of the other hosts of a flat network; empty for those of all real nodes
            of the zone, as they join.
        host_vcpus: what real guests may have together; 0 for as many as the host has processors.
        migration_host: where other nodes' hypervisors reach this host; empty for the host of `address`.
        migration_tls: guests cross between hosts encrypted, and both hosts prove who they are; a node
            without it and one with it do not exchange guests.
        migration_keys: a folder in which QEMU may read: where its key lies while it reads it.
    """

    zone: str = "local-1a"
    address: str = "127.0.0.1:0"
    cluster: str = "127.0.0.1:8774"
    fake_nodes: int = 1
    connection_each: bool = False
    hypervisor: str = "fake"
    vcpus: int = 128
    memory_mib: int = 524_288
    cpu_model: str = "mallee-fake-v1"
    start_seconds: float = 1.0
    instant: bool = False
    bandwidth_mbps: float = 10_000.0
    lease_seconds: float = 10.0
    look_seconds: float = 30.0
    libvirt_uri: str = "qemu:///system"
    guest_folder: str = ""
    image_folder: str = "/var/lib/mallee/images"
    objects: str = "127.0.0.1:8779"
    image_cache_mib: int = 20_480
    accelerator: str = "auto"
    guest_cpu: str = "qemu64"
    machine: str = "q35"
    network: str = "none"
    bridge: str = "mallee0"
    network_peers: tuple[str, ...] = ()
    host_vcpus: int = 0
    migration_host: str = ""
    migration_tls: bool = True
    migration_keys: str = "/etc/pki/qemu"

    def __post_init__(self) -> None:
        if self.hypervisor not in {"fake", "libvirt"}:
            raise _wrong("hypervisor", self.hypervisor, "Give fake or libvirt.")
        if self.hypervisor == "libvirt" and self.fake_nodes != 1:
            raise _wrong("fake_nodes", self.fake_nodes, "A host with real guests is one node: leave it away.")
        if self.accelerator not in {"auto", "kvm", "qemu"}:
            raise _wrong("accelerator", self.accelerator, "Give auto, kvm or qemu.")
        if self.network not in {"none", "bridge", "flat"}:
            raise _wrong("network", self.network, "Give flat, bridge or none.")
        if not _is_link(self.bridge):
            raise _wrong("bridge", self.bridge, "Give a name of at most 15 letters, digits, - and _.")
        for name in ("fake_nodes", "vcpus", "memory_mib", "image_cache_mib"):
            if not 1 <= getattr(self, name) <= 1 << 30:
                raise _wrong(name, getattr(self, name), "Give 1 or more.")
        for name in ("bandwidth_mbps", "lease_seconds", "look_seconds"):
            if not getattr(self, name) > 0:
                raise _wrong(name, getattr(self, name), "Give more than 0.")
        if not self.start_seconds >= 0:
            raise _wrong("start_seconds", self.start_seconds, "Give 0 or more.")

    def node_names(self, own: str) -> list[str]:
        """What the nodes of a process called `own` are called."""
        if self.fake_nodes == 1:
            return [own]
        return [f"{own}.{number}" for number in range(1, self.fake_nodes + 1)]


def _wrong(key: str, value: object, fix: str) -> Fault:
    return Fault(
        Kind.INVALID, f"A node controller cannot have {key} = {value!r}.", fix=fix, code="bad-config"
    )
