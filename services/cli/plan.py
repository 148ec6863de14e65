"""Which services a cloud has, what they are called, and at which ports they answer."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import msgspec

from mallee.cli import ports
from mallee.cli.state import Shape
from mallee.kernel.errors import Fault, Kind

EC2_PORT = 8773
LEASE_SECONDS, LONGEST_LEASE = 10.0, 60.0
OWN_PROCESS_UP_TO = 4  # fake nodes of a zone; more of them share one node controller


@dataclass(frozen=True, slots=True)
class Member:
    """One service of the cloud, and one process under `mallee up --processes`.

    Attributes:
        name: unique in the cloud: `clc`, `cc-mallee-1a`, `nc-mallee-1a-1`, `sc`, `walrus`.
        role: `clc`, `cc`, `nc`, `sc` or `walrus`.
        zone: empty for what serves all of them.
        nodes: how many fake nodes a node controller holds.
        port: of its gRPC server.
        host: where it listens.
    """

    name: str
    role: str
    zone: str
    nodes: int
    port: int
    host: str

    @property
    def own_name(self) -> str:
        """Its name in certificates, and the first part of its nodes' names: without the role before it."""
        return self.name.removeprefix(f"{self.role}-")

    @property
    def node_names(self) -> list[str]:
        """What its nodes are called."""
        own = self.own_name
        return [own] if self.nodes == 1 else [f"{own}.{number}" for number in range(1, self.nodes + 1)]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole cloud, before it is started."""

    shape: Shape
    region: str
    members: tuple[Member, ...]

    @property
    def zones(self) -> list[str]:
        return [zone_name(self.region, number) for number in range(self.shape.zones)]

    @property
    def lease_seconds(self) -> float:
        """What suits so many nodes on one machine: 10 for up to a hundred, 60 for six hundred and more."""
        return max(LEASE_SECONDS, min(LONGEST_LEASE, self.shape.zones * self.shape.nodes / 10))

    @property
    def host(self) -> str:
        """Where everything listens."""
        return self.shape.listen

    @property
    def ec2_port(self) -> int:
        return self.shape.ports["ec2"]

    @property
    def s3_port(self) -> int:
        return self.shape.ports["s3"]

    def of_role(self, role: str) -> Iterator[Member]:
        return (member for member in self.members if member.role == role)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asked for; None where it said nothing."""

    port: int | None = None
    zones: int | None = None
    nodes: int | None = None
    node_vcpus: int | None = None
    node_memory_mib: int | None = None
    instant: bool | None = None
    hypervisor: str | None = None
    listen: str | None = None


def zone_name(region: str, number: int) -> str:
    return f"{region}{string.ascii_lowercase[number]}"


def shape_of(wish: Wish, kept: Shape | None) -> Shape:
    """The wish, filled up by what this cloud was before, and by the defaults.

    Raises:
        Fault: INVALID for a number out of range; CONFLICT when zones or nodes would vanish with
            what lives there.
    """
    real = wish.hypervisor == "libvirt"
    before = kept or Shape(
        zones=1 if real else 2,
        nodes=1 if real else 2,
        shared_nodes=(wish.nodes or 0) > OWN_PROCESS_UP_TO,
        node_vcpus=128,
        node_memory_mib=524_288,
        instant=False,
        ports={},
    )
    asked = {
        name: value
        for name in ("zones", "nodes", "node_vcpus", "node_memory_mib", "instant", "hypervisor", "listen")
        if (value := getattr(wish, name)) is not None
    }
    shape = msgspec.structs.replace(before, **asked)
    _check_listen(shape.listen)
    _check_numbers(shape)
    if kept is not None and shape.hypervisor != kept.hypervisor:
        raise Fault(
            Kind.CONFLICT,
            f"This cloud's nodes are {kept.hypervisor}; they cannot become {shape.hypervisor}.",
            fix="Give another state folder, or begin anew: mallee down --purge",
            code="other-hypervisor",
        )
    if shape.hypervisor == "libvirt" and shape.nodes and (shape.zones, shape.nodes) != (1, 1):
        raise Fault(
            Kind.INVALID,
            "One machine with real guests is one node in one zone.",
            fix="Leave --zones and --nodes away, or give --nodes 0 for none; others join with: mallee node join",
            code="bad-option",
        )
    for name in ("zones", "nodes"):
        if kept is not None and getattr(shape, name) < getattr(kept, name):
            raise Fault(
                Kind.CONFLICT,
                f"This cloud has {getattr(kept, name)} {name}; it cannot start with {getattr(shape, name)}.",
                why="Instances may live in what would be gone.",
                fix="Leave the option away, or begin anew: mallee down --purge",
                code="cloud-would-shrink",
            )
    return shape


def _check_numbers(shape: Shape) -> None:
    for name, low, high in (
        ("zones", 1, 26),
        ("nodes", 0, 10_000),
        ("node_vcpus", 1, 1 << 20),
        ("node_memory_mib", 16, 1 << 40),
    ):
        if not low <= getattr(shape, name) <= high:
            raise Fault(
                Kind.INVALID,
                f"--{name.replace('_mib', '').replace('_', '-')} {getattr(shape, name)} is out of range.",
                fix=f"Give {low} to {high:,}.",
                code="bad-option",
            )


def _check_listen(host: str) -> None:
    """One address of this machine: where a service listens is also what the others, and joining nodes, are told."""
    try:
        address = IPv4Address(host)
    except ValueError:
        address = None
    if address is None or address.is_unspecified or not ports.is_free(0, host):
        raise Fault(
            Kind.INVALID,
            f"--listen {host} is no address of this machine.",
            why="Services listen there, and other machines are told to reach them there.",
            fix="Give one IPv4 address that `ip address` shows; 127.0.0.1 keeps everything on this machine.",
            code="bad-option",
        )


def plan(shape: Shape, region: str, wish: Wish, offer: str) -> Plan:
    """Names and ports of every service.

    The port that users know is claimed or refused. The others are kept from the last start where they
    are still free: nobody types them.

    Raises:
        Fault: CONFLICT `port-taken`.
    """
    names = ["join", *(name for name, *_ in _posts(shape, region))]
    kept, chosen = shape.ports, dict[str, int]()
    host = shape.listen
    public = wish.port if wish.port is not None else kept.get("ec2", EC2_PORT)
    chosen["ec2"] = ports.claim(public, host, offer=offer)
    # A cloud that began at any free port has no use for the well-known one of S3.
    s3 = kept.get("s3", 0 if public == 0 else chosen["ec2"] + 1)
    for name, wanted in [("s3", s3), *((name, kept.get(name, 0)) for name in names)]:
        taken = frozenset(chosen.values())
        usable = wanted and wanted not in taken and ports.is_free(wanted, host)
        chosen[name] = wanted if usable else ports.any_free(host, besides=taken)
    shape = msgspec.structs.replace(shape, ports=kept | chosen)
    return Plan(shape, region, members(shape, region))


def members(shape: Shape, region: str) -> tuple[Member, ...]:
    """The services of a cloud whose ports are chosen, in the order in which they start."""
    return tuple(Member(*post, shape.ports[post[0]], shape.listen) for post in _posts(shape, region))


def _posts(shape: Shape, region: str) -> Iterator[tuple[str, str, str, int]]:
    """Name, role, zone and nodes."""
    yield "sc", "sc", "", 0
    zones = [zone_name(region, number) for number in range(shape.zones)]
    for zone in zones:
        yield f"cc-{zone}", "cc", zone, 0
    yield "clc", "clc", "", 0
    yield "walrus", "walrus", "", 0
    for zone in zones:
        if shape.shared_nodes:
            yield f"nc-{zone}-node", "nc", zone, shape.nodes
        else:
            for number in range(1, shape.nodes + 1):
                yield f"nc-{zone}-node-{number}", "nc", zone, 1
