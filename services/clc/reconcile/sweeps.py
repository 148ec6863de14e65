"""What passes by itself: ended instances after their hour, tokens after their day.

Each sweep is one pass over an index that holds nothing but what is due.
"""

from __future__ import annotations

from mallee.clc.db import instances, node_tokens, tags, tokens
from mallee.clc.db.sagas import SAGAS
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.saga.record import Record

_BATCH = 500
_SAGAS_KEPT_MS = 7 * 24 * 3600 * 1000
_RECORD = Record(SAGAS)


class Sweeps:
    """The passes, each to be run again and again.

    Args:
        visible_seconds: how long an ended instance is described.
    """

    def __init__(self, db: Database, clock: Clock, *, visible_seconds: int) -> None:
        self._db = db
        self._clock = clock
        self._visible_ms = visible_seconds * 1000

    async def forget_ended(self) -> None:
        """Remove ended instances with their tags, once their time is over and their cluster knows."""
        before = self._now_ms() - self._visible_ms

        def work(tx: Tx) -> int:
            over = instances.over_before(tx, before, _BATCH)
            by_account: dict[str, list[str]] = {}
            for instance_id, account in over:
                by_account.setdefault(account, []).append(instance_id)
            for account, ids in by_account.items():
                tags.drop(tx, account, ids)
            instances.forget(tx, [instance_id for instance_id, _ in over])
            return len(over)

        while await self._db.transact(work) == _BATCH:
            pass

    async def forget_tokens(self) -> None:
        """Remove client tokens and join tokens whose time is over."""
        now = self._now_ms()
        await self._db.transact(lambda tx: tokens.forget(tx, now))
        await self._db.transact(lambda tx: node_tokens.forget_expired(tx, now))

    async def forget_sagas(self) -> None:
        """Remove the records of sagas that ended a week ago; what they made says how they ended."""
        before = self._now_ms() - _SAGAS_KEPT_MS
        await self._db.transact(lambda tx: _RECORD.forget(tx, before))

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
