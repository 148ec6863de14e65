"""Node ids: a zone counts its nodes for itself, users see one id for one node of the cloud.

`h-3` of the zone `mallee-1a` is `h-mallee-1a-3` to everybody outside. Messages are changed in place,
on their way in and out of a zone's client and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

from mallee.rpc import cluster_pb2 as pb

_PREFIX = "h-"
NOWHERE = "h-none"  # no zone has such a node: its answer says so


def public(zone: str, local: str) -> str:
    """The id that users see; nothing stays nothing."""
    return f"{_PREFIX}{zone}-{local.removeprefix(_PREFIX)}" if local else ""


def zone_of(host_id: str) -> str:
    """The zone that an id names; empty if it names none."""
    return host_id.removeprefix(_PREFIX).rpartition("-")[0]


def local(zone: str, host_id: str) -> str:
    """The zone's own id of a node; `NOWHERE` for one of another zone, nothing for nothing."""
    if not host_id:
        return ""
    if zone_of(host_id) != zone:
        return NOWHERE
    return _PREFIX + host_id.rpartition("-")[2]


def locals_of(zone: str, host_ids: Iterable[str]) -> list[str]:
    """The zone's own ids of those that are its nodes."""
    return [local(zone, each) for each in host_ids if zone_of(each) == zone]


def publish_node(zone: str, node: pb.Node) -> pb.Node:
    node.host_id = public(zone, node.host_id)
    return node


def publish_migration(zone: str, moved: pb.Migration) -> pb.Migration:
    moved.source_host_id = public(zone, moved.source_host_id)
    moved.destination_host_id = public(zone, moved.destination_host_id)
    return moved


def publish_answer(zone: str, answer: pb.MigrateResponse) -> pb.MigrateResponse:
    """A migration as it begins, its refusals and candidates."""
    if answer.HasField("migration"):
        publish_migration(zone, answer.migration)
    for refusal in answer.refusals:
        refusal.host_id = public(zone, refusal.host_id)
    answer.candidate_host_ids[:] = [public(zone, each) for each in answer.candidate_host_ids]
    return answer
