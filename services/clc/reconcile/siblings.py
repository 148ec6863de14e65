"""Other cloud controllers on the same database: what a dead one has left unsaid is said by the living.

A controller that dies between a commit and the telling leaves wishes that no zone has heard. Each tells everything
unsettled from time to time anyway; this makes it soon. A false alarm costs one telling, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from mallee.clc.db import controllers
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database

BEAT_SECONDS = 0.5
SILENT_SECONDS = 2.0  # without a beat, by the clock of whoever looks

_log = structlog.get_logger()


class Siblings:
    """One controller among those that share a database.

    Args:
        me: the id of its state folder.
        tell_all: has everything unsettled told to its zone.
    """

    def __init__(self, db: Database, me: str, clock: Clock, tell_all: Callable[[], None]) -> None:
        self._db = db
        self._me = me
        self._clock = clock
        self._tell_all = tell_all
        self._seen: dict[str, tuple[int, float]] = {}  # beat and since when

    async def look(self) -> None:
        """Beat, and see who does not."""
        beats = await self._db.transact(lambda tx: controllers.beat(tx, self._me))
        now = self._clock.boot()
        for each, beat in beats.items():
            if self._seen.get(each, (None,))[0] != beat:
                self._seen[each] = beat, now
        gone = [each for each, (_, since) in self._seen.items() if now - since >= SILENT_SECONDS]
        silent = [each for each in gone if each in beats and each != self._me]
        for each in gone:
            del self._seen[each]
        if silent:
            _log.warning("a cloud controller gives no sign: its wishes are told from here", silent=silent)
            self._tell_all()
            await self._db.transact(lambda tx: controllers.forget(tx, silent))
