"""What the auditor reads, in pages that hold nobody up: one snapshot a page."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, func, select

from mallee.clc.audit.books import Attached, Intent, Page, SubnetCount
from mallee.clc.db.addresses import free_addresses
from mallee.clc.db.instances import instances
from mallee.clc.db.interfaces import network_interfaces
from mallee.clc.db.network import subnets
from mallee.kernel.db import Prepared, Tx

_SOME = 20  # of a kind of breach: enough to see what it is

_INTENTS = Prepared(
    select(*(instances.c[name] for name in Intent._fields))
    .where(instances.c.id > bindparam("after"))
    .order_by(instances.c.id)
    .limit(bindparam("limit"))
)
_NIC = network_interfaces.c
_ATTACHED = select(*(_NIC[name] for name in Attached._fields)).where(_NIC.instance_id > bindparam("after"))
_ATTACHED_UP_TO = Prepared(_ATTACHED.where(_NIC.instance_id <= bindparam("upto")))
_ATTACHED_BEHIND = Prepared(_ATTACHED)
_RANGED = (
    select(
        free_addresses.c.subnet_id,
        func.sum(free_addresses.c.high - free_addresses.c.low + 1).label("ranged"),
    )
    .group_by(free_addresses.c.subnet_id)
    .subquery()
)
_HELD = select(_NIC.subnet_id, func.count().label("held")).group_by(_NIC.subnet_id).subquery()
_COUNTS = (
    select(
        subnets.c.id,
        subnets.c.cidr,
        subnets.c.free,
        func.coalesce(_RANGED.c.ranged, 0),
        func.coalesce(_HELD.c.held, 0),
    )
    .outerjoin(_RANGED, _RANGED.c.subnet_id == subnets.c.id)
    .outerjoin(_HELD, _HELD.c.subnet_id == subnets.c.id)
)
_FREE_AND_HELD = (
    select(_NIC.subnet_id, _NIC.address)
    .join_from(
        free_addresses,
        network_interfaces,
        and_(
            _NIC.subnet_id == free_addresses.c.subnet_id,
            _NIC.address.between(free_addresses.c.low, free_addresses.c.high),
        ),
    )
    .limit(_SOME)
)
_OTHER = free_addresses.alias("other")
_OVERLAPPING = (
    select(free_addresses.c.subnet_id)
    .join(
        _OTHER,
        and_(
            _OTHER.c.subnet_id == free_addresses.c.subnet_id,
            _OTHER.c.low > free_addresses.c.low,
            _OTHER.c.low <= free_addresses.c.high,
        ),
    )
    .limit(_SOME)
)


def page(tx: Tx, after: str, limit: int) -> Page:
    """The next instances by id, and the interfaces of all ids up to the last of them."""
    intents = [Intent._make(row) for row in tx.execute(_INTENTS, {"after": after, "limit": limit})]
    if len(intents) == limit:
        attached = tx.execute(_ATTACHED_UP_TO, {"after": after, "upto": intents[-1].id})
    else:
        attached = tx.execute(_ATTACHED_BEHIND, {"after": after})
    return Page(intents, [Attached._make(row) for row in attached])


def subnet_counts(tx: Tx) -> Sequence[SubnetCount]:
    """Every subnet of every account."""
    return [SubnetCount(row[0], row[1], row[2], int(row[3]), int(row[4])) for row in tx.execute(_COUNTS)]


def free_and_held(tx: Tx) -> Sequence[tuple[str, int]]:
    """Subnet and address of what is in a free range and on an interface; the first few."""
    return [(row[0], row[1]) for row in tx.execute(_FREE_AND_HELD)]


def overlapping(tx: Tx) -> Sequence[str]:
    """Subnets of which two free ranges overlap; the first few."""
    return [row[0] for row in tx.execute(_OVERLAPPING)]
