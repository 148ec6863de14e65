"""Reservations of rendered instances: how instances leave the CLC, from whatever action.

A page is a query for heads and a join of texts; what was never rendered in that version is looked
up and written once. An instance that is alone in its page's reservation is kept with the reservation
around it, which is nearly every one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mallee.aws.protocol import Fragment
from mallee.clc.api.ec2 import instance_view
from mallee.clc.api.ec2.instance_view import Seen
from mallee.clc.call import Call
from mallee.clc.db import instance_search, instances
from mallee.clc.db.instance_search import Head, Search
from mallee.kernel.db import Tx

_WHOLE = "+"  # behind an id: the instance with its reservation around it
ALL = 1 << 31

Reservation = Fragment | dict[str, Any]


def launched(call: Call, reservation_id: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """RunInstances' answer from what was just written."""
    fragments = [_render(call, each) for each in seen]
    for each, fragment in zip(seen, fragments, strict=True):
        call.cloud.rendered.put(each.row.id, each.row.version, fragment)
    return _reservation(call, reservation_id, fragments)


async def described(call: Call, reservation_id: str) -> dict[str, Any]:
    """An earlier reservation as it is now; without instances once they are forgotten."""
    search = Search(columns={"reservation_id": [reservation_id]})

    def look(tx: Tx) -> list[Seen]:
        heads = instance_search.page(tx, call.account, search, "", ALL)
        rows = instances.mine(tx, call.account, [head.id for head in heads])
        return instance_view.look(tx, call.account, rows)

    seen = await call.cloud.db.read(look)
    seen.sort(key=lambda each: each.details.launch_index)
    return _reservation(call, reservation_id, [_render(call, each) for each in seen])


def collect(tx: Tx, call: Call, heads: Sequence[Head]) -> list[Reservation]:
    """The reservations of these heads, in the order in which they first appear."""
    groups: dict[str, list[Head]] = {}
    for head in heads:
        groups.setdefault(head.reservation_id, []).append(head)
    missing = [
        head.id
        for group in groups.values()
        for head in group
        if call.cloud.rendered.get(_key(head, group), head.version) is None
    ]
    fresh = {seen.row.id: seen for seen in _look(tx, call, missing)}
    return [
        _alone(call, group[0], fresh) if len(group) == 1 else _together(call, group, fresh)
        for group in groups.values()
    ]


def _look(tx: Tx, call: Call, ids: Sequence[str]) -> list[Seen]:
    return instance_view.look(tx, call.account, instances.find(tx, ids)) if ids else []


def _key(head: Head, group: Sequence[Head]) -> str:
    return head.id + _WHOLE if len(group) == 1 else head.id


def _alone(call: Call, head: Head, fresh: Mapping[str, Seen]) -> Fragment:
    rendered = call.cloud.rendered
    kept = rendered.get(head.id + _WHOLE, head.version)
    if kept is None:
        whole = _reservation(call, head.reservation_id, [_render(call, fresh[head.id])])
        kept = call.cloud.wire.fragment("DescribeInstances", "Reservations", whole)
        rendered.put(head.id + _WHOLE, head.version, kept)
    return kept


def _together(call: Call, group: Sequence[Head], fresh: Mapping[str, Seen]) -> dict[str, Any]:
    fragments = []
    for head in group:
        kept = call.cloud.rendered.get(head.id, head.version)
        if kept is None:
            kept = _render(call, fresh[head.id])
            call.cloud.rendered.put(head.id, head.version, kept)
        fragments.append(kept)
    return _reservation(call, group[0].reservation_id, fragments)


def _render(call: Call, seen: Seen) -> Fragment:
    shown = instance_view.instance(call, seen)
    return call.cloud.wire.fragment("DescribeInstances", "Reservations.Instances", shown)


def _reservation(call: Call, reservation_id: str, fragments: Sequence[Fragment]) -> dict[str, Any]:
    """Groups are those of EC2-Classic, which nobody has any more."""
    return {
        "ReservationId": reservation_id,
        "OwnerId": call.account,
        "Groups": [],
        "Instances": list(fragments),
    }
