"""What the CLC sees: first everything, then what changes.

A watcher remembers *which* instances changed, never what they were: a slow one gets fewer and newer facts,
and its memory is bounded by the number of instances. A fact is rendered when it is sent, from what is
durable, so nobody ever hears of a decision that might be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice

from mallee.cc.ledger import Ledger
from mallee.domain.guest import Cause, Moment, Phase, Resources

CHUNK = 1000  # facts of one message
COALESCE = 0.025  # seconds that changes are gathered for: a guest that starts at once is one fact, not two
DISK_FAILED = (
    "disk-failed"  # the cause of a guest that stands still: no node is lost, and yet it answers nobody
)
ZONE_PAUSE = 0.5  # seconds between two summaries


@dataclass(frozen=True, slots=True)
class Fact:
    """An instance as the cluster controller vouches for it."""

    instance_id: str
    revision: int
    generation: int
    host_id: str
    phase: Phase
    reachable: bool  # that it can answer: its node is not lost, and it waits for no disk
    cause: Cause | None
    moments: tuple[Moment, ...]
    reboots: int
    migration_id: str
    description: int = 0

    @property
    def living(self) -> bool:
        """Whether it has not ended."""
        return self.phase is not Phase.TERMINATED


@dataclass(frozen=True, slots=True)
class Zone:
    """The zone's nodes and what is free of those that are open."""

    nodes: int
    nodes_ready: int
    capacity: Resources
    free: Resources
    guards: bool = False  # whether it has a node that enforces security groups


@dataclass(frozen=True, slots=True)
class News:
    """One message of a watch."""

    facts: tuple[Fact, ...]
    zone: Zone | None = None
    snapshot: bool = False
    snapshot_end: bool = False


class Watch:
    """Tells any number of watchers.

    Args:
        migration_of: the open migration of an instance, or ''.
        guards: whether a node attends that enforces security groups.
    """

    def __init__(
        self, ledger: Ledger, migration_of: Callable[[str], str], guards: Callable[[], bool] = lambda: False
    ) -> None:
        self._guards = guards
        self._ledger = ledger
        self._migration_of = migration_of
        self._watchers: dict[_Watcher, None] = {}
        self._zone_changed = asyncio.Event()
        ledger.listen(self.touch)
        ledger.inventory.watch(lambda _host: self._zone_changed.set())

    def touch(self, instance_ids: Collection[str]) -> None:
        """Something of these instances changed."""
        for watcher in self._watchers:
            watcher.note(instance_ids)

    async def follow(self) -> AsyncGenerator[News, None]:
        """Everything in chunks, then changes as they come, until closed."""
        watcher = _Watcher()
        self._watchers[watcher] = None
        try:
            known = list(self._ledger.placements.rows)
            for start in range(0, len(known), CHUNK):
                yield News(self._facts(known[start : start + CHUNK]), snapshot=True)
            watcher.zone = self.zone()
            yield News((), watcher.zone, snapshot=True, snapshot_end=True)
            while True:
                await watcher.woken.wait()
                await self._ledger.clock.sleep(COALESCE)
                news = self._news(watcher)
                if news.facts or news.zone:
                    yield news
        finally:
            self._watchers.pop(watcher, None)

    async def summarise(self) -> None:
        """Wake the watchers for the zone's summary, at most twice a second."""
        while True:
            await self._zone_changed.wait()
            self._zone_changed.clear()
            for watcher in self._watchers:
                watcher.zone_due = True
                watcher.woken.set()
            await self._ledger.clock.sleep(ZONE_PAUSE)

    def zone(self) -> Zone:
        return Zone(*self._ledger.inventory.totals(), self._guards())

    def fact(self, instance_id: str) -> Fact | None:
        """The instance as it durably is; None when it is not known (any more), or a mere claim."""
        row = self._ledger.placements.durable(instance_id)
        if row is None or row.revision == 0:
            return None
        live = self._ledger.live.get(instance_id)
        phase, cause = Phase(row.phase), row.cause
        held = row.host >= 0
        if held and live is not None and live.generation == row.generation and not row.claimed:
            phase, cause = live.phase, live.cause or cause
        host = self._ledger.inventory.hosts.get(row.host)
        return Fact(
            instance_id,
            row.revision,
            row.generation,
            f"h-{row.host}" if held else "",
            phase,
            (host is None or not host.lost) and not (cause is not None and cause.code == DISK_FAILED),
            cause,
            live.moments if live else (),
            live.reboots if live else 0,
            self._migration_of(instance_id),
            live.description if live else 0,
        )

    def _facts(self, instance_ids: Iterable[str]) -> tuple[Fact, ...]:
        return tuple(fact for i in instance_ids if (fact := self.fact(i)) is not None)

    def _news(self, watcher: _Watcher) -> News:
        changed = list(islice(watcher.changed, CHUNK))
        for instance_id in changed:
            del watcher.changed[instance_id]
        zone = None
        if watcher.zone_due:
            watcher.zone_due = False
            now = self.zone()
            if now != watcher.zone:
                watcher.zone = zone = now
        if not watcher.changed:
            watcher.woken.clear()
        return News(self._facts(changed), zone)


class _Watcher:
    """What one watcher has not heard yet."""

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        self.woken = asyncio.Event()
        self.zone: Zone | None = None
        self.zone_due = False

    def note(self, instance_ids: Iterable[str]) -> None:
        self.changed.update(dict.fromkeys(instance_ids))
        self.woken.set()
