"""What is remembered for a while after its end: instances, so that a late fact of one is no stranger's, and sagas."""

from __future__ import annotations

from mallee.cc.db import SAGAS
from mallee.cc.ledger import Ledger
from mallee.kernel.saga.record import Record


async def sweep_tombstones(ledger: Ledger, seconds: float) -> None:
    """Forget those that ended more than `seconds` ago and are not known to lie on any node that is away."""
    before = ledger.now_ms() - int(seconds * 1000)
    old = [
        row.instance_id for row in ledger.placements.rows.values() if row.ended and row.updated_ms < before
    ]
    for instance_id in old:
        row = ledger.placements.rows[instance_id]
        host = ledger.inventory.hosts.get(row.left_host)
        if host is None or not host.lost:
            ledger.placements.drop(instance_id)
    await ledger.journal.commit()


async def forget_sagas(ledger: Ledger, seconds: float) -> None:
    """Forget the logs of sagas that ended more than `seconds` ago; their migrations stay."""
    before = ledger.now_ms() - int(seconds * 1000)
    record = Record(SAGAS)
    await ledger.db.transact(lambda tx: record.forget(tx, before))
