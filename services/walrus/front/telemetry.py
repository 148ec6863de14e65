"""What is told about requests after they were answered: one line in the log, a count, a duration, bytes."""

from __future__ import annotations

from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from mallee.kernel.clock import Clock
from mallee.walrus.front.exchange import Exchange


class Telemetry:
    """The access log and the metrics of one front.

    Args:
        registry: where the metrics are; each process, and each test, has its own.
        clock: for durations.
        access_log: whether each request is a line.
    """

    def __init__(self, registry: CollectorRegistry, clock: Clock, *, access_log: bool) -> None:
        self._registry = registry
        self._clock = clock
        self._access_log = access_log
        self._log = structlog.get_logger().bind()
        self._requests = Counter(
            "mallee_s3_requests",
            "Requests answered, by error code (OK: none).",
            ("operation", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "mallee_s3_request_seconds",
            "Time to the end of the answer.",
            ("operation",),
            registry=registry,
        )
        self._received = Counter("mallee_s3_received_bytes", "Of bodies of requests.", registry=registry)
        self._sent = Counter("mallee_s3_sent_bytes", "Of bodies of answers.", registry=registry)
        self._counters: dict[tuple[str, str], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def tell(self, x: Exchange) -> None:
        """Log and count it. An operation's name is a label only if it is built: callers do not fill our memory."""
        seconds = self._clock.monotonic() - x.started
        received = x.incoming.came if x.incoming else 0
        operation = x.operation.name if x.operation else "-"
        labels = (operation, x.code or "OK")
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._requests.labels(*labels)
        counter.inc()
        timer = self._timers.get(operation)
        if timer is None:
            timer = self._timers[operation] = self._seconds.labels(operation)
        timer.observe(seconds)
        if received:
            self._received.inc(received)
        if x.sent:
            self._sent.inc(x.sent)
        if self._access_log:
            self._log_access(x, received, seconds)

    def _log_access(self, x: Exchange, received: int, seconds: float) -> None:
        """Fields that say nothing are left out: each costs as much as a look into a bucket's cache."""
        fields: dict[str, Any] = {
            "request_id": x.request_id,
            "service": "s3",
            "operation": x.name,
            "bucket": _shown(x.address.bucket),
            "principal": x.signed.principal.arn if x.signed else None,
            "source_ip": x.source_ip,
            "status": x.answer.status,
            "ms": round(seconds * 1000, 2),
        }
        if x.address.key:
            fields["key"] = _shown(x.address.key)
        if x.code:
            fields["code"] = x.code
        if received:
            fields["received"] = received
        if x.sent:
            fields["sent"] = x.sent
        self._log.info("request", **fields)

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)


def _shown(name: str) -> str:
    """A name as it can stand in a line: it came from outside and may hold line breaks."""
    return name[:256] if name.isprintable() else ascii(name[:256])
