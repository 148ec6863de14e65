"""Whether a migration can be, and where to: a typed reason for each node that cannot be the destination."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mallee.cc.db.placements import Placement
from mallee.cc.ledger import Ledger
from mallee.cc.migration.record import Asked
from mallee.cc.scheduler.filters import Kind, Question, refusal
from mallee.cc.scheduler.inventory import Host
from mallee.domain.guest import Cause, Phase, Power

MODES = ("live", "cold", "storage")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not this node; without a host id, why not at all."""

    host_id: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates best first, and a refusal for every other node that was considered."""

    candidates: tuple[Host, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def plan(ledger: Ledger, asked: Asked, *, open_migration: str = "") -> Plan:
    """Look at everything; change nothing. `open_migration` is one that the instance is already in."""
    row = ledger.placements.rows.get(asked.instance_id)
    whole = _whole(ledger, asked, row, open_migration)
    if whole is not None:
        return Plan(refusals=(Refusal("", whole),))
    assert row is not None
    hosts = ledger.inventory.hosts
    source = hosts[row.host]
    considered = asked.destinations or tuple(hosts)
    refusals, able = [], []
    for number in considered:
        cause = cause_against(hosts.get(number), number, source, row, asked.excluded)
        if cause is None:
            able.append(hosts[number])
        else:
            refusals.append(Refusal(f"h-{number}" if number >= 0 else "", cause))
    able.sort(key=lambda host: (host.score, host.index))
    return Plan(tuple(able), tuple(refusals))


def cause_against(
    host: Host | None, number: int, source: Host, row: Placement, excluded: Collection[int]
) -> Cause | None:
    """Why this node cannot be the destination, or None when it can."""
    if host is None:
        return Cause("not-found", f"There is no node h-{source.zone}-{number}.")
    if host is source:
        return Cause("same-host", f"The instance runs on {host.title} already.")
    if number in excluded:
        return Cause("excluded", f"Node {host.title} was excluded by the request.")
    if host.hypervisor != source.hypervisor:
        return Cause(
            "hypervisor-mismatch",
            f"Node {host.title} runs {host.hypervisor}, the instance's node {source.hypervisor}.",
        )
    if host.silent and not host.lost:
        return Cause("unreachable", f"Node {host.title} is not connected just now.")
    return refusal(host, Question(Kind(row.resources, cpu_model=source.cpu_model)))


def _whole(ledger: Ledger, asked: Asked, row: Placement | None, open_migration: str) -> Cause | None:
    """Why the instance cannot migrate at all."""
    if asked.mode != "live":
        known = "needs volumes that can move, which this cloud does not have yet"
        why = known if asked.mode in MODES else f"does not exist; there are {', '.join(MODES)}"
        return Cause("mode-unsupported", f"Migration mode {asked.mode} {why}.")
    if row is None or row.revision == 0:
        return Cause("not-found", f"Instance {asked.instance_id} is not in this zone.")
    if open_migration:
        return Cause("already-migrating", f"Migration {open_migration} of the instance is in progress.")
    live = ledger.live.get(asked.instance_id)
    phase = live.phase if live is not None and live.generation == row.generation else row.phase
    if row.host < 0 or row.power != Power.RUNNING or phase != Phase.RUNNING:
        return Cause(
            "instance-not-running", f"The instance is {phase}; a live migration moves a running one."
        )
    host = ledger.inventory.hosts[row.host]
    if host.lost:
        return Cause("lost", f"The instance's node {host.title} does not hold its lease.")
    return None
