"""What the cloud's auditor compares: plain rows, from whatever source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mallee.domain.audit import Finding
from mallee.domain.guest import Phase


class Intent(NamedTuple):
    """An instance as the CLC has it."""

    id: str
    zone: str
    state: int
    operation: str
    changed_ms: int
    revision: int
    unsettled: bool
    host_id: str
    generation: int
    reachable: bool
    migration_id: str
    version: int
    subnet_id: str
    private_address: str


class Held(NamedTuple):
    """The same instance as its zone has it; `host_id` is empty while it holds no room."""

    instance_id: str
    revision: int
    generation: int
    host_id: str
    phase: Phase
    reachable: bool
    migration_id: str


class Attached(NamedTuple):
    """A network interface of an instance; the address as an integer."""

    id: str
    instance_id: str
    subnet_id: str
    address: int
    device_index: int


class SubnetCount(NamedTuple):
    """Addresses of one subnet: of its block, by its counter, in its free ranges, in its interfaces."""

    id: str
    cidr: str
    counted: int
    ranged: int
    held: int


@dataclass(slots=True)
class ZoneReport:
    """What a zone says of itself."""

    zone: str
    held: dict[str, Held] = field(default_factory=dict)
    violations: list[Finding] = field(default_factory=list)
    doubt_seconds: float = 0.0


class Page(NamedTuple):
    """Instances in the order of their ids, and all interfaces of the same range, of one snapshot."""

    intents: Sequence[Intent]
    attached: Sequence[Attached]
