"""What is told about requests after they were answered: one line in the log, a count and a duration."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from mallee.aws.exchange import Exchange
from mallee.kernel.clock import Clock


class Telemetry:
    """The access log and the metrics of one front door.

    Args:
        registry: where the metrics are; each process, and each test, has its own.
        access_log: whether each request is a line.
    """

    def __init__(self, registry: CollectorRegistry, clock: Clock, *, access_log: bool) -> None:
        self._registry = registry
        self._clock = clock
        self._access_log = access_log
        # Bound here: to bind for each request takes as long as to write the line.
        self._log = structlog.get_logger().bind()
        self._requests = Counter(
            "mallee_aws_requests",
            "Requests answered, by error code (OK: none).",
            ("service", "operation", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "mallee_aws_request_seconds", "Time to the answer.", ("service", "operation"), registry=registry
        )
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._timers: dict[tuple[str, str], Histogram] = {}

    def log_access(self, x: Exchange) -> None:
        """One line: who asked what, from where, and how it went. Parameters may be secret and are not in it."""
        if not self._access_log:
            return
        self._log.info(
            "request",
            request_id=x.request_id,
            service=x.service.name,
            operation=x.operation[:64],
            principal=x.signed.principal.arn if x.signed else None,
            source_ip=x.source_ip,
            status=x.status,
            code=x.code or None,
            bytes=len(x.body),
            ms=round((self._clock.monotonic() - x.started) * 1000, 2),
        )

    def measure(self, x: Exchange) -> None:
        """Count it. An operation's name is a label only if it is built: callers do not fill our memory."""
        operation = x.action.name if x.action else "-"
        labels = (x.service.name, operation, x.code or "OK")
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._requests.labels(*labels)
        counter.inc()
        timer = self._timers.get(labels[:2])
        if timer is None:
            timer = self._timers[labels[:2]] = self._seconds.labels(*labels[:2])
        timer.observe(self._clock.monotonic() - x.started)

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)
