"""Reconcilers: what the world did by itself is mended pass by pass.

A pass takes no input: it re-reads the world and mends what differs. A failed pass is logged and
the whole pass comes again; a step inside it is never retried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mallee.kernel.clock import Clock

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

    def wake(self) -> None:
        """A hint that there is something to do; losing it costs time, never work."""
        self._woken.set()

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self._one_pass()
            except Exception:  # noqa: BLE001 - the pass comes again; its failure is logged whole
                _log.exception("reconciler pass failed", reconciler=self.name)
            await self._rest()

    async def _rest(self) -> None:
        nap = asyncio.ensure_future(self._clock.sleep(self._every))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((nap, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            woken.cancel()
