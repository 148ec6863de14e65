"""What happened, in order: a hash for machines, and lines for people.

Two runs of one seed must give the same hash, whatever the hash seed of Python and wherever objects lie in
memory. The product's own warnings are part of it.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

import structlog

from mallee.kernel.errors import Fault, Kind
from tests.sim.loop import LIFE


class Trace:
    """Takes lines as they come. Args: `tell`, what to do with each, for a replay."""

    def __init__(self, now: Callable[[], float], tell: Callable[[str], None] | None = None) -> None:
        self._now = now
        self._tell = tell
        self._hash = hashlib.sha256()
        self.count = 0
        self.alarms: list[str] = []  # what the product logged as an error of its own

    def __call__(self, what: str) -> None:
        line = f"{self._now():.6f} {what}"
        self.count += 1
        self._hash.update(line.encode())
        if self._tell is not None:
            self._tell(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]

    def log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """A line of the product's log; what a dead process would still say is not heard."""
        life = LIFE.get()
        if not life.alive:
            return
        error = fields.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()[1]
        said = ", ".join(f"{name}={value}" for name, value in fields.items())
        self(f"{life} [{level}] {event} {said}" + (f" {error!r}" if error else ""))
        excused = fields.get("alarm") == "audit"  # it is asked again when all is at rest
        excused = excused or (isinstance(error, Fault) and error.kind is Kind.UNAVAILABLE)
        if level in {"error", "critical", "exception"} and not excused:
            story = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
            self.alarms.append(f"{life} says: {event} {said}\n{story}".rstrip())


def listen(trace: Trace) -> None:
    """Have everything that is logged from a warning on told to `trace`."""

    def take(_logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        trace.log(method, event.pop("event"), event)
        raise structlog.DropEvent

    structlog.configure(
        processors=[take],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )
