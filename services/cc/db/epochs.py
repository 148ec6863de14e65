"""Which controller of the zone may write: the newest."""

from __future__ import annotations

import sqlalchemy as sa

from mallee.cc.db.schema import METADATA
from mallee.kernel.db import Prepared, Tx
from mallee.kernel.errors import Fault, Kind

EPOCHS = sa.Table(
    "epochs",
    METADATA,
    sa.Column("zone", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)

_RAISE = Prepared(
    sa.update(EPOCHS).where(EPOCHS.c.zone == sa.bindparam("at")).values(epoch=EPOCHS.c.epoch + 1)
)
_HOLD = Prepared(
    sa.update(EPOCHS)
    .where(EPOCHS.c.zone == sa.bindparam("at"), EPOCHS.c.epoch == sa.bindparam("mine"))
    .values(epoch=EPOCHS.c.epoch)
)


def take_over(tx: Tx, zone: str) -> int:
    """Be the zone's controller from here on; the number that `hold` wants."""
    if tx.execute(_RAISE, {"at": zone}).rowcount == 0:
        tx.execute(sa.insert(EPOCHS), {"zone": zone, "epoch": 1})
    epoch: int = tx.execute(sa.select(EPOCHS.c.epoch).where(EPOCHS.c.zone == zone)).scalar_one()
    return epoch


def hold(tx: Tx, zone: str, epoch: int) -> None:
    """Fail the transaction when another controller has taken over.

    Raises:
        Fault: STALE.
    """
    if tx.execute(_HOLD, {"at": zone, "mine": epoch}).rowcount != 1:
        raise Fault(
            Kind.STALE,
            f"This is no longer the cluster controller of {zone}.",
            why="Another process has taken the zone over.",
            fix="Stop this one.",
            code="superseded",
        )
