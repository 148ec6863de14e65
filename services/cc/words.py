"""Messages into the domain's words and back; nothing behind this file knows protobuf."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from mallee.cc.convergence import GuestFact, Order, Wish
from mallee.cc.db.nodes import NodeRow
from mallee.cc.db.placements import Placement
from mallee.cc.migration.record import Asked, Migration
from mallee.cc.nodes import Hello
from mallee.cc.placing import Ask, Outcome, host_number
from mallee.cc.scheduler.inventory import Host
from mallee.cc.watch import Fact, News, Zone
from mallee.domain.audit import Finding
from mallee.domain.guards import Guarded, GuardRule, Guards
from mallee.domain.guest import Cause, Moment, Phase, Power, Resources
from mallee.domain.migration import Limits
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import attendance_pb2, cluster_pb2, common_pb2

_POWER: dict[Power, common_pb2.Power] = {power: getattr(common_pb2, f"POWER_{power.name}") for power in Power}
_PHASE: dict[Phase, common_pb2.Phase] = {phase: getattr(common_pb2, f"PHASE_{phase.name}") for phase in Phase}
_POWER_OF = {number: power for power, number in _POWER.items()}
_PHASE_OF = {number: phase for phase, number in _PHASE.items()}


def cause_message(cause: Cause | None) -> common_pb2.Cause | None:
    return None if cause is None else common_pb2.Cause(code=cause.code, message=cause.message)


def resources_message(resources: Resources) -> common_pb2.Resources:
    return common_pb2.Resources(vcpus=max(0, resources.vcpus), memory_mib=max(0, resources.memory_mib))


def resources_of(message: common_pb2.Resources) -> Resources:
    return Resources(message.vcpus, message.memory_mib)


def moment_messages(moments: tuple[Moment, ...] | list[Moment]) -> list[common_pb2.Moment]:
    return [common_pb2.Moment(name=moment.name, at_ms=moment.at_ms) for moment in moments]


# With nodes


def guest_fact(message: attendance_pb2.GuestFact) -> GuestFact:
    return GuestFact(
        message.instance_id,
        message.generation,
        message.revision,
        _PHASE_OF.get(message.phase, Phase.FAILED),
        resources_of(message.resources),
        Cause(message.cause.code, message.cause.message) if message.HasField("cause") else None,
        tuple(Moment(moment.name, moment.at_ms) for moment in message.moments),
        message.reboots,
        message.description,
    )


def hello(message: attendance_pb2.Hello, speaker: str) -> Hello:
    return Hello(
        message.node,
        message.boot_id,
        message.address,
        message.hypervisor,
        message.cpu_model,
        resources_of(message.capacity),
        [guest_fact(fact) for fact in message.inventory],
        message.inventory_follows,
        speaker,
        message.guards,
    )


def guards_of(message: common_pb2.Guards) -> Guards:
    return Guards(
        {
            group.group_id: tuple(
                GuardRule(
                    rule.egress, rule.protocol, rule.from_port, rule.to_port, rule.cidr, rule.peer_group_id
                )
                for rule in group.rules
            )
            for group in message.groups
        },
        tuple(
            Guarded(guest.instance_id, guest.mac_address, guest.address, tuple(guest.group_ids))
            for guest in message.guests
        ),
    )


def guards_message(guards: Guards) -> common_pb2.Guards:
    return common_pb2.Guards(
        groups=[
            common_pb2.GuardGroup(
                group_id=name,
                rules=[
                    common_pb2.GuardRule(
                        egress=rule.egress,
                        protocol=rule.protocol,
                        from_port=rule.from_port,
                        to_port=rule.to_port,
                        cidr=rule.cidr,
                        peer_group_id=rule.peer_group,
                    )
                    for rule in rules
                ],
            )
            for name, rules in guards.groups.items()
        ],
        guests=[
            common_pb2.GuardedGuest(
                instance_id=each.instance_id,
                mac_address=each.mac,
                address=each.address,
                group_ids=each.groups,
            )
            for each in guards.guests
        ],
        hosts=guards.hosts,
    )


def order_message(order: Order) -> attendance_pb2.GuestOrder:
    return attendance_pb2.GuestOrder(
        instance_id=order.instance_id,
        generation=order.generation,
        revision=order.revision,
        power=_POWER[order.power],
        force=order.force,
        reboots=order.reboots,
        guest=order.guest,
    )


# With the CLC


def ask(message: cluster_pb2.Ask) -> Ask:
    return Ask(
        message.group_id,
        message.min_count,
        message.instance_ids,
        resources_of(message.resources),
        message.host_id,
        message.cpu_model,
        message.near_instance_ids,
        message.apart_instance_ids,
    )


def outcome_message(outcome: Outcome) -> cluster_pb2.Outcome:
    return cluster_pb2.Outcome(
        group_id=outcome.group_id,
        placements=[
            cluster_pb2.Placement(instance_id=p.instance_id, host_id=p.host_id, generation=p.generation)
            for p in outcome.placed
        ],
        refusal=cause_message(outcome.refusal),
    )


def stays(guest: bytes) -> bool:
    """Whether this guest is not started elsewhere when its node is lost."""
    return bool(common_pb2.Guest.FromString(guest).stays)


def description(guest: bytes) -> int:
    """Which description of its guest this is; 0 for bytes that are none, which the node will tell."""
    try:
        return int(common_pb2.Guest.FromString(guest).description)
    except DecodeError:
        return 0


def has_root_disk(guest: bytes) -> bool:
    """Whether this guest has a disk of its own, which is on the node where it ran last."""
    try:
        read = common_pb2.Guest.FromString(guest)
    except DecodeError:
        return False  # its node will say so; no disk was ever made of it
    return bool(read.HasField("image") and read.image.HasField("root"))


def wish(message: cluster_pb2.DesiredInstance) -> Wish:
    """What the CLC wants.

    Raises:
        Fault: INVALID, when it names no power or no instance.
    """
    power = _POWER_OF.get(message.power)
    if power is None or not message.instance_id:
        raise Fault(
            Kind.INVALID, "A wish without an instance or a power cannot be taken over.", code="bad-wish"
        )
    return Wish(
        message.instance_id,
        message.revision,
        power,
        message.force,
        message.reboots,
        resources_of(message.resources),
        message.guest,
        message.host_id,
        message.generation,
    )


def fact_message(fact: Fact) -> cluster_pb2.InstanceFact:
    return cluster_pb2.InstanceFact(
        instance_id=fact.instance_id,
        revision=fact.revision,
        generation=fact.generation,
        host_id=fact.host_id,
        phase=_PHASE[fact.phase],
        reachable=fact.reachable,
        cause=cause_message(fact.cause),
        moments=moment_messages(fact.moments),
        reboots=fact.reboots,
        migration_id=fact.migration_id,
        description=fact.description,
    )


def audited(fact: Fact) -> cluster_pb2.AuditedInstance:
    return cluster_pb2.AuditedInstance(
        instance_id=fact.instance_id,
        revision=fact.revision,
        generation=fact.generation,
        host_id=fact.host_id,
        phase=_PHASE[fact.phase],
        reachable=fact.reachable,
        migration_id=fact.migration_id,
    )


def violation(found: Finding) -> cluster_pb2.Violation:
    return cluster_pb2.Violation(
        invariant=found.invariant, subject=found.subject, what=found.what, why=found.why, fix=found.fix
    )


def zone_message(name: str, zone: Zone | None) -> cluster_pb2.ZoneFact | None:
    if zone is None:
        return None
    return cluster_pb2.ZoneFact(
        zone=name,
        nodes=zone.nodes,
        nodes_ready=zone.nodes_ready,
        capacity=resources_message(zone.capacity),
        free=resources_message(zone.free),
        guards=zone.guards,
    )


def news_message(zone: str, epoch: str, sequence: int, news: News) -> cluster_pb2.WatchResponse:
    return cluster_pb2.WatchResponse(
        epoch=epoch,
        sequence=sequence,
        snapshot=news.snapshot,
        snapshot_end=news.snapshot_end,
        facts=[fact_message(fact) for fact in news.facts],
        zone=zone_message(zone, news.zone),
    )


def node_message(
    row: NodeRow, host: Host, state: str, guests: list[tuple[Placement, str]]
) -> cluster_pb2.Node:
    """A node; `guests` are its placements with the phase each is in."""
    return cluster_pb2.Node(
        host_id=row.host_id,
        name=row.name,
        zone=row.zone,
        state=state,
        hypervisor=row.hypervisor,
        cpu_model=row.cpu_model,
        capacity=resources_message(host.capacity),
        free=resources_message(host.free),
        joined_ms=row.joined_ms,
        address=row.address,
        instances=[
            cluster_pb2.HostedInstance(
                instance_id=guest.instance_id,
                generation=guest.generation,
                resources=resources_message(guest.resources),
                phase=phase,
            )
            for guest, phase in guests
        ],
    )


def asked(message: cluster_pb2.MigrateRequest, defaults: Limits) -> Asked:
    limits = message.limits
    return Asked(
        message.migration_id,
        message.instance_id,
        message.mode or "live",
        tuple(dict.fromkeys(host_number(host_id) for host_id in message.destination_host_ids)),
        tuple(host_number(host_id) for host_id in message.excluded_host_ids),
        Limits(
            limits.downtime_budget_ms or defaults.downtime_budget_ms,
            limits.bandwidth_mbps or defaults.bandwidth_mbps,
            limits.max_rounds or defaults.max_rounds,
            limits.max_factor or defaults.max_factor,
            limits.auto_converge or defaults.auto_converge,
        ),
    )


def migration_message(migration: Migration) -> cluster_pb2.Migration:
    made: dict[str, Any] = {
        name: getattr(migration, name)
        for name in (
            "state",
            "started_ms",
            "ended_ms",
            "memory_bytes",
            "bytes_sent",
            "bytes_remaining",
            "expected_downtime_ms",
            "downtime_ms",
            "throttle_percent",
            "stop_reason",
        )
    }
    return cluster_pb2.Migration(
        migration_id=migration.id,
        instance_id=migration.instance_id,
        mode=migration.asked.mode,
        stage=int(migration.stage),
        stage_name=migration.stage.title,
        source_host_id=f"h-{migration.source}",
        destination_host_id=f"h-{migration.destination}" if migration.destination >= 0 else "",
        rounds=[
            cluster_pb2.Round(
                number=r.number,
                pages_sent=r.pages_sent,
                bytes_sent=r.bytes_sent,
                pages_dirtied=r.pages_dirtied,
                duration_ms=r.duration_ms,
                bandwidth_mbps=r.bandwidth_mbps,
                throttle_percent=r.throttle_percent,
            )
            for r in migration.rounds
        ],
        cause=cause_message(migration.cause),
        stages=moment_messages(migration.stages),
        **made,
    )
