"""Which of the hosts that can is the one: policies as one number.

A policy scores a host by its state alone, lower is better and ties go to the lower index. So a score
is computed once per change of a host, not once per question. The names are those of Eucalyptus's
SCHEDULER property.
"""

from __future__ import annotations

from collections.abc import Callable

from mallee.cc.scheduler.inventory import Host

Score = Callable[[Host], float]

_SILENT = 1e12


def round_robin(host: Host) -> float:
    """The host that was chosen longest ago."""
    return float(host.turn)


def greedy(host: Host) -> float:  # noqa: ARG001 - the index alone decides, which is the tie-break
    """The first host in order."""
    return 0.0


def spread(host: Host) -> float:
    """The host with the smallest share of its scarcer resource taken."""
    capacity = host.capacity
    vcpus = 1 - host.free_vcpus / capacity.vcpus if capacity.vcpus else 1.0
    memory = 1 - host.free_memory / capacity.memory_mib if capacity.memory_mib else 1.0
    return max(memory, vcpus)


def power_save(host: Host) -> float:
    """The fullest host; an idle one only when no busy one can, so that idle hosts may sleep."""
    return 1 - spread(host)


_POLICIES: dict[str, Score] = {
    "ROUNDROBIN": round_robin,
    "GREEDY": greedy,
    "SPREAD": spread,
    "POWERSAVE": power_save,
}

NAMES = tuple(_POLICIES)


def policy(name: str) -> Score:
    """The policy of that name. A host that holds its lease but cannot be reached comes last under every one.

    Raises:
        KeyError: there is no such policy.
    """
    prefer = _POLICIES[name]

    def score(host: Host) -> float:
        return prefer(host) + _SILENT if host.silent else prefer(host)

    return score
