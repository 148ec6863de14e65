"""Garbage: bytes whose last object is gone are removed, when nobody can still be reading them.

First the content's row goes, then the blob, then the garbage's own row: a crash in between leaves
something that the next pass finds, and never a row without its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, garbage, uploads
from mallee.walrus.db.garbage import GarbageRow
from mallee.walrus.store.ground import Ground
from mallee.walrus.store.reading import unpack_parts

GRACE = 60.0  # seconds between finding a version and reading it, at the most
REMEMBERED = 24 * 3600.0  # seconds for which the end of an upload may be asked for again
_AT_ONCE = 500


class Garbage:
    """Removes what is listed as garbage for longer than `grace` seconds."""

    def __init__(self, ground: Ground, *, grace: float = GRACE, remembered: float = REMEMBERED) -> None:
        self._ground = ground
        self._grace = grace
        self._remembered = remembered

    async def one_pass(self) -> None:
        """Until nothing is due that is not being read."""
        before_ms = self._ground.now_ms() - int(self._grace * 1000)
        while due := await self._due(before_ms):
            listed = [row.id for row in due if not row.doomed]
            if listed:
                await self._ground.db.transact(lambda tx, ids=listed: _doom(tx, ids))  # type: ignore[misc]
            doomed = [row.id for row in due if row.doomed]
            if doomed:
                await self._ground.blobs.remove(doomed)
                await self._ground.db.transact(lambda tx, ids=doomed: garbage.remove(tx, ids))  # type: ignore[misc]
                self._ground.metrics.garbage += len(doomed)
        forgotten_ms = self._ground.now_ms() - int(self._remembered * 1000)
        await self._ground.db.transact(lambda tx: uploads.forget_completed(tx, forgotten_ms))

    async def _due(self, before_ms: int) -> Sequence[GarbageRow]:
        read = self._ground.read
        size = _AT_ONCE + len(read)  # so that what is being read does not hide what is not
        rows = await self._ground.db.read(lambda tx: garbage.due(tx, before_ms, size))
        return [row for row in rows if row.doomed or row.id not in read]


def _doom(tx: Tx, ids: Sequence[bytes]) -> None:
    """Forget contents; their blobs are listed in their place."""
    for name in ids:
        content = contents.find(tx, name)
        if content is None or content.manifest is None:
            garbage.doom(tx, [name])
            contents.remove(tx, [name])
            continue
        parts = [entry.content for entry in unpack_parts(content.manifest)]
        contents.remove(tx, [name, *parts])
        since_ms = garbage.since(tx, name)
        garbage.remove(tx, [name])
        garbage.add_blobs(tx, parts, since_ms)
