"""Instances: what was wished, what is known of it, and what lists look for.

One row an instance. The wish (`power`, `force`, `reboots`, raised `revision`) is written by
handlers, the facts by `clc.facts`; `unsettled` says that the two differ. `version` rises with each
change that a client can see and is half the key of the rendered XML. What nobody searches for is one
JSON document. Every index ends in the id, the key by which pages walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    bindparam,
    delete,
    false,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from mallee.clc.db.metadata import metadata
from mallee.clc.errors import InvalidInstanceIDNotFound
from mallee.clc.instance import State
from mallee.domain.guest import GuestImage
from mallee.kernel.db import Prepared, Tx


class MetadataOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a guest may ask for its metadata."""

    tokens: str = "optional"
    hop_limit: int = 1
    endpoint: str = "enabled"
    ipv6: str = "disabled"
    tags: str = "disabled"


class DnsOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an instance's private name is made of."""

    hostname_type: str = "ip-name"
    a_record: bool = False
    aaaa_record: bool = False


class Details(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything of an instance that no index needs.

    Attributes:
        size: how many instances the reservation was made with.
        vcpus: of the guest, which may have fewer cores than its type.
        public_key: in OpenSSH form, copied at launch: deleting a key pair changes no instance.
        pinned_host: the node that the administrator asked for, if any.
        files: of the object store that it boots from, copied at launch: deregistering an image ends no instance.
        root_gib: of its root disk; 0 for as large as its image.
        description: the wish that brought the description that the guest should have now; 0 for its first one.
    """

    vcpus: int
    memory_mib: int
    size: int = 1
    launch_index: int = 0
    client_token: str = ""
    architecture: str = "x86_64"
    image_location: str = ""
    root_device_name: str = "/dev/sda1"
    root_device_type: str = "instance-store"
    virtualization: str = "hvm"
    platform: str = ""
    public_key: str = ""
    hostname: str = ""
    monitoring: bool = False
    shutdown_behavior: str = "stop"
    keep_from_termination: bool = False
    keep_from_stop: bool = False
    metadata: MetadataOptions = MetadataOptions()
    dns: DnsOptions = DnsOptions()
    credits: str = ""
    cores: int = 1
    threads_per_core: int = 1
    ebs_optimized: bool = False
    pinned_host: str = ""
    auto_recovery: str = "default"
    has_user_data: bool = False
    description: int = 0
    files: GuestImage | None = None
    root_gib: int = 0


class InstanceRow(NamedTuple):
    """A row as it is stored; `details` is JSON of `Details`."""

    id: str
    version: int
    account_id: str
    reservation_id: str
    zone: str
    state: int
    operation: str
    cause_code: str
    cause_message: str
    cause_ms: int
    changed_ms: int
    power: str
    force: bool
    reboots: int
    revision: int
    unsettled: bool
    host_id: str
    generation: int
    reachable: bool
    reboots_done: int
    migration_id: str
    image_id: str
    instance_type: str
    vpc_id: str
    subnet_id: str
    private_address: str
    key_name: str
    launched_ms: int
    details: bytes

    @property
    def is_over(self) -> bool:
        """Whether nothing but a name is left of it."""
        return self.state == State.TERMINATED


instances = Table(
    "instances",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("account_id", String(12), nullable=False),
    Column("reservation_id", String(24), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("operation", String(12), nullable=False),
    Column("cause_code", String(64), nullable=False),
    Column("cause_message", String(512), nullable=False),
    Column("cause_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),  # when the state became what it is
    Column("power", String(12), nullable=False),
    Column("force", Boolean, nullable=False),
    Column("reboots", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("unsettled", Boolean, nullable=False),
    Column("host_id", String(96), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("reachable", Boolean, nullable=False),
    Column("reboots_done", Integer, nullable=False),
    Column("migration_id", String(24), nullable=False),
    Column("image_id", String(24), nullable=False),
    Column("instance_type", String(32), nullable=False),
    Column("vpc_id", String(24), nullable=False),
    Column("subnet_id", String(24), nullable=False),
    Column("private_address", String(15), nullable=False),
    Column("key_name", String(255), nullable=False),
    Column("launched_ms", BigInteger, nullable=False),
    Column("details", LargeBinary, nullable=False),
    Index(None, "account_id", "id"),
    Index(None, "account_id", "state", "id"),
    Index(None, "account_id", "zone", "id"),
    Index(None, "account_id", "subnet_id", "id"),
    Index(None, "account_id", "image_id", "id"),
    Index(None, "account_id", "instance_type", "id"),
    Index(None, "account_id", "reservation_id", "id"),
    Index(None, "account_id", "private_address", "id"),
    Index(None, "host_id", "id"),
)
_of = instances.c
# Few rows are ever unsettled or over: these two indexes stay small whatever the fleet. A database uses
# them only for the very words of their condition, so the queries below have no parameter there.
Index(
    "ix_instances_unsettled",
    _of.zone,
    _of.id,
    sqlite_where=text("unsettled = 1"),
    postgresql_where=text("unsettled"),
)
Index(
    "ix_instances_over",
    _of.changed_ms,
    _of.id,
    sqlite_where=text("state = 48"),
    postgresql_where=text("state = 48"),
)
_is_over = _of.state == literal_column(str(int(State.TERMINATED)))

user_data = Table(
    "instance_user_data",
    metadata,
    Column("instance_id", String(24), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)


class Glance(NamedTuple):
    """What facts are compared with."""

    id: str
    revision: int
    generation: int
    host_id: str
    reachable: bool
    reboots_done: int
    migration_id: str
    power: str
    state: int
    unsettled: bool


_STATE_COLUMNS = (
    *("version", "state", "operation", "cause_code", "cause_message", "cause_ms", "changed_ms", "power"),
    *("force", "reboots", "revision", "unsettled", "host_id", "generation", "reachable", "reboots_done"),
    *("migration_id", "launched_ms"),
)
_DETAIL_COLUMNS = ("version", "instance_type", "details")

_INSERT = Prepared(insert(instances))
_INSERT_USER_DATA = Prepared(insert(user_data))
_BY_IDS = Prepared(select(instances).where(_of.id.in_(bindparam("ids", expanding=True))))
_GLANCE = Prepared(
    select(*(_of[name] for name in Glance._fields)).where(_of.id.in_(bindparam("ids", expanding=True)))
)
_MINE = Prepared(
    select(instances).where(
        _of.account_id == bindparam("account_id"), _of.id.in_(bindparam("ids", expanding=True))
    )
)
_SAVE_STATE = Prepared(
    update(instances)
    .where(_of.id == bindparam("at_id"))
    .values({name: bindparam(f"to_{name}") for name in _STATE_COLUMNS})
)
_STAY_COLUMNS = tuple(name for name in _STATE_COLUMNS if name != "host_id")
_SAVE_STAY = Prepared(
    update(instances)
    .where(_of.id == bindparam("at_id"))
    .values({name: bindparam(f"to_{name}") for name in _STAY_COLUMNS})
)
_SAVE_DETAILS = Prepared(
    update(instances)
    .where(_of.id == bindparam("at_id"))
    .values({name: bindparam(f"to_{name}") for name in _DETAIL_COLUMNS})
)
_BARE = Prepared(
    update(instances).where(_of.id == bindparam("at_id")).values(vpc_id="", subnet_id="", private_address="")
)
_TOUCH = Prepared(
    update(instances).where(_of.id.in_(bindparam("ids", expanding=True))).values(version=_of.version + 1)
)
_UNSETTLED = Prepared(
    select(_of.id)
    .where(_of.zone == bindparam("zone"), _of.unsettled, _of.id > bindparam("after"))
    .order_by(_of.id)
    .limit(bindparam("limit"))
)
_LIVING = Prepared(
    select(_of.id)
    .where(_of.zone == bindparam("zone"), _of.state != int(State.TERMINATED), _of.id > bindparam("after"))
    .order_by(_of.id)
    .limit(bindparam("limit"))
)
_ON_HOST = Prepared(
    select(_of.id)
    .where(_of.host_id == bindparam("host_id"), _of.state != int(State.TERMINATED))
    .order_by(_of.id)
)
_UNSETTLE = Prepared(
    update(instances)
    .where(_of.id.in_(bindparam("ids", expanding=True)), _of.unsettled == false())
    .values(unsettled=True)
)
_OVER = Prepared(
    select(_of.id, _of.account_id)
    .where(_is_over, _of.changed_ms < bindparam("before_ms"), ~_of.unsettled)
    .order_by(_of.changed_ms, _of.id)
    .limit(bindparam("limit"))
)
_COUNT = Prepared(
    select(func.count()).where(_of.account_id == bindparam("account_id"), _of.state != int(State.TERMINATED))
)
_USER_DATA = Prepared(
    select(user_data.c.instance_id, user_data.c.data).where(
        user_data.c.instance_id.in_(bindparam("ids", expanding=True))
    )
)
_FORGET = Prepared(delete(instances).where(_of.id.in_(bindparam("ids", expanding=True))))
_FORGET_USER_DATA = Prepared(
    delete(user_data).where(user_data.c.instance_id.in_(bindparam("ids", expanding=True)))
)


def decode(details: bytes) -> Details:
    """The document of a row."""
    return _decoder.decode(details)


_decoder = msgspec.json.Decoder(Details)
encode = msgspec.json.Encoder().encode


def add(tx: Tx, rows: Sequence[InstanceRow]) -> None:
    """Write new instances, all in one statement."""
    tx.execute(_INSERT, list(rows))


def find(tx: Tx, ids: Sequence[str]) -> list[InstanceRow]:
    """Whoever's instances these are; those that do not exist are missing from the answer."""
    return _rows(tx, _BY_IDS, {"ids": ids})


def glance(tx: Tx, ids: Sequence[str]) -> list[Glance]:
    """The same, of each only what facts are compared with."""
    return [Glance._make(row) for row in tx.execute(_GLANCE, {"ids": ids})] if ids else []


def mine(tx: Tx, account: str, ids: Iterable[str]) -> list[InstanceRow]:
    """An account's instances in the order asked, each once.

    Raises:
        InvalidInstanceIDNotFound: naming all that the account does not have.
    """
    wanted = list(dict.fromkeys(ids))
    found = _rows(tx, _MINE, {"account_id": account, "ids": wanted})
    if len(found) < len(wanted):
        known = {row.id for row in found}
        raise InvalidInstanceIDNotFound(*(each for each in wanted if each not in known))
    by_id = {row.id: row for row in found}
    return [by_id[each] for each in wanted]


def save_state(tx: Tx, rows: Sequence[InstanceRow], *, moved: bool = True) -> None:
    """Write wishes, states and facts back; what lists search for besides the state stays.

    Args:
        tx: where.
        rows: whole, as they are to be.
        moved: whether any of them may be on another node than before: SQLite writes the entry of an index anew
            for each row whose column is named, even if its value stays.
    """
    if moved:
        _save(tx, _SAVE_STATE, _STATE_COLUMNS, rows)
    else:
        _save(tx, _SAVE_STAY, _STAY_COLUMNS, rows)


def save_details(tx: Tx, rows: Sequence[InstanceRow]) -> None:
    """Write type and document back."""
    _save(tx, _SAVE_DETAILS, _DETAIL_COLUMNS, rows)


def save_described(tx: Tx, rows: Sequence[InstanceRow]) -> None:
    """Write the wish back that comes with another description, and the description."""
    save_state(tx, rows, moved=False)
    save_details(tx, rows)


def bare(tx: Tx, ids: Sequence[str]) -> None:
    """Take an ended instance out of its network."""
    if ids:
        tx.execute(_BARE, [{"at_id": each} for each in ids])


def touch(tx: Tx, account: str, ids: Sequence[str]) -> None:
    """Something that is shown with these instances changed (a tag): what was rendered is stale."""
    if ids:
        tx.execute(_TOUCH, {"account_id": account, "ids": ids})


def unsettled(tx: Tx, zone: str, after: str = "", limit: int = 1000) -> list[str]:
    """Instances of a zone whose facts do not yet agree with the wish, by id."""
    return list(tx.execute(_UNSETTLED, {"zone": zone, "after": after, "limit": limit}).scalars())


def living(tx: Tx, zone: str, after: str = "", limit: int = 1000) -> list[str]:
    """Instances of a zone that have not ended, by id."""
    return list(tx.execute(_LIVING, {"zone": zone, "after": after, "limit": limit}).scalars())


def on_host(tx: Tx, host_id: str) -> list[str]:
    """Whoever's instances are on a node, stopped ones included, by id."""
    return list(tx.execute(_ON_HOST, {"host_id": host_id}).scalars())


def unsettle(tx: Tx, ids: Sequence[str]) -> None:
    """Have the wish told again."""
    if ids:
        tx.execute(_UNSETTLE, {"ids": ids})


def over_before(tx: Tx, before_ms: int, limit: int = 500) -> list[tuple[str, str]]:
    """(id, account) of instances that ended before then, oldest first."""
    return [(row.id, row.account_id) for row in tx.execute(_OVER, {"before_ms": before_ms, "limit": limit})]


def forget(tx: Tx, ids: Sequence[str]) -> None:
    """Remove instances and their user data."""
    if ids:
        tx.execute(_FORGET, {"ids": ids})
        tx.execute(_FORGET_USER_DATA, {"ids": ids})


def count_living(tx: Tx, account: str) -> int:
    """How many of an account's instances have not ended."""
    count: int = tx.execute(_COUNT, {"account_id": account}).scalar_one()
    return count


def keep_user_data(tx: Tx, ids: Sequence[str], data: bytes) -> None:
    """User data as its bytes, the same for all of these."""
    tx.execute(_FORGET_USER_DATA, {"ids": ids})
    if data:
        tx.execute(_INSERT_USER_DATA, [{"instance_id": each, "data": data} for each in ids])


def user_data_of(tx: Tx, ids: Sequence[str]) -> dict[str, bytes]:
    """User data by instance; those without have no entry."""
    if not ids:
        return {}
    return {row.instance_id: row.data for row in tx.execute(_USER_DATA, {"ids": ids})}


def _rows(tx: Tx, statement: Any, parameters: dict[str, Any]) -> list[InstanceRow]:
    if not parameters["ids"]:
        return []
    return [InstanceRow._make(row) for row in tx.execute(statement, parameters)]


def _save(tx: Tx, statement: Any, columns: tuple[str, ...], rows: Sequence[InstanceRow]) -> None:
    if rows:
        keys = [(f"to_{name}", name) for name in columns]
        tx.execute(
            statement, [{"at_id": row.id, **{to: getattr(row, name) for to, name in keys}} for row in rows]
        )
