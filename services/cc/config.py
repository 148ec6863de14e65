"""What an operator sets for one zone."""

from __future__ import annotations

from dataclasses import dataclass

from mallee.cc.scheduler import policies
from mallee.domain.migration import Limits
from mallee.kernel.errors import Fault, Kind


@dataclass(frozen=True, slots=True)
class CcConfig:
    """The `[cc]` section. Times are seconds.

    Args:
        zone: the availability zone that this controller is.
        policy: ROUNDROBIN, GREEDY, SPREAD or POWERSAVE.
        lease_seconds: how long a node may go on without renewing; then it pauses its guests itself.
        renew_seconds: how often a node renews.
        lease_margin: guests of a silent node may be started elsewhere after this many leases:
            the drift that two clocks may have.
        database: SQLAlchemy URL, the zone's own; empty for SQLite in the state folder. Processes that share one
            are the zone's controller and those that stand by.
        evacuate: start the instances of a node elsewhere once it is fenced, but for those with
            MaintenanceOptions.AutoRecovery=disabled and those bound to their node. They boot anew, from their image.
        takeover_seconds: whoever stands by takes over when the controller gave no sign for so long.
        hold_seconds: how long a controller that cannot reach a shared database goes on renewing leases; one
            that takes over waits as much longer before it counts on a node's silence.
        claim_seconds: how long a placement waits for the order that binds it.
        tombstone_seconds: how long a terminated instance is remembered.
        migrations_per_node: how many migrations a node takes part in at once, on either side.
        downtime_budget_ms, bandwidth_mbps, max_rounds, max_factor: a migration's limits where it
            names none.
    """

    zone: str = "local-1a"
    policy: str = "ROUNDROBIN"
    lease_seconds: float = 10.0
    renew_seconds: float = 3.0
    lease_margin: float = 2.0
    database: str = ""
    evacuate: bool = False
    takeover_seconds: float = 3.0
    hold_seconds: float = 20.0
    claim_seconds: float = 60.0
    tombstone_seconds: float = 3600.0
    migrations_per_node: int = 2
    downtime_budget_ms: float = 300.0
    bandwidth_mbps: float = 10_000.0
    max_rounds: int = 29
    max_factor: float = 3.0

    def __post_init__(self) -> None:
        if self.policy not in policies.NAMES:
            raise _wrong("policy", self.policy, f"Give one of {', '.join(policies.NAMES)}.")
        if not self.zone:
            raise _wrong("zone", self.zone, "Give the name of the availability zone.")
        if not 0 < self.renew_seconds < self.lease_seconds:
            raise _wrong("renew_seconds", self.renew_seconds, "Renew more often than the lease lapses.")
        if self.lease_margin < 1:
            raise _wrong("lease_margin", self.lease_margin, "Give 1 or more.")
        if self.takeover_seconds < 1:
            raise _wrong(
                "takeover_seconds", self.takeover_seconds, "Give 1 or more: it beats twice a second."
            )
        if self.hold_seconds < self.takeover_seconds:
            raise _wrong("hold_seconds", self.hold_seconds, "Give takeover_seconds or more.")
        if self.migrations_per_node < 1:
            raise _wrong("migrations_per_node", self.migrations_per_node, "Give 1 or more.")

    @property
    def limits(self) -> Limits:
        """The limits of a migration that names none."""
        return Limits(self.downtime_budget_ms, self.bandwidth_mbps, self.max_rounds, self.max_factor)


def _wrong(key: str, value: object, fix: str) -> Fault:
    return Fault(
        Kind.INVALID, f"The cluster controller cannot have {key} = {value!r}.", fix=fix, code="bad-config"
    )
