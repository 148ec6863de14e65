"""Reservations of rendered instances: how instances leave the CLC, from whatever action.

A page is a query for heads and a join of texts; what was never rendered in that version is looked
up and written once. An instance that is alone in its page's reservation is kept with the reservation
around it, which is nearly every one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mallee.aws.protocol import Fragment
from mallee.clc.api.ec2.instances import stencil, view
from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.call import Call
from mallee.clc.db import instance_search, instances
from mallee.clc.db.instance_search import Head, Search
from mallee.kernel.db import Tx

_WHOLE = "+"  # behind an id: the instance with its reservation around it
ALL = 1 << 31

Reservation = Fragment | dict[str, Any]


def launched(call: Call, reservation_id: str, seen: Sequence[Seen]) -> dict[str, Any]:
    """RunInstances' answer from what was just written."""
    fragments = [stencil.render(call, each) for each in seen]
    for each, fragment in zip(seen, fragments, strict=True):
        call.cloud.rendered.put(each.row.id, each.row.version, fragment)
    return _reservation(call, reservation_id, fragments)


async def described(call: Call, reservation_id: str) -> dict[str, Any]:
    """An earlier reservation as it is now; without instances once they are forgotten."""
    search = Search(columns={"reservation_id": [reservation_id]})

    def look(tx: Tx) -> list[Seen]:
        heads = instance_search.page(tx, call.account, search, "", ALL)
        rows = instances.mine(tx, call.account, [head.id for head in heads])
        return view.look(tx, call.account, rows)

    seen = await call.cloud.db.read(look)
    seen.sort(key=lambda each: each.details.launch_index)
    return _reservation(call, reservation_id, [view.render(call, each) for each in seen])


def collect(tx: Tx, call: Call, heads: Sequence[Head]) -> list[Reservation]:
    """The reservations of these heads, in the order in which they first appear."""
    groups: dict[str, list[Head]] = {}
    for head in heads:
        groups.setdefault(head.reservation_id, []).append(head)
    wanted = {
        head.id if len(group) > 1 else head.id + _WHOLE: head.version
        for group in groups.values()
        for head in group
    }
    texts = call.cloud.rendered.get_all(wanted)
    if len(texts) < len(wanted):
        _render_rest(tx, call, wanted, texts)
    return [
        texts[group[0].id + _WHOLE]
        if len(group) == 1
        else _reservation(call, reservation_id, [texts[head.id] for head in group])
        for reservation_id, group in groups.items()
    ]


def _render_rest(tx: Tx, call: Call, wanted: Mapping[str, int], texts: dict[str, Fragment]) -> None:
    """Add to `texts` what nobody has asked for in that version before."""
    missing = {key.removesuffix(_WHOLE): key for key in wanted if key not in texts}
    for seen in view.look(tx, call.account, instances.find(tx, list(missing))):
        key, text = missing[seen.row.id], view.render(call, seen)
        if key.endswith(_WHOLE):
            whole = _reservation(call, seen.row.reservation_id, [text])
            text = call.cloud.wire.fragment("DescribeInstances", "Reservations", whole)
        texts[key] = text
        call.cloud.rendered.put(key, wanted[key], text)


def _reservation(call: Call, reservation_id: str, fragments: Sequence[Fragment]) -> dict[str, Any]:
    """Groups are those of EC2-Classic, which nobody has any more."""
    return {
        "ReservationId": reservation_id,
        "OwnerId": call.account,
        "Groups": [],
        "Instances": list(fragments),
    }
