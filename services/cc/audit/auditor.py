"""The auditor at work: a slice of the books at a time, for ever, and once more for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import structlog

from mallee.cc.audit.books import Books, read
from mallee.cc.audit.checks import check_host, check_instance, check_migrations
from mallee.cc.db import SAGAS
from mallee.cc.ledger import Ledger
from mallee.cc.migration.desk import Desk
from mallee.cc.nodes import Nodes
from mallee.domain.audit import Doubts, Finding, tell
from mallee.kernel.saga.record import Record

LOOK_SECONDS = 15.0
_SLICE = 200  # instances between two breaths: well below a millisecond
_BREATH = 0.002  # seconds

_log = structlog.get_logger()


class Auditor:
    """Looks at one zone.

    Args:
        claim_seconds: how long a claim may wait.
    """

    def __init__(self, ledger: Ledger, nodes: Nodes, desk: Desk, claim_seconds: float) -> None:
        self.doubts = Doubts()
        self._ledger = ledger
        self._nodes = nodes
        self._desk = desk
        self._claim_seconds = claim_seconds
        self._record = Record(SAGAS)
        self._one = asyncio.Lock()
        self._looked_at = float("-inf")

    async def sweep(self) -> None:
        """Look, unless somebody has asked for it just now."""
        if self._ledger.clock.monotonic() - self._looked_at >= LOOK_SECONDS / 2:
            await self.look()

    async def look(self) -> None:
        """Look at everything once; what is new, and what is over, is told in the log."""
        async with self._one:
            sagas = await self._ledger.db.read(self._record.unended)
            books = read(self._ledger, self._nodes, self._desk, sagas, self._claim_seconds)
            found: list[Finding] = []
            for part in _parts(books):
                found += part
                await self._ledger.clock.sleep(_BREATH)
            self._looked_at = self._ledger.clock.monotonic()
            tell(_log, self.doubts, found, self._looked_at)


def _parts(books: Books) -> Iterator[Iterable[Finding]]:
    """The whole look in slices. Each node and each instance is in one of them, as it is at that moment."""
    yield list(check_migrations(books))
    work, found = 0, list[Finding]()
    for number in list(books.hosts):
        found += check_host(books, number)
        work += 1 + len(books.hosts[number].takers)
        if work >= _SLICE:
            yield found
            work, found = 0, []
    for instance_id in list(books.placements):
        found += check_instance(books, instance_id)
        work += 1
        if work >= _SLICE:
            yield found
            work, found = 0, []
    yield found
