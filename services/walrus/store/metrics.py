"""What the store says of itself to whoever collects metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class StoreMetrics(Collector):
    """Counters of one store, since it was opened."""

    def __init__(self) -> None:
        self.damaged = 0  # reads that met a damaged block
        self.garbage = 0  # contents removed
        self.orphans = 0  # blobs without a row removed
        self.scrubbed = 0  # bytes read by the scrub
        self.damages = 0  # contents that are known to be damaged

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "mallee_objects_damaged_reads", "Reads that met damaged bytes.", value=self.damaged
        )
        yield CounterMetricFamily(
            "mallee_objects_garbage_removed", "Contents removed after their last object.", value=self.garbage
        )
        yield CounterMetricFamily(
            "mallee_objects_orphans_removed", "Blobs removed that no object ever had.", value=self.orphans
        )
        yield CounterMetricFamily(
            "mallee_objects_scrubbed_bytes", "Bytes verified by the scrub.", value=self.scrubbed
        )
        yield GaugeMetricFamily(
            "mallee_objects_damaged", "Contents that are known to be damaged.", value=self.damages
        )
