"""Security groups on their way to the nodes that enforce them.

The cloud controller says everything that the zone must know whenever any of it has changed; each node
hears of its own guests, and only when that has changed. Nothing is kept: who starts anew is told anew,
and a node goes on with what it heard last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from mallee.cc.nodes import Nodes
from mallee.domain.guards import Guards

_log = structlog.get_logger()


class Guarding:
    """Hands the zone's groups out.

    Args:
        nodes: who attends.
        migration_of: the open migration of an instance, or ''.
    """

    def __init__(self, nodes: Nodes, migration_of: Callable[[str], str]) -> None:
        self._nodes = nodes
        self._migration_of = migration_of
        self._zone: Guards | None = None  # until the cloud controller has said it

    def take(self, guards: Guards) -> None:
        """The cloud controller says what holds in the zone."""
        self._zone = guards
        self._hand_out()

    async def sweep(self) -> None:
        """Guests come and go: who has them must know what guards them."""
        self._hand_out()

    def _hand_out(self) -> None:
        if self._zone is None or not self._nodes.guarding:
            return
        # Where a guest moves from and to is known to its migration; every node may know it meanwhile.
        moving = {each.instance_id for each in self._zone.guests if self._migration_of(each.instance_id)}
        for number, line in self._nodes.guarding.items():
            here = {row.instance_id for row in self._nodes.guests_on(number)}
            line.guard(replace(self._zone.about(here | moving), hosts=self._nodes.hosts_like(number)))
