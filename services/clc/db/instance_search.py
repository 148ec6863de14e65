"""Finding instances: pages of heads, by indexes.

A head is what a page needs to find the rendered text: id, version, reservation. The condition that
promises fewest hits leads and is walked in the order of ids, one value at a time; the others are
checked on the rows it leads to. Statements are built once for each set of conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, exists, select

from mallee.clc.db.instances import instances
from mallee.clc.db.tags import tags
from mallee.kernel.db import Prepared, Tx

_I = instances.c

# Best leader first: how few instances usually share one value.
COLUMNS = {
    "id": _I.id,
    "private_address": _I.private_address,
    "reservation_id": _I.reservation_id,
    "host_id": _I.host_id,
    "image_id": _I.image_id,
    "instance_type": _I.instance_type,
    "subnet_id": _I.subnet_id,
    "zone": _I.zone,
    "state": _I.state,
}
CHECKED = {"vpc_id": _I.vpc_id, "key_name": _I.key_name, **COLUMNS}


class Head(NamedTuple):
    """Which text to show: the names of a row that a search finds."""

    id: str
    version: int
    reservation_id: str


class Search(NamedTuple):
    """Conditions that must all hold; each allows several values.

    Attributes:
        columns: by a name of `CHECKED`.
        tagged: by tag key.
        tag_keys: each a set of keys of which the instance has one.
    """

    columns: Mapping[str, Sequence[Any]] = {}
    tagged: Mapping[str, Sequence[str]] = {}
    tag_keys: Sequence[Sequence[str]] = ()


def page(tx: Tx, account: str, search: Search, after: str, limit: int) -> list[Head]:
    """The first `limit` hits behind `after`, by id."""
    leader, values = _leader(search)
    checked = tuple(sorted(name for name in search.columns if name != leader))
    tag_keys = sorted(search.tagged)
    if leader == "tag":
        led_by, tag_keys = tag_keys[0], tag_keys[1:]
    statement = _statement(leader, checked, len(tag_keys), len(search.tag_keys))
    parameters: dict[str, Any] = {"account": account, "after": after, "limit": limit}
    parameters |= {f"in_{name}": list(search.columns[name]) for name in checked}
    for number, key in enumerate(tag_keys):
        parameters |= {f"key_{number}": key, f"values_{number}": list(search.tagged[key])}
    parameters |= {f"keys_{number}": list(keys) for number, keys in enumerate(search.tag_keys)}
    if leader == "tag":
        parameters["lead_key"] = led_by
    found: list[list[Head]] = [
        tx.execute(statement, {**parameters, "lead": value}) for value in dict.fromkeys(values)
    ]
    return found[0] if len(found) == 1 else list(islice(merge(*found), limit))


def heads(tx: Tx, account: str, ids: Sequence[str]) -> dict[str, Head]:
    """By id, those of `ids` that the account has."""
    return {row.id: row for row in tx.execute(_HEADS, {"account": account, "ids": list(ids)})}


_HEADS = Prepared(
    select(_I.id, _I.version, _I.reservation_id).where(
        _I.account_id == bindparam("account"), _I.id.in_(bindparam("ids", expanding=True))
    )
)


def _leader(search: Search) -> tuple[str, Sequence[Any]]:
    for name in ("id", "private_address", "reservation_id"):
        if name in search.columns:
            return name, search.columns[name]
    if search.tagged:
        return "tag", search.tagged[min(search.tagged)]
    for name in COLUMNS:
        if name in search.columns:
            return name, search.columns[name]
    return "", (None,)


@lru_cache(maxsize=256)
def _statement(leader: str, checked: tuple[str, ...], tagged: int, tag_keys: int) -> Prepared:
    """Clients use a few dozen sets of filters; whoever asks for all that there are shall not fill the memory."""
    wanted: list[ColumnElement[bool]] = [
        CHECKED[name].in_(bindparam(f"in_{name}", expanding=True)) for name in checked
    ]
    wanted += [
        _has(tags.c.key == bindparam(f"key_{n}"), tags.c.value.in_(bindparam(f"values_{n}", expanding=True)))
        for n in range(tagged)
    ]
    wanted += [_has(tags.c.key.in_(bindparam(f"keys_{n}", expanding=True))) for n in range(tag_keys)]
    found = select(_I.id, _I.version, _I.reservation_id)
    if leader == "tag":
        found = found.join(tags, tags.c.resource_id == _I.id).where(
            tags.c.account_id == bindparam("account"),
            tags.c.key == bindparam("lead_key"),
            tags.c.value == bindparam("lead"),
            tags.c.resource_id > bindparam("after"),
        )
        order: Any = tags.c.resource_id
    else:
        found = found.where(_I.account_id == bindparam("account"), _I.id > bindparam("after"))
        order = _I.id
        if leader:
            lead: ColumnElement[Any] = bindparam("lead", type_=COLUMNS[leader].type)
            if leader == "state":
                # Beside a partial index of `state = 48`, SQLite plans anew for each value of a bare parameter.
                lead = lead + 0
            found = found.where(COLUMNS[leader] == lead)
    return Prepared(found.where(*wanted).order_by(order).limit(bindparam("limit")))


def _has(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """The row's instance has such a tag; `tags` may lead the same query, so this one is an alias."""
    return exists(
        select(1).where(
            and_(tags.c.account_id == bindparam("account"), tags.c.resource_id == _I.id, *conditions)
        )
    ).correlate(instances)
