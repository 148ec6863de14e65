"""A zone's answer, part by part, in the auditor's own words."""

from __future__ import annotations

from mallee.clc import host_ids
from mallee.clc.audit.books import Held, ZoneReport
from mallee.domain.audit import PROVEN, Finding, Invariant
from mallee.domain.guest import Phase
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2

_PHASES = {getattr(common_pb2, f"PHASE_{phase.name}"): phase for phase in Phase}


def take(report: ZoneReport, part: pb.AuditResponse) -> bool:
    """Enter a part into the report; whether it was the last one."""
    zone = report.zone
    for each in part.instances:
        report.held[each.instance_id] = Held(
            each.instance_id,
            each.revision,
            each.generation,
            host_ids.public(zone, each.host_id),
            _PHASES.get(each.phase, Phase.FAILED),
            each.reachable,
            each.migration_id,
        )
    report.violations += [violation(zone, each) for each in part.violations]
    report.doubt_seconds = part.doubt_seconds
    return part.end


def violation(zone: str, told: pb.Violation) -> Finding:
    """What the zone is certain of; a rule that this version does not know is one of unfinished work."""
    known = told.invariant in set(Invariant)
    rule = Invariant(told.invariant) if known else Invariant.WORK_IS_FINISHED
    return Finding(rule, told.subject, told.what, told.why, told.fix, PROVEN, zone)
