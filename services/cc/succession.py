"""Which of several processes on one database is the zone's controller, and when the next one's turn has come.

The epoch in the database makes any answer safe, because nobody but the newest controller can write; this decides how
soon a dead one is followed. The one that holds the zone beats; who stands by serves nobody and watches the beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from mallee.cc.app import ClusterController
from mallee.cc.db import epochs
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.errors import Fault, Kind

LOOK = 0.5  # seconds between two looks at the beat

_log = structlog.get_logger()


class Succession:
    """One process in the line of those that may be the zone's controller.

    Args:
        holder: the id of its state folder. What that id held before is its own: the folder's lock says so.
        silence: seconds without a beat after which the controller counts as dead.
    """

    def __init__(self, db: Database, zone: str, holder: str, clock: Clock, *, silence: float) -> None:
        self._db = db
        self._zone = zone
        self._holder = holder
        self._clock = clock
        self._silence = silence

    async def is_free(self) -> bool:
        """Whether the zone can be had at once: it had no controller, or it was this one's predecessor."""
        return (await self._last()).holder in {epochs.NOBODY, self._holder}

    async def turn(self) -> None:
        """Return when it is this process's turn. A database that cannot be read is waited for."""
        seen, since = epochs.Reign(), self._clock.boot()
        while True:
            try:
                now = await self._last()
            except Fault as fault:
                if fault.kind is not Kind.UNAVAILABLE:
                    raise
                # Silence counts only while it can be heard.
                seen = epochs.Reign()
            else:
                if now.holder in {epochs.NOBODY, self._holder}:
                    return
                if now != seen:
                    seen, since = now, self._clock.boot()
                elif self._clock.boot() - since >= self._silence:
                    _log.warning("the zone's controller gives no sign: taking over", zone=self._zone)
                    return
            await self._clock.sleep(LOOK)

    async def _last(self) -> epochs.Reign:
        return await self._db.read(partial(epochs.last, zone=self._zone))


class Candidate:
    """A process that may be the zone's controller: it is, or it stands by, again and again.

    Args:
        make: a controller that has not started; a fresh one for each reign.
    """

    def __init__(self, succession: Succession, make: Callable[[], ClusterController], clock: Clock) -> None:
        self._succession = succession
        self._make = make
        self._clock = clock
        self._controller: ClusterController | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def controller(self) -> ClusterController | None:
        """The controller while this process is it."""
        return self._controller

    async def start(self) -> None:
        """Return when the zone is served from here, or another process serves it and this one stands by.

        Raises:
            Fault: it cannot start.
        """
        if await self._succession.is_free():
            await self._reign()
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Serve no more and stand by no more. May be called twice."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))
        await self._abdicate()

    async def _follow(self) -> None:
        while True:
            try:
                if self._controller is None:
                    await self._succession.turn()
                    await self._reign()
                await self._controller_deposed()
            except (
                Fault
            ) as fault:  # a port that is in use, a database that went away: the next try is a new one
                _log.warning("the zone could not be taken over yet", why=str(fault))
                await self._clock.sleep(LOOK)
            except Exception:  # noqa: BLE001 - nobody would stand by any more; it is logged whole, and tried again
                _log.exception("a mistake of ours while standing by")
                await self._clock.sleep(LOOK)
            else:
                _log.warning("another process has taken the zone over: standing by")
                await self._abdicate()

    async def _controller_deposed(self) -> None:
        assert self._controller is not None
        await self._controller.deposed.wait()

    async def _reign(self) -> None:
        controller = self._make()
        try:
            await controller.start()
        except BaseException:
            await controller.stop()
            raise
        self._controller = controller

    async def _abdicate(self) -> None:
        controller, self._controller = self._controller, None
        if controller is not None:
            await controller.stop()
