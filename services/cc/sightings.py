"""Every copy that every node says it has, the ones that should not be there included.

Hearsay, kept for the auditor alone: whole again with each Hello, changed by each fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mallee.domain.guest import GuestKey, Phase, Resources

# While it is in one of these a node has nothing that could be called a copy.
_ABSENT = frozenset({Phase.TERMINATED, Phase.PROVISIONING, Phase.CLAIMED})
_NOTHING: Mapping[GuestKey, Phase] = MappingProxyType({})


class Sightings:
    """Copies by the number of their node."""

    def __init__(self) -> None:
        self.by_host: dict[int, dict[GuestKey, Phase]] = {}

    def begin(self, host: int) -> None:
        """The node says everything anew."""
        self.by_host[host] = {}

    def note(self, host: int, instance_id: str, generation: int, phase: Phase, resources: Resources) -> None:
        """What it says of one copy. One without a size is none: it was stopped before it was made."""
        here = self.by_host.setdefault(host, {})
        if phase in _ABSENT or not resources.vcpus:
            here.pop(GuestKey(instance_id, generation), None)
        else:
            here[GuestKey(instance_id, generation)] = phase
