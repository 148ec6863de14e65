"""Mallee's own DescribeAudit: whether the books of the whole cloud agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.hosts import only_admin
from mallee.clc.call import Call
from mallee.domain.audit import MOST_TOLD, Finding


@ec2.action("DescribeAudit", accepts=("DryRun",))
async def describe_audit(call: Call, req: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - the shape of a handler
    """What a look of this moment makes certain; a doubt is looked into again before the answer."""
    only_admin(call, "audits it")
    verdict = await call.cloud.auditor.verdict()
    states = [(zone, "audited") for zone in verdict.zones] + [(zone, "away") for zone in verdict.away]
    return {
        "Violations": [_shown(found) for found in verdict.violations[:MOST_TOLD]],
        "ViolationCount": len(verdict.violations),
        "Zones": [{"ZoneName": zone, "State": state} for zone, state in sorted(states)],
        "InstanceCount": verdict.instances,
    }


def _shown(found: Finding) -> dict[str, str]:
    return {
        "Invariant": found.invariant.value,
        "Rule": found.invariant.rule,
        "ResourceId": found.subject,
        "AvailabilityZone": found.zone,
        "What": found.what,
        "Why": found.why,
        "Fix": found.fix,
    }
