"""Which controller of the zone may write: the newest; and whether it lives.

The epoch is what makes it safe: every write of an older one fails. The beat is what makes it timely: whoever stands by
sees it stand still, by a clock of his own, so no two machines' clocks are ever compared.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from mallee.cc.db.schema import METADATA
from mallee.kernel.db import Prepared, Tx
from mallee.kernel.errors import Fault, Kind

SUPERSEDED = "superseded"
NOBODY = "nobody"

EPOCHS = sa.Table(
    "epochs",
    METADATA,
    sa.Column("zone", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(64), nullable=False, server_default=NOBODY),
    sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"),
)


class Reign(NamedTuple):
    """Who was the zone's controller last, by the id of its state folder."""

    epoch: int = 0
    holder: str = NOBODY
    beat: int = 0


_LAST = Prepared(
    sa.select(EPOCHS.c.epoch, EPOCHS.c.holder, EPOCHS.c.beat).where(EPOCHS.c.zone == sa.bindparam("at"))
)
_OTHERS = Prepared(sa.select(EPOCHS.c.zone).where(EPOCHS.c.zone != sa.bindparam("at")))
_RAISE = Prepared(
    sa.update(EPOCHS)
    .where(EPOCHS.c.zone == sa.bindparam("at"))
    .values(epoch=EPOCHS.c.epoch + 1, holder=sa.bindparam("to_holder"), beat=0)
)
_MINE = (EPOCHS.c.zone == sa.bindparam("at"), EPOCHS.c.epoch == sa.bindparam("mine"))
_HOLD = Prepared(sa.update(EPOCHS).where(*_MINE).values(epoch=EPOCHS.c.epoch))
_BEAT = Prepared(sa.update(EPOCHS).where(*_MINE).values(beat=EPOCHS.c.beat + 1))
_IS_MINE = Prepared(sa.select(EPOCHS.c.epoch).where(*_MINE))


def last(tx: Tx, zone: str) -> Reign:
    """The newest controller and its beat."""
    row = tx.execute(_LAST, {"at": zone}).first()
    return Reign(*row) if row is not None else Reign()


def take_over(tx: Tx, zone: str, holder: str) -> tuple[int, Reign]:
    """Be the zone's controller from here on: the number that `hold` wants, and who was it before.

    Raises:
        Fault: CONFLICT, when the database is another zone's.
    """
    strangers = list(tx.execute(_OTHERS, {"at": zone}).scalars())
    if strangers:
        raise Fault(
            Kind.CONFLICT,
            f"The controller of {zone} cannot use this database.",
            why=f"It is that of {strangers[0]}.",
            fix="Give each zone a database of its own: [cc] database.",
            code="another-zones-database",
        )
    before = last(tx, zone)
    if before.epoch == 0:
        tx.execute(sa.insert(EPOCHS), {"zone": zone, "epoch": 1, "holder": holder, "beat": 0})
    else:
        tx.execute(_RAISE, {"at": zone, "to_holder": holder})
    return before.epoch + 1, before


def hold(tx: Tx, zone: str, epoch: int) -> None:
    """Fail the transaction when another controller has taken over; one that takes over meanwhile waits or fails.

    Raises:
        Fault: STALE `superseded`.
    """
    if tx.execute(_HOLD, {"at": zone, "mine": epoch}).rowcount != 1:
        raise superseded(zone)


def beat(tx: Tx, zone: str, epoch: int) -> None:
    """Show that the holder lives. After `hold`, in its transaction."""
    tx.execute(_BEAT, {"at": zone, "mine": epoch})


def check(tx: Tx, zone: str, epoch: int) -> None:
    """As `hold`, for those whose own rows would collide with whoever goes on with them; it locks nothing.

    Raises:
        Fault: STALE `superseded`.
    """
    if tx.execute(_IS_MINE, {"at": zone, "mine": epoch}).first() is None:
        raise superseded(zone)


def superseded(zone: str) -> Fault:
    """What a controller hears that is none any more."""
    return Fault(
        Kind.STALE,
        f"This is no longer the cluster controller of {zone}.",
        why="Another process has taken the zone over.",
        fix="Nothing: it stands by from here on.",
        code=SUPERSEDED,
    )
