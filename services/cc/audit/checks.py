"""The rules of a zone, each a pure function from its books to findings.

A node and an instance are looked at without an await, so what concerns the ledger and its mirror alone is
proven at once. What a node says is milliseconds old: that must be seen twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from mallee.cc.audit.books import Books
from mallee.cc.db.placements import Placement
from mallee.cc.migration.record import Migration
from mallee.domain.audit import LATE, LEFTOVER, PROVEN, TWO_LOOKS, Finding, Invariant
from mallee.domain.guest import GuestKey, Phase, Power, Resources
from mallee.domain.migration import Stage
from mallee.kernel.saga import State

AT_WORK = frozenset({Phase.RUNNING, Phase.STOPPING})  # its processors turn
AT_REST = frozenset({Phase.STOPPED, Phase.FAILED})  # it takes a disk and nothing else
_GHOST = "ghost:"
_REPORT = "Report it, with the log of the cluster controller."
_LOOK = "Look at the node: mallee nodes. An administrator decides what becomes of the copy."


def check(books: Books) -> Iterator[Finding]:
    """Everything at once, for tests and simulations."""
    for number in books.hosts:
        yield from check_host(books, number)
    for instance_id in books.placements:
        yield from check_instance(books, instance_id)
    yield from check_migrations(books)


def check_host(books: Books, number: int) -> Iterator[Finding]:
    """Room on one node, and every copy it has."""
    yield from _room(books, number)
    if number in books.attending:
        for key, phase in books.copies_on(number).items():
            yield from _copy(books, number, key, phase)


def _room(books: Books, number: int) -> Iterator[Finding]:
    host = books.hosts[number]
    used = [sum(each[part] for each in host.takers.values()) for part in (0, 1)]
    free = Resources(host.capacity.vcpus - used[0], host.capacity.memory_mib - used[1])
    if free != host.free:
        why = f"{free} are free by what it holds, {host.free} by the scheduler's own count."
        yield _room_finding(
            books, host.title, "The scheduler's free room of a node is wrong.", why, after=PROVEN
        )
    if min(free) < 0:
        ghosts = any(taker.startswith(_GHOST) for taker in host.takers)
        why = f"It has {host.capacity}, and {Resources(*used)} are promised or in use."
        yield _room_finding(
            books,
            host.title,
            "A node holds more than it has.",
            why,
            fix="Move instances away: mallee migrate. A node that came back smaller does this.",
            after=TWO_LOOKS if ghosts else PROVEN,
        )
    for taker, size in host.takers.items():
        yield from _taker(books, number, taker, size)


def _taker(books: Books, number: int, taker: str, size: Resources) -> Iterator[Finding]:
    """Whoever holds room is there."""
    if taker.startswith(_GHOST):
        _, _, instance_id, generation = taker.split(":", 3)
        phase = books.seen(number, instance_id, int(generation))
        if phase is None and number in books.attending:
            yield _room_finding(
                books,
                instance_id,
                "A copy that is gone holds room.",
                f"{books.hosts[number].title} no longer has generation {generation}.",
                after=LEFTOVER,
            )
        return
    holder = books.placements.get(taker) or books.reservations.get(taker)
    if holder is None or (holder.host, holder.resources) != (number, size):
        there = f"{holder.resources} on {books.title(holder.host)}" if holder else "nothing"
        why = f"{books.hosts[number].title} counts {size} for it, its record holds {there}."
        yield _room_finding(books, taker, "Room is held by nobody.", why, after=PROVEN)


def _copy(books: Books, number: int, key: GuestKey, phase: Phase) -> Iterator[Finding]:
    """One copy on a node that attends: the guest itself, part of a migration, or what should not be."""
    row = books.placements.get(key.instance_id)
    host = books.hosts[number]
    if row is not None and (row.host, row.generation) == (number, key.generation):
        return
    if (moving := books.migrations.get(key.instance_id)) is not None and _of_migration(moving, number, key):
        return
    where = f"{host.title} has generation {key.generation} of it, {phase}"
    if phase in AT_WORK:
        yield Finding(
            Invariant.RUNS_ONCE,
            key.instance_id,
            "A copy runs that may not.",
            f"{where}; {_instead(books, row)}.",
            _LOOK,
            zone=books.zone,
        )
    elif phase in AT_REST and row is not None and not row.ended and row.host < 0:
        if (row.left_host, row.left_generation) != (number, key.generation):
            yield _left(books, key, f"{where}; {_instead(books, row)}.")
    else:
        yield _left(books, key, f"{where}; {_instead(books, row)}.")
    if phase not in AT_REST and f"{_GHOST}{number}:{key.instance_id}:{key.generation}" not in host.takers:
        yield _room_finding(
            books,
            key.instance_id,
            "A copy takes room that is given away.",
            f"{where}, and nothing is booked.",
        )


def _of_migration(moving: Migration, number: int, key: GuestKey) -> bool:
    return (number, key.generation) in {
        (moving.source, moving.generation),
        (moving.destination, moving.destination_generation),
    }


def _instead(books: Books, row: Placement | None) -> str:
    if row is None:
        return "nobody knows the instance"
    if row.ended:
        return "the instance has ended"
    return f"the guest is generation {row.generation} on {books.title(row.host)}"


def _left(books: Books, key: GuestKey, why: str) -> Finding:
    return Finding(
        Invariant.ENDED_IS_GONE,
        key.instance_id,
        "A copy is left that is of no more use.",
        why,
        _LOOK,
        after=LEFTOVER,
        zone=books.zone,
    )


def check_instance(books: Books, instance_id: str) -> Iterator[Finding]:
    """One instance: its room, and the copy that should run."""
    row = books.placements.get(instance_id)
    if row is None or row.host < 0:
        return
    host = books.hosts.get(row.host)
    if host is None or host.takers.get(instance_id) != row.resources:
        held = host.takers.get(instance_id) if host else None
        why = f"Its record holds {row.resources} on {books.title(row.host)}, the scheduler counts {held}."
        yield _room_finding(books, instance_id, "An instance has no room of its own.", why, after=PROVEN)
    if row.ended:
        yield _room_finding(
            books,
            instance_id,
            "An ended instance holds room.",
            f"It is on {books.title(row.host)}.",
            after=PROVEN,
        )
    if row.claimed:
        yield _room_finding(
            books,
            instance_id,
            "A claim has not lapsed.",
            f"Nobody has bound generation {row.generation}.",
            after=books.claim_seconds + LATE,
        )
    elif row.host in books.attending:
        yield from _running(books, row)


def _running(books: Books, row: Placement) -> Iterator[Finding]:
    instance_id = row.instance_id
    seen = books.seen(row.host, instance_id, row.generation)
    moving = books.migrations.get(instance_id)
    if row.power == Power.RUNNING and row.phase == Phase.RUNNING and moving is None and seen not in AT_WORK:
        yield Finding(
            Invariant.RUNS_WHERE_RECORDED,
            instance_id,
            "A running instance does not run.",
            f"{books.title(row.host)} should run generation {row.generation}, which is {seen or 'not there'}.",
            "Look at the node's log.",
            # A node that came back resumes, or starts again, what it had.
            after=LATE if seen in {Phase.PAUSED, None} else TWO_LOOKS,
            zone=books.zone,
        )


def check_migrations(books: Books) -> Iterator[Finding]:
    """Migrations, their sagas and their reservations belong together, and get on."""
    open_ = {migration.id: migration for migration in books.migrations.values()}
    for migration in open_.values():
        yield from _migration(books, migration)
    for taker, row in books.reservations.items():
        if taker.partition(":")[2] not in open_:
            why = f"It is over, and {row.resources} on {books.title(row.host)} are still held."
            yield _room_finding(books, taker, "A migration left a reservation.", why)
    for saga, state in books.sagas.items():
        if state == State.STUCK:
            yield _saga_finding(books, saga, "A saga is stuck.", "An assertion of it failed.", PROVEN)
        elif saga not in open_:
            yield _saga_finding(books, saga, "A saga belongs to nothing.", f"It is {state}.", TWO_LOOKS)


def _migration(books: Books, migration: Migration) -> Iterator[Finding]:
    m = migration
    copies = ((m.source, m.generation), (m.destination, m.destination_generation))
    here = [(host, generation, books.seen(host, m.instance_id, generation)) for host, generation in copies]
    if all(phase in AT_WORK and host in books.attending for host, _, phase in here):
        yield Finding(
            Invariant.RUNS_ONCE,
            m.instance_id,
            "Both copies of a migration run.",
            f"{m.id} is at {m.stage.title}: generation {m.generation} on {books.title(m.source)}"
            f" and generation {m.destination_generation} on {books.title(m.destination)}.",
            _REPORT,
            zone=books.zone,
        )
    if m.state == "running" and m.id not in books.sagas:
        yield _saga_finding(books, m.id, "A migration has no saga.", f"It is at {m.stage.title}.", TWO_LOOKS)
    if m.state == "running":
        done = m.rounds[-1].number if m.rounds and m.stage is Stage.ITERATIVE_PRE_COPY else 0
        yield _saga_finding(
            books,
            m.id,
            "A migration does not get on.",
            f"It is at {m.stage.title}, round {done}, {m.bytes_remaining} bytes left, since a minute or more.",
            LATE,
        )


def _room_finding(
    books: Books, subject: str, what: str, why: str, *, fix: str = _REPORT, after: float = TWO_LOOKS
) -> Finding:
    return Finding(Invariant.ROOM_IS_WHAT_IS_USED, subject, what, why, fix, after, books.zone)


def _saga_finding(books: Books, subject: str, what: str, why: str, after: float) -> Finding:
    fix = f"Read what the log says of {subject}; a node that is away is the usual cause."
    return Finding(Invariant.SAGAS_END, subject, what, why, fix, after, books.zone)
