"""The log: structured events to standard error, for people or for machines.

Everything that logs - our own code by structlog, libraries by the standard module - goes through
one list of processors, and the last one before the rendering takes secrets out.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, TextIO, TypeVarTuple, cast

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from mallee.kernel.clock import Clock, SystemClock
from mallee.kernel.secrets_box import Secret

Ts = TypeVarTuple("Ts")

_SECRET_NAMES = re.compile(
    r"secret|password|passphrase|authorization|signature|private_?key|session_?token", re.IGNORECASE
)
_MASK = "[secret]"
_PLAIN = frozenset({str, int, float, bool, type(None)})
HELD_SECONDS = 0.1
HELD_LINES = 100


def configure(*, json: bool, level: str = "info", clock: Clock | None = None) -> None:
    """Set the whole process's log. May be called again; the last call counts."""
    telling = clock or SystemClock()

    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if "timestamp" not in event:  # what is told later says itself when it was
            event["timestamp"] = telling.now().isoformat(timespec="milliseconds")
        return event

    shared: list[Processor] = [
        structlog.processors.add_log_level,
        stamp,
        without_secrets,
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    ending = _rendering(json=json)
    every = [*shared, *ending]
    structlog.configure(
        processors=[_short_way(telling, every)] if _as_text in ending else every,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_to_stderr,
        cache_logger_on_first_use=False,  # a later `configure` must reach loggers made at import
    )
    _take_over_logging(shared, ending, number)


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what is a `Secret` and what is called like one, at any depth."""
    if all(value.__class__ in _PLAIN and not _is_secret(key) for key, value in event.items()):
        return event  # nearly every line
    return {key: _masked(key, value) for key, value in event.items()}


def _masked(key: object, value: object) -> object:
    if isinstance(value, Secret) or (isinstance(key, str) and _is_secret(key)):
        return _MASK
    if isinstance(value, dict):
        return {inner: _masked(inner, content) for inner, content in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(None, content) for content in value]
    return value


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return name != "event" and _SECRET_NAMES.search(name) is not None


def _rendering(*, json: bool) -> list[Processor]:
    # Plain tracebacks: the pretty ones print local variables, secrets among them.
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if not sys.stderr.isatty():
        return [structlog.processors.format_exc_info, _as_text]
    return [structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)]


def _as_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """The terminal's lines without colours and columns: a busy cloud's log goes to a file, one line a request."""
    head = f"{event.pop('timestamp')} [{event.pop('level'):8}] {event.pop('event')}"
    raised = event.pop("exception", "")
    told = [f"{name}={value if value.__class__ is str else repr(value)}" for name, value in event.items()]
    return "\n".join((" ".join((head, *told)), raised)) if raised else " ".join((head, *told))


def _short_way(clock: Clock, long_way: list[Processor]) -> Processor:
    """All of `long_way` in one for most lines, which are texts and numbers at level info: a third of the cost."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> Any:
        if method != "info" or "exc_info" in event:
            for each in long_way:
                event = each(logger, method, event)  # type: ignore[assignment]  # the last one makes a text
            return event
        when = event.pop("timestamp", None) or clock.now().isoformat(timespec="milliseconds")
        told = [f"{when} [info    ] {event.pop('event')}"]
        for name, value in event.items():
            plain = value.__class__ in _PLAIN and not _is_secret(name)
            shown = value if plain else _masked(name, value)
            told.append(f"{name}={shown if shown.__class__ is str else repr(shown)}")
        return " ".join(told)

    return render


class _Lossy(io.TextIOBase):
    """Standard error, as long as it can be written: on a full disk a line is lost, and not a request."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


_STDERR = cast("TextIO", _Lossy())  # for loggers, which write and flush


def _to_stderr(*_: object) -> structlog.WriteLogger:
    return structlog.WriteLogger(_STDERR)  # which writes a line and its end in one


class Lines:
    """What is said of every single request: looks as all else does, but is made and written many lines at a time.

    One by one they cost more than the look into the database that they tell of: the logger around each, the system
    call behind it, and a processor that has other things in its caches. They wait for `HELD_SECONDS` at the most;
    a process that is killed takes those along.
    """

    def __init__(self) -> None:
        self._processors = structlog.get_config()["processors"]
        self._told = structlog.get_logger().bind().is_enabled_for(logging.INFO)
        self._held: list[tuple[str, datetime, Callable[..., EventDict], tuple[Any, ...]]] = []
        self._writing: asyncio.TimerHandle | None = None

    def info(self, event: str, when: datetime, make: Callable[[*Ts], EventDict], *arguments: *Ts) -> None:
        """Say soon what `make` makes of its arguments; the caller is on the event loop."""
        if not self._told:
            return
        self._held.append((event, when, make, arguments))
        if len(self._held) >= HELD_LINES:
            self.flush()
        elif self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(HELD_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what is held."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        held, self._held = self._held, []
        lines = [line for each in held if (line := self._line(*each)) is not None]
        if lines:
            _STDERR.write("\n".join(lines) + "\n")
            _STDERR.flush()

    def _line(
        self, event: str, when: datetime, make: Callable[..., EventDict], arguments: tuple[Any, ...]
    ) -> Any:
        fields = make(*arguments)
        fields["event"] = event
        fields["timestamp"] = when.isoformat(timespec="milliseconds")
        line: Any = fields
        try:
            for each in self._processors:
                line = each(None, "info", line)
        except structlog.DropEvent:
            return None
        return line


class _Libraries(logging.StreamHandler[TextIO]):
    """What libraries say by the standard module. A class of its own, to find it again."""


def _take_over_logging(shared: list[Processor], ending: list[Processor], level: int) -> None:
    handler = _Libraries(_STDERR)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if not isinstance(kept, _Libraries)]
    root.addHandler(handler)
    # Libraries speak of their own inside; what our users should read, ours says.
    root.setLevel(max(level, logging.WARNING))
