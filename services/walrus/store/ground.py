"""What every part of the store stands on: the database, the blobs, the clock, and who is at work now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.entropy import Entropy
from mallee.kernel.secrets_box import SecretsBox
from mallee.walrus.store.blobs import Blobs
from mallee.walrus.store.documents import Bucket
from mallee.walrus.store.metrics import StoreMetrics

T = TypeVar("T")
INLINE = 32 * 1024  # bytes up to which a content costs less in the database than in a file

_log = structlog.get_logger()


@dataclass(slots=True)
class Ground:
    """One store's.

    Attributes:
        box: seals the data keys of SSE-S3.
        inline: contents of so many stored bytes or fewer are kept in the database.
        written: names of contents that are being written, which no row names yet.
        read: names of contents that are being read, and how often.
        buckets: as they were read, by name. Every request asks for its bucket, and this process is the
            only one that changes any.
    """

    db: Database
    blobs: Blobs
    box: SecretsBox
    clock: Clock
    entropy: Entropy
    inline: int = INLINE
    metrics: StoreMetrics = field(default_factory=StoreMetrics)
    written: set[bytes] = field(default_factory=set)
    read: Counter[bytes] = field(default_factory=Counter)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    bucket_changes: int = 0
    _running: set[asyncio.Task[Any]] = field(default_factory=set)

    def forget_bucket(self, name: str) -> None:
        """It has changed, durably."""
        self.bucket_changes += 1
        self.buckets.pop(name, None)

    def now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    def new_name(self) -> bytes:
        """Sixteen bytes that begin with the time: what is made together lies together."""
        return self.now_ms().to_bytes(6) + self.entropy.token(10)

    async def outlive(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that must come to its end even when nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def rest(self) -> None:
        """Return when no such work is under way."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # Whoever still waits gets it too.
            _log.debug("a change of the store failed", error=repr(task.exception()))


class Room:
    """A room of the store: what it does with one kind of thing."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
