"""Orphans: blobs that no row names, left by a process that died between writing and committing."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, garbage
from mallee.walrus.store.ground import Ground

GRACE = 600.0  # seconds that a commit may take whose end nobody has seen
_AT_ONCE = 400

_log = structlog.get_logger()


class Orphans:
    """Removes blobs without a row that are older than `grace` seconds and that nobody here is writing."""

    def __init__(self, ground: Ground, *, grace: float = GRACE) -> None:
        self._ground = ground
        self._grace = grace

    async def one_pass(self) -> None:
        """Look at every blob."""
        async for names in self._ground.blobs.names():
            young = (self._ground.now_ms() - int(self._grace * 1000)).to_bytes(6)
            # Looked at before the rows are: who commits in between has a row by then.
            suspects = [name for name in names if name < young and name not in self._ground.written]
            for at in range(0, len(suspects), _AT_ONCE):
                await self._remove_unknown(suspects[at : at + _AT_ONCE])

    async def _remove_unknown(self, suspects: Sequence[bytes]) -> None:
        def known(tx: Tx) -> set[bytes]:
            return contents.present(tx, suspects) | garbage.present(tx, suspects)

        found = await self._ground.db.read(known)
        orphans = [name for name in suspects if name not in found]
        if orphans:
            await self._ground.blobs.remove(orphans)
            self._ground.metrics.orphans += len(orphans)
            _log.info("orphans removed", blobs=len(orphans))
