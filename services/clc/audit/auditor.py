"""The cloud's auditor at work: it asks the zones, then reads its own books page by page, for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

import structlog

from mallee.clc.audit import checks
from mallee.clc.audit.books import Intent, Page, ZoneReport
from mallee.clc.clusters import Clusters
from mallee.clc.db import audit
from mallee.domain.audit import LEFTOVER, Doubts, Finding, Invariant, tell
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.errors import Fault

LOOK_SECONDS = 15.0
_PAGE = 250  # instances of one snapshot: a millisecond or two
_BREATH = 0.002  # seconds between two pages
_EASE = 50  # a look that took a second is followed by this many without one

_log = structlog.get_logger()


class Verdict(NamedTuple):
    """What the last look made certain.

    Args:
        zones: those that were asked.
        away: those that could not be asked.
        instances: how many were looked at.
    """

    violations: list[Finding]
    zones: list[str]
    away: list[str]
    instances: int


class Auditor:
    """Looks at the whole cloud."""

    def __init__(self, db: Database, clusters: Clusters, clock: Clock) -> None:
        self._db = db
        self._clusters = clusters
        self._clock = clock
        self._doubts = Doubts()
        self._one = asyncio.Lock()
        self._seen: dict[str, checks.Seen] = {}
        self._reports: dict[str, ZoneReport] = {}
        self._next = float("-inf")
        self.looks = 0
        self.looked_at = float("-inf")
        self.seconds = 0.0  # that the last look took, its breaths and the zones' answers included

    async def sweep(self) -> None:
        """Look, unless somebody has done so just now, or looking would cost more than it should."""
        if self._clock.monotonic() >= self._next:
            await self.look()

    async def look(self) -> None:
        """Look at everything once; what is new, and what is over, is told in the log."""
        async with self._one:
            began = self._clock.monotonic()
            self._reports = await self._ask()
            found = await self._read(self._reports)
            found += await self._db.read(_subnets)
            for report in self._reports.values():
                found += checks.check_strangers(report, self._seen)
            self.looked_at = now = self._clock.monotonic()
            self.looks += 1
            self.seconds = now - began
            self._next = now + max(LOOK_SECONDS / 2, self.seconds * _EASE)
            tell(_log, self._doubts, found, now)

    async def verdict(self) -> Verdict:
        """Look now; if that leaves a doubt, once more when it must have passed (15 seconds at most)."""
        await self.look()
        doubt = max((report.doubt_seconds for report in self._reports.values()), default=0.0)
        doubt = max(doubt, self._doubts.wait(self._clock.monotonic(), LEFTOVER))
        if doubt > 0:
            await self._clock.sleep(doubt)
            await self.look()
        return Verdict(self.violations, sorted(self._reports), self.away, len(self._seen))

    @property
    def away(self) -> list[str]:
        """Zones that the last look could not ask."""
        return [zone for zone in self._clusters.zones if zone not in self._reports]

    @property
    def violations(self) -> list[Finding]:
        """What is certain: of the whole, and of each zone by itself."""
        of_zones = [found for report in self._reports.values() for found in report.violations]
        return self._doubts.violations + of_zones

    def counts(self) -> dict[Invariant, int]:
        """Violations of every rule."""
        broken = Counter(found.invariant for found in self.violations)
        return {invariant: broken[invariant] for invariant in Invariant}

    async def _ask(self) -> dict[str, ZoneReport]:
        reports: dict[str, ZoneReport] = {}
        for cluster in self._clusters:
            try:
                reports[cluster.zone] = await cluster.audit()
            except (Fault, TimeoutError) as error:
                _log.warning("a zone was not audited", zone=cluster.zone, why=str(error))
        return reports

    async def _read(self, reports: dict[str, ZoneReport]) -> list[Finding]:
        """Every instance against its zone, and what will be compared next time."""
        found: list[Finding] = []
        kept: dict[str, checks.Seen] = {}
        after = ""
        while True:
            at = after
            page = await self._db.read(lambda tx: audit.page(tx, at, _PAGE))  # noqa: B023
            found += self._check(page, reports)
            kept |= checks.remember(page.intents, self._seen)
            if len(page.intents) < _PAGE:
                break
            after = page.intents[-1].id
            await self._clock.sleep(_BREATH)
        self._seen = kept
        return found

    def _check(self, page: Page, reports: dict[str, ZoneReport]) -> list[Finding]:
        now_ms = int(self._clock.now().timestamp() * 1000)
        found = list(checks.check_page(page))
        for intent in page.intents:
            found += checks.check_history(intent, self._seen.get(intent.id))
            found += _against_zone(intent, reports.get(intent.zone), now_ms)
            found += checks.check_elsewhere(intent, reports.values())
        return found


def _against_zone(intent: Intent, report: ZoneReport | None, now_ms: int) -> list[Finding]:
    if report is None:
        return list(checks.check_late(intent, now_ms))
    return list(checks.check_intent(intent, report.held.get(intent.id), now_ms))


def _subnets(tx: Tx) -> list[Finding]:
    counts, both, twice = audit.subnet_counts(tx), audit.free_and_held(tx), audit.overlapping(tx)
    return list(checks.check_subnets(counts, both, twice))
