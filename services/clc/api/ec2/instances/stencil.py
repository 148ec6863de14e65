"""Instances of a launch differ only in names, addresses and times: their text is written once and filled in.

A stencil is the text of an instance whose own values are marks. It is kept for everything else that the
instance is, so whatever a view shows is either filled in or what the stencil was made for. A stencil that
does not give, for other marks, what the view gives for them (because a user's text looks like a mark) is
not used.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import msgspec

from mallee.aws.protocol import Fragment, scalars
from mallee.clc.api.ec2.instances import view
from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import network
from mallee.clc.db.instances import Details, InstanceRow
from mallee.clc.db.interfaces import Interface


class _Own(NamedTuple):
    """What one instance has for itself."""

    id: str
    reservation_id: str
    host_id: str
    generation: int
    address: int
    hostname: str
    launch_index: int
    size: int
    client_token: str
    nic_id: str
    mac: str
    attachment_id: str
    at_ms: int


def _but(fields: tuple[str, ...], *own: str) -> attrgetter[Hashable]:
    """Everything else of a record, fields that are added one day included."""
    return attrgetter(*(name for name in fields if name not in own))


_of_row = _but(
    InstanceRow._fields,
    *(
        "id",
        "reservation_id",
        "host_id",
        "generation",
        "private_address",
        "changed_ms",
        "launched_ms",
        "details",
    ),
)
_of_details = _but(Details.__struct_fields__, "hostname", "launch_index", "size", "client_token")
_of_nic = _but(Interface._fields, "id", "address", "mac", "instance_id", "attachment_id", "attached_ms")


def _marks(word: str, digit: int) -> _Own:
    texts = {name: f"{word}-{name}" for name in _Own._fields}
    numbers = {"generation": 85_108_736_420 + digit, "launch_index": 73_024_186_550 + digit}
    numbers |= {"size": 94_460_217_830 + digit, "address": 0xF0A1B200 + digit, "at_ms": 86_399_120 + digit}
    return _Own(**texts | numbers)  # type: ignore[arg-type] # by name, the right ones of both


_MARKS, _OTHER_MARKS = _marks("stencil", 1), _marks("pattern", 2)


def render(call: Call, seen: Seen) -> Fragment:
    """An instance that was just launched, as `view.render` writes it."""
    own = _own(seen)
    if own is None:
        return view.render(call, seen)
    kind = _kind(call, seen)
    text = call.cloud.stencils.get(kind)
    if text is None:
        text = _cut(call, seen)
        call.cloud.stencils.put(kind, text)
    return Fragment((text % _texts(own)).encode()) if text else view.render(call, seen)


def _own(seen: Seen) -> _Own | None:
    """None of an instance that is not as a launch makes them."""
    row, details = seen.row, seen.details
    if len(seen.wired) != 1 or row.changed_ms != row.launched_ms or not row.host_id:
        return None
    nic = seen.wired[0].nic
    if nic.attached_ms != row.launched_ms or row.private_address != network.text(nic.address):
        return None
    return _Own(
        row.id,
        row.reservation_id,
        row.host_id,
        row.generation,
        nic.address,
        details.hostname,
        details.launch_index,
        details.size,
        details.client_token,
        nic.id,
        nic.mac,
        nic.attachment_id,
        row.launched_ms,
    )


def _kind(call: Call, seen: Seen) -> Hashable:
    """Everything that an instance is but for its own values."""
    wired = seen.wired[0]
    tagged = tuple(seen.tags.items()), tuple(wired.tags.items())
    records = _of_row(seen.row), _of_details(seen.details), _of_nic(wired.nic)
    return records, tuple(wired.groups), tagged, call.is_cloud_admin


def _with(seen: Seen, own: _Own) -> Seen:
    """The same instance with other values of its own."""
    wired = seen.wired[0]
    nic = wired.nic._replace(
        id=own.nic_id,
        address=own.address,
        mac=own.mac,
        instance_id=own.id,
        attachment_id=own.attachment_id,
        attached_ms=own.at_ms,
    )
    row = seen.row._replace(
        id=own.id,
        reservation_id=own.reservation_id,
        host_id=own.host_id,
        generation=own.generation,
        private_address=network.text(own.address),
        changed_ms=own.at_ms,
        launched_ms=own.at_ms,
    )
    details = msgspec.structs.replace(
        seen.details,
        hostname=own.hostname,
        launch_index=own.launch_index,
        size=own.size,
        client_token=own.client_token,
    )
    return Seen(row, details, [wired._replace(nic=nic)], seen.tags)


def _texts(own: _Own) -> Mapping[str, str]:
    """As they stand in XML, by the names of `_Own`; an address also as names have it."""
    dotted = network.text(own.address)
    return {
        "id": own.id,
        "reservation_id": own.reservation_id,
        "host_id": _safe(own.host_id),
        "generation": str(own.generation),
        "address": dotted,
        "dashed": dotted.replace(".", "-"),
        "hostname": _safe(own.hostname),
        "launch_index": str(own.launch_index),
        "size": str(own.size),
        "client_token": _safe(own.client_token),
        "nic_id": own.nic_id,
        "mac": own.mac,
        "attachment_id": own.attachment_id,
        "at_ms": _time(own.at_ms),
    }


@lru_cache(16)
def _time(at_ms: int) -> str:
    return scalars.milliseconds(moment(at_ms))


def _safe(text: str) -> str:
    return text if scalars.unsafe(text) is None else scalars.escape(text)


def _cut(call: Call, seen: Seen) -> str:
    """The stencil for this kind of instance, in the notation of `%`; empty if there can be none."""
    names = {text: name for name, text in _texts(_MARKS).items()}
    found = re.compile("|".join(re.escape(text) for text in sorted(names, key=len, reverse=True)))
    text = view.render(call, _with(seen, _MARKS)).decode().replace("%", "%%")
    stencil = found.sub(lambda mark: f"%({names[mark[0]]})s", text)
    proof = view.render(call, _with(seen, _OTHER_MARKS))
    return stencil if (stencil % _texts(_OTHER_MARKS)).encode() == proof else ""
