"""Scrub: every byte is read and verified once in a while, so that rot is found while there are copies.

What it finds is remembered, counted and logged; mending is for who has another copy.
"""

from __future__ import annotations

import structlog

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, marks
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.db.marks import Damage, Mark
from mallee.walrus.store.blobs import Blob, Damaged, Missing, verify
from mallee.walrus.store.ground import Ground

PERIOD = 7 * 24 * 3600.0  # seconds from one beginning to the next
RATE = 32 << 20  # bytes a second
_NAME = "scrub"
_AT_ONCE = 64

_log = structlog.get_logger()


class Scrub:
    """Reads everything once every `period` seconds, at most `rate` bytes a second; goes on after a restart."""

    def __init__(self, ground: Ground, *, period: float = PERIOD, rate: float = RATE) -> None:
        self._ground = ground
        self._period = period
        self._rate = rate

    async def one_pass(self) -> None:
        """To the end, if it is time to begin or one was under way."""
        now_ms = self._ground.now_ms()
        mark = await self._ground.db.read(lambda tx: marks.find(tx, _NAME))
        if mark is None or (not mark.at and now_ms - mark.began_ms >= self._period * 1000):
            mark = Mark(_NAME, b"\x00", now_ms)
        while mark.at:
            mark = await self._on_from(mark)

    async def _on_from(self, mark: Mark) -> Mark:
        rows = await self._ground.db.read(lambda tx: contents.page(tx, mark.at, _AT_ONCE))
        found: list[Damage] = []
        for content in rows:
            if why := await self._wrong_with(content):
                found.append(Damage(content.id, self._ground.now_ms(), why))
            self._ground.metrics.scrubbed += content.stored
        await self._ground.clock.sleep(sum(content.stored for content in rows) / self._rate)
        further = mark._replace(at=rows[-1].id if rows else b"")

        def work(tx: Tx) -> tuple[list[Damage], int]:
            marks.put(tx, further)
            marks.remove_damages(tx, [content.id for content in rows])
            # What was deleted meanwhile is not damaged.
            real = [damage for damage in found if contents.find(tx, damage.content) is not None]
            for damage in real:
                marks.add_damage(tx, damage)
            known = [damage.content for damage in marks.damaged(tx)]
            marks.remove_damages(tx, list(set(known) - contents.present(tx, known)))
            return real, len(marks.damaged(tx))

        real, self._ground.metrics.damages = await self._ground.db.transact(work)
        for damage in real:
            _log.error("the scrub found damage", content=damage.content.hex(), why=damage.why)
        return further

    async def _wrong_with(self, content: ContentRow) -> str:
        """What is wrong with its bytes, if anything is."""
        blob = Blob(content.id, content.stored, content.crcs)
        try:
            if content.inline is not None:
                if content.stored:
                    verify(blob, 0, content.inline)
                return ""
            async for _ in self._ground.blobs.read(blob, 0, blob.size - 1, sendfile=False):
                pass
        except Damaged as damaged:
            return damaged.why
        except Missing:
            return "There is no such blob."
        return ""
