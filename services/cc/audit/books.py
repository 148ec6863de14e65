"""What the auditor of a zone looks at: views of the live books, of which every check reads at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mallee.cc.db.placements import Placement
from mallee.cc.db.reservations import Reservation
from mallee.cc.ledger import Ledger
from mallee.cc.migration.desk import Desk
from mallee.cc.migration.record import Migration
from mallee.cc.nodes import Nodes
from mallee.cc.scheduler.inventory import Host
from mallee.domain.guest import GuestKey, Phase

_NO_COPIES: Mapping[GuestKey, Phase] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that a zone knows.

    Args:
        placements, reservations, hosts: the ledger's rows and the inventory that mirrors them.
        copies: what each node has, by its number: as it says itself, or as somebody knows better.
        attending: the nodes whose lines are up and whose leases are held; what others were
            seen to do last says nothing.
        migrations: the open ones, by instance.
        sagas: state by id, of all that have not ended.
        claim_seconds: how long a claim may wait to be bound.
    """

    zone: str
    placements: Mapping[str, Placement]
    reservations: Mapping[str, Reservation]
    hosts: Mapping[int, Host]
    copies: Mapping[int, Mapping[GuestKey, Phase]]
    attending: frozenset[int]
    migrations: Mapping[str, Migration]
    sagas: Mapping[str, str]
    claim_seconds: float = 60.0

    def title(self, number: int) -> str:
        """A node's id as people see it."""
        return f"h-{self.zone}-{number}" if number >= 0 else "no node"

    def copies_on(self, host: int) -> Mapping[GuestKey, Phase]:
        return self.copies.get(host, _NO_COPIES)

    def seen(self, host: int, instance_id: str, generation: int) -> Phase | None:
        """What this copy does on this node; None when the node does not have it."""
        return self.copies_on(host).get(GuestKey(instance_id, generation))


def read(
    ledger: Ledger, nodes: Nodes, desk: Desk, sagas: Mapping[str, str], claim_seconds: float = 60.0
) -> Books:
    """The books as they are from now on; `attending` as it is now."""
    return Books(
        zone=ledger.zone,
        placements=ledger.placements.rows,
        reservations=ledger.reservations.rows,
        hosts=ledger.inventory.hosts,
        copies=ledger.sightings.by_host,
        attending=nodes.attending(),
        migrations=desk.of_instances,
        sagas=sagas,
        claim_seconds=claim_seconds,
    )
