"""Streams that stay open: whatever ends one, the next is opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol, TypeVar

import structlog

from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind


class Cancellable(Protocol):
    """A stream that can be hung up."""

    def cancel(self) -> bool: ...


S = TypeVar("S", bound=Cancellable)
FIRST_WAIT = 0.1  # seconds
LONGEST_WAIT = 3.0  # seconds; a service that restarts is back within it
# Nobody answers just now, or whoever answered has been succeeded: neither is a mistake of anybody.
_PASSING = frozenset({Kind.UNAVAILABLE, Kind.STALE})
_log = structlog.get_logger()


async def keep_streaming(
    name: str,
    open_stream: Callable[[], S],
    handle: Callable[[S], Awaitable[None]],
    *,
    clock: Clock,
    entropy: Entropy,
) -> NoReturn:
    """Open a stream, hand it to `handle`, and when that returns or fails do it again, for ever.

    Nothing may be remembered from one stream to the next but by `handle` itself: both sides begin
    whole. Waits double from `FIRST_WAIT` to `LONGEST_WAIT`, with jitter so that a thousand nodes do
    not return in one moment; a stream that lived longer than `LONGEST_WAIT` starts over.

    Args:
        name: for the log, e.g. `attend az1`.
        open_stream: a call of a stub; opened anew each time.
        handle: reads and writes until the end; its faults are logged, once while they stay the same.
        clock: measures and waits.
        entropy: jitters.
    """
    wait = FIRST_WAIT
    last = ""
    while True:
        began = clock.monotonic()
        try:
            await _once(open_stream, handle)
            ending = "it ended"
        except Fault as fault:
            ending = str(fault)
            if ending != last:
                level = _log.info if fault.kind in _PASSING else _log.error
                level("stream lost", stream=name, cause=ending, code=fault.code)
        except Exception as error:  # noqa: BLE001 - the stream comes again; the bug is in the log
            ending = repr(error)
            _log.exception("stream handler failed", stream=name)
        if clock.monotonic() - began > LONGEST_WAIT:
            wait = FIRST_WAIT
        last = ending
        await clock.sleep(entropy.uniform(wait / 2, wait))
        wait = min(wait * 2, LONGEST_WAIT)


async def _once(open_stream: Callable[[], S], handle: Callable[[S], Awaitable[None]]) -> None:
    stream = open_stream()
    try:
        await handle(stream)
    finally:
        # Whatever ended it here, the other side must not go on talking to nobody.
        stream.cancel()
