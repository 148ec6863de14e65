"""Network interfaces: an address in a subnet, the groups that guard it, the instance it serves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    String,
    Table,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)

from mallee.clc.db import network, tags
from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

network_interfaces = Table(
    "network_interfaces",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("subnet_id", String(32), nullable=False),
    Column("vpc_id", String(32), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("address", BigInteger, nullable=False),
    Column("mac", String(17), nullable=False),
    Column("description", String(255), nullable=False),
    Column("source_dest_check", Boolean, nullable=False),
    Column("status", String(16), nullable=False),  # in-use, available
    Column("instance_id", String(32), nullable=False),  # empty: attached to none
    Column("attachment_id", String(32), nullable=False),
    Column("attached_ms", BigInteger, nullable=False),
    Column("device_index", Integer, nullable=False),
    Column("delete_on_termination", Boolean, nullable=False),
    Index("ix_network_interfaces_account", "account_id", "id"),
    Index("ux_network_interfaces_address", "subnet_id", "address", unique=True),
    Index("ux_network_interfaces_mac", "mac", unique=True),
    Index("ix_network_interfaces_instance", "instance_id"),
)
interface_groups = Table(
    "interface_groups",
    metadata,
    Column("interface_id", String(32), primary_key=True),
    Column("group_id", String(32), primary_key=True),
    Index("ix_interface_groups_group", "group_id", "interface_id"),
)


class Interface(NamedTuple):
    """A network interface; `address` as an integer, empty texts where nothing is attached."""

    id: str
    account_id: str
    subnet_id: str
    vpc_id: str
    zone: str
    address: int
    mac: str
    description: str = ""
    source_dest_check: bool = True
    status: str = "in-use"
    instance_id: str = ""
    attachment_id: str = ""
    attached_ms: int = 0
    device_index: int = 0
    delete_on_termination: bool = True


_N = network_interfaces.c
_HELD = Prepared(select(network_interfaces).where(_N.instance_id.in_(bindparam("instances", expanding=True))))
_BY_IDS = Prepared(
    select(network_interfaces)
    .where(_N.account_id == bindparam("account"), _N.id.in_(bindparam("ids", expanding=True)))
    .order_by(_N.id)
)
_PAGE = Prepared(
    select(network_interfaces)
    .where(_N.account_id == bindparam("account"), _N.id > bindparam("after"))
    .order_by(_N.id)
    .limit(bindparam("size"))
)
_OF_GROUP = Prepared(
    select(network_interfaces)
    .join(interface_groups, interface_groups.c.interface_id == _N.id)
    .where(
        _N.account_id == bindparam("account"),
        interface_groups.c.group_id.in_(bindparam("groups", expanding=True)),
    )
    .order_by(_N.id)
    .distinct()
)
_ATTACHED = Prepared(
    select(network_interfaces)
    .where(_N.zone == bindparam("zone"), _N.instance_id != "", _N.device_index == 0)
    .order_by(_N.id)
)
_GROUPS = Prepared(
    select(interface_groups)
    .where(interface_groups.c.interface_id.in_(bindparam("ids", expanding=True)))
    .order_by(interface_groups.c.interface_id, interface_groups.c.group_id)
)
_INSERT = Prepared(insert(network_interfaces))
_JOIN_GROUPS = Prepared(insert(interface_groups))
_GUARDS = Prepared(select(exists().where(interface_groups.c.group_id == bindparam("group"))))
_DELETE = Prepared(delete(network_interfaces).where(_N.id.in_(bindparam("ids", expanding=True))))
_UNGROUP = Prepared(
    delete(interface_groups).where(interface_groups.c.interface_id.in_(bindparam("ids", expanding=True)))
)
_CHECK = Prepared(
    update(network_interfaces)
    .where(_N.id.in_(bindparam("ids", expanding=True)))
    .values(source_dest_check=bindparam("wanted"))
)
_DETACH = Prepared(
    update(network_interfaces)
    .where(_N.id.in_(bindparam("ids", expanding=True)))
    .values(status="available", instance_id="", attachment_id="", attached_ms=0, device_index=0)
)


def mac_of(interface_id: str) -> str:
    """A locally administered MAC from the interface's own random id: as unique as that is."""
    bits = int(interface_id[-12:], 16) & 0xFCFFFFFFFFFF | 0x020000000000
    return bits.to_bytes(6).hex(":")


def insert_interfaces(tx: Tx, rows: Sequence[Interface], groups: Sequence[Sequence[str]]) -> None:
    """Keep new interfaces, each with its group ids; addresses came from `network.allocate`."""
    if not rows:
        return
    tx.execute(_INSERT, list(rows))
    links = [
        {"interface_id": row.id, "group_id": group}
        for row, guarding in zip(rows, groups, strict=True)
        for group in guarding
    ]
    if links:
        tx.execute(_JOIN_GROUPS, links)


def release(tx: Tx, instance_ids: Collection[str]) -> None:
    """What these instances held ends with them, addresses included; or stays, detached, if it was to."""
    if not instance_ids:
        return
    held = [Interface(*row) for row in tx.execute(_HELD, {"instances": list(instance_ids)})]
    staying = [one.id for one in held if not one.delete_on_termination]
    if staying:
        tx.execute(_DETACH, {"ids": staying})
    _delete(tx, [one for one in held if one.delete_on_termination])


def _delete(tx: Tx, gone: Sequence[Interface]) -> None:
    if not gone:
        return
    ids = [one.id for one in gone]
    tx.execute(_UNGROUP, {"ids": ids})
    tx.execute(_DELETE, {"ids": ids})
    returned: dict[str, list[int]] = {}
    owned: dict[str, list[str]] = {}
    for one in gone:
        returned.setdefault(one.subnet_id, []).append(one.address)
        owned.setdefault(one.account_id, []).append(one.id)
    for subnet_id, addresses in returned.items():
        network.give_back(tx, subnet_id, addresses)
    for account, theirs in owned.items():
        tags.drop(tx, account, theirs)


def regroup(tx: Tx, interface_ids: Collection[str], groups: Iterable[str]) -> None:
    """These interfaces are guarded by exactly these groups from now on."""
    guarding = list(groups)
    tx.execute(_UNGROUP, {"ids": list(interface_ids)})
    links = [{"interface_id": one, "group_id": group} for one in interface_ids for group in guarding]
    if links:
        tx.execute(_JOIN_GROUPS, links)


def check_source_dest(tx: Tx, interface_ids: Collection[str], *, wanted: bool) -> None:
    """Whether these interfaces drop what is neither from nor for their own address."""
    if interface_ids:
        tx.execute(_CHECK, {"ids": list(interface_ids), "wanted": wanted})


def of_instances(tx: Tx, account: str, instance_ids: Collection[str]) -> list[Interface]:
    """The interfaces of these instances, by instance and device index."""
    # Not asked of SQLite: it would take the account's index and look at every interface there is.
    held = [Interface(*row) for row in tx.execute(_HELD, {"instances": list(instance_ids)})]
    own = [one for one in held if one.account_id == account]
    return sorted(own, key=lambda one: (one.instance_id, one.device_index))


def of_groups(tx: Tx, account: str, group_ids: Collection[str]) -> list[Interface]:
    """The interfaces that any of these groups guards, by id."""
    return [Interface(*row) for row in tx.execute(_OF_GROUP, {"account": account, "groups": list(group_ids)})]


def attached_in(tx: Tx, zone: str) -> list[Interface]:
    """The first interface of every instance of a zone, whoever's it is, by id."""
    return [Interface(*row) for row in tx.execute(_ATTACHED, {"zone": zone})]


def by_ids(tx: Tx, account: str, ids: Collection[str]) -> list[Interface]:
    """Those of `ids` that are the account's, by id."""
    return [Interface(*row) for row in tx.execute(_BY_IDS, {"account": account, "ids": list(ids)})]


def page(tx: Tx, account: str, after: str = "", size: int = 1000) -> list[Interface]:
    """The account's interfaces by id, from behind `after`."""
    rows = tx.execute(_PAGE, {"account": account, "after": after, "size": size})
    return [Interface(*row) for row in rows]


def groups_of(tx: Tx, interface_ids: Collection[str]) -> dict[str, list[str]]:
    """The ids of the groups that guard each of these."""
    guarding: dict[str, list[str]] = {}
    for row in tx.execute(_GROUPS, {"ids": list(interface_ids)}):
        guarding.setdefault(row.interface_id, []).append(row.group_id)
    return guarding


def guarded(tx: Tx, group_id: str) -> bool:
    """Whether any interface is guarded by this group."""
    return bool(tx.execute(_GUARDS, {"group": group_id}).scalar_one())
