"""Reconcilers: what the world did by itself is mended pass by pass.

A pass takes no input: it re-reads the world and mends what differs. A failed pass is logged and
the whole pass comes again; a step inside it is never retried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind

_SOON = 0.001  # seconds: a sleep so short may not move a clock at all

_log = structlog.get_logger()


class Reconciler:
    """Runs one pass every `every` seconds, and at once when somebody calls `wake`."""

    def __init__(
        self, name: str, one_pass: Callable[[], Awaitable[None]], *, every: float, clock: Clock
    ) -> None:
        self.name = name
        self._one_pass = one_pass
        self._every = every
        self._clock = clock
        self._woken = asyncio.Event()
        self._passed_at = clock.monotonic()

    def wake(self) -> None:
        """A hint that there is something to do; losing it costs time, never work."""
        self._woken.set()

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        ticking = asyncio.create_task(self._tick())
        try:
            while True:
                self._woken.clear()
                try:
                    await self._one_pass()
                except Fault as fault:
                    trace = fault.kind is not Kind.UNAVAILABLE  # what passes needs no trace
                    _log.warning(
                        "reconciler pass failed", reconciler=self.name, why=str(fault), exc_info=trace
                    )
                except Exception:  # noqa: BLE001 - the pass comes again; its failure is logged whole
                    _log.exception("reconciler pass failed", reconciler=self.name)
                self._passed_at = self._clock.monotonic()
                await self._woken.wait()
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        """Wake the next pass `every` seconds after the last: one sleeper, however often it is woken."""
        left = self._every
        while True:
            await self._clock.sleep(left)
            left = self._passed_at + self._every - self._clock.monotonic()
            if left < _SOON:
                self._woken.set()
                left = self._every
