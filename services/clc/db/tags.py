"""Tags of every resource: one row a key, found by resource and by value.

Source: "Tag your Amazon EC2 resources". Keys and values are compared by case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Index, String, Table, bindparam, delete, func, insert, select, tuple_

from mallee.clc.db import instances
from mallee.clc.db.metadata import metadata
from mallee.clc.errors import TagLimitExceeded
from mallee.kernel.db import Prepared, Tx

TAGS_PER_RESOURCE = 50

tags = Table(
    "tags",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("resource_id", String(64), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
    Column("resource_type", String(64), nullable=False),
    Index("ix_tags_value", "account_id", "key", "value", "resource_id"),
)


class Tag(NamedTuple):
    """One tag of one resource."""

    account_id: str
    resource_id: str
    key: str
    value: str
    resource_type: str


_OF = Prepared(
    select(tags.c.resource_id, tags.c.key, tags.c.value)
    .where(
        tags.c.account_id == bindparam("account"),
        tags.c.resource_id.in_(bindparam("ids", expanding=True)),
    )
    .order_by(tags.c.resource_id, tags.c.key)
)
_ROWS_OF = Prepared(
    select(tags)
    .where(
        tags.c.account_id == bindparam("account"),
        tags.c.resource_id.in_(bindparam("ids", expanding=True)),
    )
    .order_by(tags.c.resource_id, tags.c.key)
)
_OF_ONE = Prepared(
    select(tags.c.key, tags.c.value).where(
        tags.c.account_id == bindparam("account"), tags.c.resource_id == bindparam("id")
    )
)
_INSERT = Prepared(insert(tags))
_COUNT = Prepared(
    select(func.count()).where(
        tags.c.account_id == bindparam("account"),
        tags.c.resource_id == bindparam("id"),
        ~tags.c.key.startswith("aws:"),
    )
)
_DROP = Prepared(
    delete(tags).where(
        tags.c.account_id == bindparam("account"), tags.c.resource_id.in_(bindparam("ids", expanding=True))
    )
)
_DROP_ACCOUNT = Prepared(delete(tags).where(tags.c.account_id == bindparam("account")))
_REMOVE_KEYS = Prepared(
    delete(tags).where(
        tags.c.account_id == bindparam("account"),
        tags.c.resource_id == bindparam("id"),
        tags.c.key.in_(bindparam("keys", expanding=True)),
    )
)
_REMOVE_PAIR = Prepared(
    delete(tags).where(
        tags.c.account_id == bindparam("account"),
        tags.c.resource_id == bindparam("id"),
        tags.c.key == bindparam("b_key"),
        tags.c.value == bindparam("b_value"),
    )
)
_PAGE = Prepared(
    select(tags)
    .where(
        tags.c.account_id == bindparam("account"),
        tuple_(tags.c.resource_id, tags.c.key) > tuple_(bindparam("after_id"), bindparam("after_key")),
    )
    .order_by(tags.c.resource_id, tags.c.key)
    .limit(bindparam("size"))
)


def put(tx: Tx, account: str, resource_id: str, resource_type: str, wanted: Mapping[str, str]) -> None:
    """Add tags to one resource; a key that it has gets the new value.

    Raises:
        TagLimitExceeded: it would have more than 50.
    """
    if not wanted:
        return
    tx.execute(_REMOVE_KEYS, {"account": account, "id": resource_id, "keys": list(wanted)})
    attach(tx, account, resource_type, (resource_id,), wanted)
    count = tx.execute(_COUNT, {"account": account, "id": resource_id}).scalar_one()
    if count > TAGS_PER_RESOURCE:
        raise TagLimitExceeded(
            f"The maximum number of Tags for a resource ({TAGS_PER_RESOURCE}) was reached."
        )
    touched(tx, account, (resource_id,))


def attach(tx: Tx, account: str, resource_type: str, ids: Iterable[str], wanted: Mapping[str, str]) -> None:
    """Give new resources their first tags, in one statement; the caller has checked the limits."""
    rows = [
        {
            "account_id": account,
            "resource_id": resource_id,
            "resource_type": resource_type,
            "key": key,
            "value": value,
        }
        for resource_id in ids
        for key, value in wanted.items()
    ]
    if rows:
        tx.execute(_INSERT, rows)


def of(tx: Tx, account: str, ids: Collection[str]) -> dict[str, dict[str, str]]:
    """The tags of each resource that has any."""
    found: dict[str, dict[str, str]] = {}
    if ids:
        for row in tx.execute(_OF, {"account": account, "ids": list(ids)}):
            found.setdefault(row.resource_id, {})[row.key] = row.value
    return found


def rows_of(tx: Tx, account: str, ids: Collection[str]) -> list[Tag]:
    """The tags of these resources, by resource and key."""
    return [Tag(*row) for row in tx.execute(_ROWS_OF, {"account": account, "ids": list(ids)})]


def remove(tx: Tx, account: str, resource_id: str, keys: Mapping[str, str | None]) -> None:
    """Take tags off one resource; with a value, only while the tag has that value."""
    for key, value in keys.items():
        pair = {"account": account, "id": resource_id}
        if value is None:
            tx.execute(_REMOVE_KEYS, {**pair, "keys": [key]})
        else:
            tx.execute(_REMOVE_PAIR, {**pair, "b_key": key, "b_value": value})
    touched(tx, account, (resource_id,))


def remove_all(tx: Tx, account: str, resource_id: str) -> None:
    """Take every tag of the user's own off a resource; `aws:` ones stay."""
    own = tx.execute(_OF_ONE, {"account": account, "id": resource_id}).all()
    remove(tx, account, resource_id, {row.key: None for row in own if not row.key.startswith("aws:")})


def drop(tx: Tx, account: str, ids: Collection[str]) -> None:
    """Forget the tags of resources that are no more."""
    if ids:
        tx.execute(_DROP, {"account": account, "ids": list(ids)})


def drop_account(tx: Tx, account: str) -> None:
    """Forget the tags of an account that is no more."""
    tx.execute(_DROP_ACCOUNT, {"account": account})


def page(tx: Tx, account: str, after: tuple[str, str] = ("", ""), size: int = 1000) -> Sequence[Tag]:
    """An account's tags in the order of resource and key, from behind `after`."""
    rows = tx.execute(_PAGE, {"account": account, "after_id": after[0], "after_key": after[1], "size": size})
    return [Tag(*row) for row in rows]


def touched(tx: Tx, account: str, ids: Collection[str]) -> None:
    """Raise the versions of what is rendered with its tags and kept rendered."""
    shown = [resource_id for resource_id in ids if resource_id.startswith("i-")]
    if shown:
        instances.touch(tx, account, shown)
