"""What is told about requests after they were answered: one line in the log, a count, a duration, bytes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from mallee.aws.context import Principal
from mallee.kernel.clock import Clock
from mallee.kernel.log import Lines
from mallee.walrus.front.exchange import Exchange

_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # seconds


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
        self._lines = Lines() if access_log else None
        self._counts = _Counts()
        registry.register(self._counts)

    def tell(self, x: Exchange) -> None:
        """Log and count it. An operation's name is a label only if it is built: callers do not fill our memory."""
        seconds = self._clock.monotonic() - x.started
        received = x.incoming.came if x.incoming else 0
        self._counts.add(x.operation.name if x.operation else "-", x.code or "OK", seconds, received, x.sent)
        if self._lines is not None:
            signed, address = x.signed, x.address
            self._lines.info(
                "request",
                self._clock.now(),
                _fields,
                x.request_id,
                x.name,
                address.bucket,
                address.key,
                signed.principal if signed else None,
                x.source_ip,
                x.answer.status,
                x.code,
                received,
                x.sent,
                seconds,
            )

    def close(self) -> None:
        """Write the lines that wait to be written."""
        if self._lines is not None:
            self._lines.flush()

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _Counts(Collector):
    """Plain numbers, which the loop alone changes: the client library's own have a lock each."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._timers: dict[str, _Timer] = {}
        self._received = self._sent = 0

    def add(self, operation: str, code: str, seconds: float, received: int, sent: int) -> None:
        self._requests[operation, code] += 1
        timer = self._timers.get(operation)
        if timer is None:
            timer = self._timers[operation] = _Timer()
        timer.seconds += seconds
        timer.counts[bisect_left(_BOUNDS, seconds)] += 1
        self._received += received
        self._sent += sent

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "mallee_s3_requests",
            "Requests answered, by error code (OK: none).",
            labels=("operation", "code"),
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        yield requests
        seconds = HistogramMetricFamily(
            "mallee_s3_request_seconds", "Time to the end of the answer.", labels=("operation",)
        )
        for operation, timer in self._timers.items():
            seconds.add_metric((operation,), timer.buckets(), timer.seconds)
        yield seconds
        yield CounterMetricFamily("mallee_s3_received_bytes", "Of bodies of requests.", value=self._received)
        yield CounterMetricFamily("mallee_s3_sent_bytes", "Of bodies of answers.", value=self._sent)


class _Timer:
    """Durations of one operation."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.counts = [0] * (len(_BOUNDS) + 1)

    def buckets(self) -> list[tuple[str, float]]:
        """How many took so long or less, as Prometheus counts."""
        found, sofar = [], 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self.counts, strict=True):
            sofar += count
            found.append((bound, float(sofar)))
        return found


def _fields(
    request_id: str,
    operation: str,
    bucket: str,
    key: str,
    principal: Principal | None,
    source_ip: str,
    status: int,
    code: str,
    received: int,
    sent: int,
    seconds: float,
) -> dict[str, Any]:
    """What the line of a request says; fields that would say nothing are left out."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "service": "s3",
        "operation": operation,
        "bucket": _shown(bucket),
        "principal": principal.arn if principal else None,
        "source_ip": source_ip,
        "status": status,
        "ms": round(seconds * 1000, 2),
    }
    if key:
        fields["key"] = _shown(key)
    if code:
        fields["code"] = code
    if received:
        fields["received"] = received
    if sent:
        fields["sent"] = sent
    return fields


def _shown(name: str) -> str:
    """A name as it can stand in a line: it came from outside and may hold line breaks."""
    return name[:256] if name.isprintable() else ascii(name[:256])
