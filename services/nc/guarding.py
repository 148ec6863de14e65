"""Security groups as they were said last, put in force beside everything else that a node does."""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

import structlog

from mallee.domain.guards import Guards
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault
from mallee.nc.driver import Driver

RETRY_SECONDS: Final = 1.0
_log = structlog.get_logger()


class Guarding:
    """Of all that was said, the last is put in force; what fails is tried again."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver = driver
        self._clock = clock
        self._said: Guards | None = None
        self._news = asyncio.Event()

    def put(self, guards: Guards) -> None:
        """Enforce these, and none of those before."""
        self._said = guards
        self._news.set()

    async def run(self) -> NoReturn:
        """Enforce what is said, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            said, self._said = self._said, None
            if said is None:
                continue
            try:
                await self._driver.guard(said)
            except Fault as fault:
                _log.warning("security groups are not in force", why=str(fault))
                if self._said is None:
                    self.put(said)
                await self._clock.sleep(RETRY_SECONDS)
