"""Time, as the only thing that may tell it.

Three readings, because they answer three questions: `now` is the calendar (signatures and
displays, never a decision between machines), `boot` counts also while the machine is suspended
(leases), `monotonic` measures durations. `sleep` is the one way to wait for time itself.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """The calendar, in UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin, never stepping back."""

    def boot(self) -> float:
        """Seconds from an arbitrary origin, suspended time included (CLOCK_BOOTTIME)."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def boot(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self._order += 1
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, self._order, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time; sleepers wake one by one, in order, each running until it waits again."""
        until = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self._elapsed = until

    async def settle(self, turns: int = 50) -> None:
        """Let every task that can run do so, without moving time."""
        for _ in range(turns):
            await asyncio.sleep(0)
