"""The auditor's word for whoever collects metrics: violations must read 0, and looks must go on."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from mallee.clc.audit.auditor import Auditor


class AuditMetrics(Collector):
    """One gauge a rule."""

    def __init__(self, auditor: Auditor) -> None:
        self._auditor = auditor

    def collect(self) -> Iterator[Metric]:
        broken = GaugeMetricFamily(
            "mallee_audit_violations", "Breaches of each invariant; must be 0.", labels=("invariant", "rule")
        )
        for invariant, count in self._auditor.counts().items():
            broken.add_metric((invariant.value, invariant.rule), count)
        yield broken
        yield GaugeMetricFamily(
            "mallee_audit_zones_away",
            "Zones that the last look could not ask.",
            value=len(self._auditor.away),
        )
        yield CounterMetricFamily("mallee_audit_looks", "Looks at everything.", value=self._auditor.looks)
        yield GaugeMetricFamily(
            "mallee_audit_look_seconds", "What the last look took.", value=self._auditor.seconds
        )
