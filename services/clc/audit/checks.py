"""The rules of the whole cloud, each a pure function from rows to findings.

What one transaction read proves itself. Zones are asked before the instances are read, so what differs
from them may be a fact on its way and must be seen twice, unchanged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

from mallee.clc.audit.books import Attached, Held, Intent, Page, SubnetCount, ZoneReport
from mallee.clc.db.network import RESERVED_HIGH, RESERVED_LOW
from mallee.clc.instance import NEXT, State
from mallee.domain.audit import LATE, PROVEN, TWO_LOOKS, Finding, Invariant
from mallee.domain.guest import Phase

Seen = tuple[int, int, int, int]  # state, version, revision, generation

# While its node makes it run again, or moves it, a guest is not gone.
_ON_ITS_WAY = frozenset({Phase.PROVISIONING, Phase.PAUSED, Phase.STOPPING, Phase.CLAIMED, Phase.INCOMING})
_UNDER_WAY = frozenset({State.PENDING, State.STOPPING, State.SHUTTING_DOWN})
_REPORT = "Report it, with the logs of the cloud controller and of the zone's cluster controller."


def _reachable(start: State) -> frozenset[int]:
    found, ahead = {start}, [start]
    while ahead:
        for state in NEXT[ahead.pop()] - found:
            found.add(state)
            ahead.append(state)
    return frozenset(int(state) for state in found)


_WAYS = {int(state): _reachable(state) for state in State}


def seen(intent: Intent) -> Seen:
    """What must not go back between two looks."""
    return intent.state, intent.version, intent.revision, intent.generation


def check_intent(intent: Intent, held: Held | None, now_ms: int) -> Iterator[Finding]:
    """One instance against its zone, which was asked; `held` is None when the zone holds nothing for it."""
    state = State(intent.state)
    if intent.unsettled:
        yield _late(intent, now_ms)
        return
    if state in _UNDER_WAY:
        yield _finding(
            Invariant.WORK_IS_FINISHED,
            intent,
            "An instance is under way, and nobody works on it.",
            f"It is {state.title}, and its zone has said all that it will say.",
            after=PROVEN,
        )
    elif held is None:
        if state is not State.TERMINATED:
            yield _recorded(intent, f"It is {state.title}, and its zone does not know it.")
    elif state is State.RUNNING:
        yield from _running(intent, held)
    elif held.host_id:
        invariant = Invariant.ENDED_IS_GONE if state is State.TERMINATED else Invariant.ROOM_IS_WHAT_IS_USED
        why = f"It is {state.title}; {held.host_id} holds generation {held.generation} of it, {held.phase}."
        yield _finding(invariant, intent, "An instance that does not run holds room.", why)
    if held is not None and held.revision != intent.revision and state is not State.TERMINATED:
        yield _finding(
            Invariant.WORK_IS_FINISHED,
            intent,
            "A zone works on another wish than the last one.",
            f"The wish is {intent.revision}, the zone's is {held.revision}, and nothing is on its way.",
        )


def check_late(intent: Intent, now_ms: int) -> Iterator[Finding]:
    """One instance of a zone that cannot be asked."""
    if intent.unsettled:
        yield _late(intent, now_ms)


def _late(intent: Intent, now_ms: int) -> Finding:
    state = State(intent.state)
    since = (now_ms - intent.changed_ms) / 1000
    return _finding(
        Invariant.WORK_IS_FINISHED,
        intent,
        "An instance is late.",
        f"It is {state.title}, and wish {intent.revision} ({intent.operation or 'clear'}) is not done after a minute.",
        fix="Is its node there? mallee nodes. If so, read the node's log; terminating it is always possible.",
        after=PROVEN if state in _UNDER_WAY and since >= LATE else LATE,
    )


def _running(intent: Intent, held: Held) -> Iterator[Finding]:
    ours, theirs = (intent.host_id, intent.generation), (held.host_id, held.generation)
    if ours != theirs:
        yield _recorded(
            intent,
            f"It should be generation {ours[1]} on {ours[0] or 'no node'};"
            f" its zone has generation {theirs[1]} on {theirs[0] or 'no node'}.",
        )
    elif held.phase is not Phase.RUNNING and held.reachable:
        after = LATE if held.phase in _ON_ITS_WAY else TWO_LOOKS
        yield _recorded(intent, f"It should run on {held.host_id}, where it is {held.phase}.", after)
    if held.reachable != intent.reachable:
        yield _recorded(intent, "The cloud and the zone disagree whether its node can be reached.")
    if held.migration_id != intent.migration_id:
        ids = f"{intent.migration_id or 'none'}, its zone knows of {held.migration_id or 'none'}"
        yield _finding(Invariant.SAGAS_END, intent, "An instance's migration is wrong.", f"It shows {ids}.")


def check_strangers(report: ZoneReport, known: Collection[str]) -> Iterator[Finding]:
    """What a zone holds for instances that the cloud does not have (any more)."""
    for held in report.held.values():
        if held.instance_id not in known:
            yield Finding(
                Invariant.ENDED_IS_GONE,
                held.instance_id,
                "A zone keeps an instance that the cloud does not know.",
                f"Generation {held.generation} is {held.phase} on {held.host_id or 'no node'}.",
                "Was the cloud's database put back to an earlier day? An administrator decides what becomes of it.",
                zone=report.zone,
            )


def check_elsewhere(intent: Intent, others: Iterable[ZoneReport]) -> Iterator[Finding]:
    """One instance in the zones that are not its own."""
    for other in others:
        if other.zone != intent.zone and (held := other.held.get(intent.id)) is not None:
            yield _finding(
                Invariant.RUNS_ONCE,
                intent,
                "Another zone has an instance too.",
                f"It is of {intent.zone}; {other.zone} has generation {held.generation} of it, {held.phase}.",
            )


def check_history(intent: Intent, before: Seen | None) -> Iterator[Finding]:
    """What a client saw of an instance, and what it sees now."""
    if before is None:
        return
    if intent.state not in _WAYS[before[0]]:
        yield _finding(
            Invariant.STATES_FOLLOW_THE_GRAPH,
            intent,
            "An instance came back from where no way leads.",
            f"It was {State(before[0]).title} and is {State(intent.state).title}.",
            after=PROVEN,
        )
    for name, was, now in zip(
        ("version", "revision", "generation"), before[1:], seen(intent)[1:], strict=True
    ):
        if now < was:
            why = f"Its {name} was {was} and is {now}."
            yield _finding(
                Invariant.STATES_FOLLOW_THE_GRAPH, intent, "An instance went back.", why, after=PROVEN
            )


def check_page(page: Page) -> Iterator[Finding]:
    """Instances and their interfaces, of one snapshot."""
    by_instance: dict[str, list[Attached]] = {}
    for each in page.attached:
        by_instance.setdefault(each.instance_id, []).append(each)
    for intent in page.intents:
        yield from _addresses(intent, by_instance.pop(intent.id, ()))
    for orphans in by_instance.values():
        for each in orphans:
            why = f"{each.id} serves {each.instance_id}, which does not exist."
            yield _address(each.id, "An interface serves nobody.", why)


def _addresses(intent: Intent, attached: Collection[Attached]) -> Iterator[Finding]:
    if intent.state == State.TERMINATED:
        for each in attached:
            why = f"{each.id} still serves {intent.id}."
            yield _finding(
                Invariant.ENDED_IS_GONE, intent, "An ended instance has an address.", why, after=PROVEN
            )
        return
    first = [each for each in attached if each.device_index == 0]
    wanted = int(IPv4Address(intent.private_address)) if intent.private_address else 0
    if [(each.subnet_id, each.address) for each in first] != [(intent.subnet_id, wanted)]:
        holds = ", ".join(str(IPv4Address(each.address)) for each in first) or "none"
        why = f"It shows {intent.private_address or 'none'}, and its interfaces have {holds}."
        yield _address(intent.id, "An instance does not have its address.", why)


def check_subnets(
    counts: Iterable[SubnetCount], free_and_held: Iterable[tuple[str, int]], overlapping: Iterable[str]
) -> Iterator[Finding]:
    """The free addresses of each subnet, and those that are taken, of one snapshot."""
    for one in counts:
        all_of_it = IPv4Network(one.cidr).num_addresses - RESERVED_LOW - RESERVED_HIGH
        if one.counted != one.ranged or one.ranged + one.held != all_of_it:
            why = (
                f"Of {all_of_it}, {one.counted} are free by its counter and {one.ranged} by its ranges;"
                f" {one.held} are held."
            )
            yield _address(one.id, "The addresses of a subnet do not add up.", why)
    for subnet, address in free_and_held:
        yield _address(subnet, "An address is held and free.", f"It is {IPv4Address(address)}.")
    for subnet in overlapping:
        yield _address(subnet, "An address is free twice.", "Two free ranges overlap.")


def remember(pages: Iterable[Intent], kept: Mapping[str, Seen]) -> dict[str, Seen]:
    """What the next look compares with; an unchanged entry is the old object, so memory stays flat."""
    return {
        each.id: before if (before := kept.get(each.id)) == (now := seen(each)) and before else now
        for each in pages
    }


def _recorded(intent: Intent, why: str, after: float = TWO_LOOKS) -> Finding:
    return _finding(
        Invariant.RUNS_WHERE_RECORDED, intent, "An instance is not what it is shown to be.", why, after=after
    )


def _address(subject: str, what: str, why: str) -> Finding:
    return Finding(Invariant.ADDRESSES_ARE_HELD_ONCE, subject, what, why, _REPORT, PROVEN)


def _finding(
    invariant: Invariant,
    intent: Intent,
    what: str,
    why: str,
    *,
    fix: str = _REPORT,
    after: float = TWO_LOOKS,
) -> Finding:
    return Finding(invariant, intent.id, what, why, fix, after, intent.zone)
