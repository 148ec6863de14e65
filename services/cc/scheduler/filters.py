"""Which hosts can: each rule a small function that says why not.

The rules of a question fall in two: those that many questions share (resources, zone, CPU model: the
*class*, for which a heap is kept) and those of one question (pin, affinity, anti-affinity).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mallee.cc.scheduler.inventory import Host
from mallee.domain.guest import Cause, Resources


class Kind(NamedTuple):
    """The class of a question; empty words ask for nothing."""

    resources: Resources
    zone: str = ""
    cpu_model: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A guest looks for a host. Sets hold host indices; `only` None means anywhere."""

    kind: Kind
    only: frozenset[int] | None = None
    apart: frozenset[int] = frozenset()


def lost(host: Host) -> Cause | None:
    if host.lost:
        return Cause("lost", f"Node {host.title} does not hold its lease.")
    return None


def cordoned(host: Host) -> Cause | None:
    if host.cordoned:
        return Cause("cordoned", f"Node {host.title} is cordoned: it takes no new guests.")
    return None


def zone(host: Host, kind: Kind) -> Cause | None:
    if kind.zone and host.zone != kind.zone:
        return Cause("zone-mismatch", f"Node {host.title} is in zone {host.zone}, not {kind.zone}.")
    return None


def cpu_model(host: Host, kind: Kind) -> Cause | None:
    if kind.cpu_model and host.cpu_model != kind.cpu_model:
        return Cause(
            "cpu-model-mismatch",
            f"Node {host.title} offers CPU model {host.cpu_model or 'none'}, the guest needs {kind.cpu_model}.",
        )
    return None


def capacity(host: Host, asked: Resources) -> Cause | None:
    if not host.holds(asked):
        return Cause(
            "no-capacity",
            f"Node {host.title} has {host.free_vcpus} vCPUs and {host.free_memory} MiB free, "
            f"{asked.vcpus} and {asked.memory_mib} are asked.",
        )
    return None


def refusal(host: Host, question: Question) -> Cause | None:
    """The first reason why `host` cannot be the answer, or None when it can."""
    if question.only is not None and host.index not in question.only:
        return Cause("affinity", f"Node {host.title} is not among the nodes asked for.")
    if host.index in question.apart:
        return Cause("anti-affinity", f"Node {host.title} runs a guest to stay apart from.")
    kind = question.kind
    return (
        lost(host)
        or cordoned(host)
        or zone(host, kind)
        or cpu_model(host, kind)
        or capacity(host, kind.resources)
    )
