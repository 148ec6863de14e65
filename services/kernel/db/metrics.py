"""What a database says of itself to whoever collects metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from mallee.kernel.db import Database


class DatabaseMetrics(Collector):
    """Transactions, and the commits that made them durable: their ratio is what group commit gains."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "mallee_db_transactions", "Transactions that were answered.", value=self._db.transactions
        )
        yield CounterMetricFamily("mallee_db_commits", "Commits, each an fsync.", value=self._db.commits)
