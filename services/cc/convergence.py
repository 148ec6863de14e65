"""What instances should be, taken over from the CLC, and what they are, as their nodes say.

Wishes and facts meet in one row. A wish of a later revision wins over whatever is in progress; a fact counts
only for the generation that the row names, on the node that the row names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from mallee.cc.db.placements import Placement
from mallee.cc.ledger import Ledger, Live
from mallee.cc.placing import Placing, host_number
from mallee.cc.scheduler.filters import Kind, Question
from mallee.domain.guest import Cause, GuestKey, Moment, Phase, Power, Resources

NO_ROOM = "Server.InsufficientInstanceCapacity"

_ENDS = frozenset({Phase.STOPPED, Phase.TERMINATED, Phase.FAILED})
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wish:
    """What an instance should be; a later `revision` replaces it."""

    instance_id: str
    revision: int
    power: Power
    force: bool
    reboots: int
    resources: Resources
    guest: bytes
    host_id: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class GuestFact:
    """What a node says of one copy."""

    instance_id: str
    generation: int
    revision: int
    phase: Phase
    resources: Resources
    cause: Cause | None = None
    moments: tuple[Moment, ...] = ()
    reboots: int = 0
    description: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What a node should do with one copy."""

    instance_id: str
    generation: int
    revision: int
    power: Power
    force: bool = False
    reboots: int = 0
    guest: bytes = b""


class Convergence:
    """Takes wishes and facts, and says which orders follow.

    Args:
        send: hand an order to a node's line; lost when the line is down, for its next Hello gets all.
        gone: whether a node's guests are known to be paused for good (its lease lapsed long ago).
        touch: an instance's passing state changed.
        wants_out: ends the instance's migration before its commit point, if it has one.
        in_transit: under which name room is booked for this copy on this node, if it belongs to an open migration.
    """

    def __init__(
        self,
        ledger: Ledger,
        placing: Placing,
        *,
        send: Callable[[int, Order], None],
        gone: Callable[[int], bool],
        touch: Callable[[Sequence[str]], None],
        wants_out: Callable[[str], None],
        in_transit: Callable[[str, int, int], str | None],
        stays: Callable[[bytes], bool] = lambda _guest: False,
    ) -> None:
        self._ledger = ledger
        self._rows = ledger.placements.rows
        self._placing = placing
        self._send = send
        self._gone = gone
        self._touch = touch
        self._wants_out = wants_out
        self._in_transit = in_transit
        self._stays = stays
        self._restarted: list[str] = []

    # Wishes

    async def converge(self, wishes: Sequence[Wish]) -> None:
        """Take wishes over; durable when this returns, and only then ordered."""
        changed = [wish.instance_id for wish in wishes if self._take_over(wish)]
        await asyncio.shield(self._commit_and_order(changed))

    async def _commit_and_order(self, changed: Sequence[str]) -> None:
        """Whole, even if the caller dies meanwhile: the same wish again is no news, and nobody would order it."""
        await self._ledger.journal.commit()
        self.order(changed)

    def order(self, instance_ids: Iterable[str]) -> None:
        """Send what the rows of these instances want of their nodes."""
        for instance_id in instance_ids:
            row = self._ledger.placements.durable(instance_id)
            if row is None:
                continue
            held = row.host >= 0 and not row.claimed
            if held:
                self._send(row.host, order_of(row))
            # A copy at rest elsewhere is of no use once the instance runs again, or never will.
            if row.left_host >= 0 and (row.ended or (held and row.left_host != row.host)):
                self._send(row.left_host, end_of(row, row.left_generation))

    def _take_over(self, wish: Wish) -> bool:
        old = self._rows.get(wish.instance_id)
        if old is not None and (wish.revision <= old.revision or old.ended):
            return False
        row = (old or Placement(wish.instance_id))._replace(
            revision=wish.revision,
            power=wish.power,
            force=wish.force,
            reboots=wish.reboots,
            guest=wish.guest or (old.guest if old else b""),
            pinned=host_number(wish.host_id),
            updated_ms=self._ledger.now_ms(),
        )
        if row.host < 0:
            row = row._replace(vcpus=wish.resources.vcpus, memory_mib=wish.resources.memory_mib)
        if wish.power is Power.RUNNING:
            self._run(row)
        else:
            self._end(row)
        return True

    def _run(self, row: Placement) -> None:
        if row.host < 0:
            row = self._place_anew(row)
        if row.claimed:
            row = row._replace(phase=Phase.PROVISIONING)
        self._put(row)

    def _place_anew(self, row: Placement) -> Placement:
        """A new generation on whatever node has room, or the failure that says there is none."""
        home = self._placing.home(row)
        # Where its disk is counts for more than where it was once told to be.
        where = home if home >= 0 else row.pinned
        only = frozenset({where}) if where >= 0 else None
        host = self._ledger.scheduler.choose(Question(Kind(row.resources), only))
        if host is not None:
            return self._placing.claim(row, host)
        why = f"Zone {self._ledger.zone} has no room for {row.vcpus} vCPUs and {row.memory_mib} MiB."
        if home >= 0:
            why = self._placing.why_not_home(home, row.resources).message
        return row._replace(phase=Phase.FAILED, cause_code=NO_ROOM, cause_message=why)

    def _end(self, row: Placement) -> None:
        """Stop or terminate: by order where something may run, at once where nothing does."""
        self._wants_out(row.instance_id)
        if row.host >= 0 and not row.claimed and not self._gone(row.host):
            self._put(row._replace(phase=Phase.STOPPING))
        else:
            self._put(ended(row, was_running=row.host >= 0 and not row.claimed))

    def _put(self, row: Placement) -> None:
        self._ledger.placements.put(row.instance_id, row)

    def give_up(self, host: int) -> None:
        """The node's guests are paused for good: what was to end there has ended."""
        for instance_id in list(self._ledger.inventory.hosts[host].takers):
            row = self._rows.get(instance_id)
            if row is not None and row.host == host and row.power != Power.RUNNING:
                self._put(ended(row, was_running=True))

    def evacuate(self, host: int) -> list[str]:
        """Give what ran on a node that is paused for good another place; which ones have one now.

        A new generation: the old copy, when its node comes back, is one too many and is destroyed. A migration
        that is open knows more about its guest than anybody, and is left to it.
        """
        saved = []
        for instance_id in list(self._ledger.inventory.hosts[host].takers):
            row = self._rows.get(instance_id)
            if row is None or row.host != host or row.power != Power.RUNNING or row.claimed:
                continue
            if (
                row.pinned >= 0
                or self._in_transit(instance_id, host, row.generation) is not None
                or self._stays(row.guest)
            ):
                continue
            target = self._ledger.scheduler.choose(Question(Kind(row.resources)))
            if target is None:
                continue
            self._run(self._placing.claim(at_rest(row, Phase.FAILED), target))
            saved.append(instance_id)
        if saved:
            _log.warning(
                "instances of a fenced node are started elsewhere", host=f"h-{host}", count=len(saved)
            )
        return saved

    # Facts

    async def learn(self, host: int, facts: Sequence[GuestFact]) -> None:
        """Take a node's facts over: ends are durable when this returns, the rest is hearsay.

        Raises:
            Fault: the ends could not be written; ask the node for everything again.
        """
        changed = [fact.instance_id for fact in facts if self._weigh(host, fact)]
        restarted, self._restarted = self._restarted, []
        await asyncio.shield(self._commit_and_touch(changed, restarted))

    async def _commit_and_touch(self, changed: Sequence[str], restarted: Sequence[str]) -> None:
        try:
            await self._ledger.journal.commit()
        finally:
            # Hearsay is known now, and would be no news when the node says it again.
            self._touch(changed)
        self.order(restarted)

    def _weigh(self, host: int, fact: GuestFact) -> bool:
        """Whether the fact changed something."""
        self._ledger.sightings.note(host, fact.instance_id, fact.generation, fact.phase, fact.resources)
        row = self._rows.get(fact.instance_id)
        if row is None or fact.generation > row.issued:
            self._stranger(host, fact)
            return False
        if row.host == host and row.generation == fact.generation:
            return self._current(row, fact)
        booked = self._in_transit(fact.instance_id, host, fact.generation)
        if booked is None:
            self._superseded(host, row, fact)
        elif fact.phase in _ENDS or not fact.resources.vcpus:
            self._ledger.inventory.release(_ghost(host, fact))
        elif booked not in self._ledger.inventory.hosts[host].takers:
            self._haunt(host, fact)  # its room was given back while its node was away; it is dropped again
        return False

    def _current(self, row: Placement, fact: GuestFact) -> bool:
        if row.claimed:
            return False
        live = Live(fact.generation, fact.phase, fact.cause, fact.moments, fact.reboots, fact.description)
        if fact.phase not in _ENDS:
            # What nobody has said yet since the start is as it was written.
            known = self._ledger.live.get(row.instance_id) or Live(row.generation, Phase(row.phase))
            news = known != live
            self._ledger.hear(row.instance_id, live)
            return news
        if fact.phase is not Phase.TERMINATED and row.power == Power.TERMINATED:
            return False  # the answer to an older order; the newer one is under way
        if fact.phase is Phase.TERMINATED:
            self._put(ended(row._replace(power=Power.TERMINATED), was_running=False))
        elif fact.phase is Phase.STOPPED and row.power == Power.RUNNING and fact.revision < row.revision:
            # It was stopped by an earlier wish and is wanted again: a new start, which is a new generation.
            self._run(at_rest(row, Phase.STOPPED))
            self._restarted.append(row.instance_id)
        else:
            code, message = fact.cause or ("", "")
            rest = at_rest(row, fact.phase)
            self._put(rest._replace(cause_code=code, cause_message=message, updated_ms=self._ledger.now_ms()))
        if row.instance_id in self._ledger.live:
            self._ledger.hear(row.instance_id, live)
        return True

    def _superseded(self, host: int, row: Placement, fact: GuestFact) -> None:
        """A copy of an earlier generation, or of one that came to nothing: the node must destroy it."""
        known = row.host < 0 and (row.left_host, row.left_generation) == (host, fact.generation)
        if fact.phase is Phase.TERMINATED or (known and not row.ended and fact.phase in _ENDS):
            self._ledger.inventory.release(_ghost(host, fact))
            return
        self._haunt(host, fact)
        stays = known and row.phase == Phase.STOPPED
        self._send(host, rest_of(row) if stays else end_of(row, fact.generation))

    def left_running(self, instance_id: str, host: int, generation: int) -> None:
        """A migration has come back to this copy. Facts of it were not weighed meanwhile: now they are."""
        seen = self._ledger.sightings.by_host.get(host, {}).get(GuestKey(instance_id, generation))
        row = self._rows.get(instance_id)
        if row is None or seen is not Phase.RUNNING or (row.host, row.generation) == (host, generation):
            return
        self._superseded(host, row, GuestFact(instance_id, generation, 0, seen, row.resources))

    def _stranger(self, host: int, fact: GuestFact) -> None:
        """Nobody knows it. It stays paused: an empty database is no reason to destroy anything."""
        if fact.phase in _ENDS:
            self._ledger.inventory.release(_ghost(host, fact))
            return
        self._haunt(host, fact)
        _log.warning(
            "a node has a guest that nobody knows",
            instance=fact.instance_id,
            generation=fact.generation,
            host=f"h-{host}",
        )

    def _haunt(self, host: int, fact: GuestFact) -> None:
        """While such a copy exists it takes room, whoever's it is."""
        if fact.phase not in _ENDS:
            self._ledger.inventory.take(
                _ghost(host, fact), self._ledger.inventory.hosts[host], fact.resources
            )


def _ghost(host: int, fact: GuestFact) -> str:
    return f"ghost:{host}:{fact.instance_id}:{fact.generation}"


def at_rest(row: Placement, phase: Phase) -> Placement:
    """The row of an instance whose copy stays where it is and holds nothing."""
    return row._replace(host=-1, left_host=row.host, left_generation=row.generation, phase=phase)


def ended(row: Placement, *, was_running: bool) -> Placement:
    """The row of an instance that has what its wish wants: a tombstone, or stopped."""
    phase = Phase.TERMINATED if row.power == Power.TERMINATED else Phase.STOPPED
    return at_rest(row, phase) if was_running else row._replace(host=-1, phase=phase)


def order_of(row: Placement) -> Order:
    """What the node that holds the instance should do."""
    return Order(
        row.instance_id,
        row.generation,
        row.revision,
        Power(row.power),
        force=row.force,
        reboots=row.reboots,
        guest=row.guest,
    )


def rest_of(row: Placement) -> Order:
    """What the node should do where a stopped instance was last."""
    return Order(row.instance_id, row.left_generation, row.revision, Power.STOPPED, guest=row.guest)


def end_of(row: Placement, generation: int) -> Order:
    """Destroy this copy, whatever it is; of the newest revision, so that no node takes it for an old order."""
    return Order(row.instance_id, generation, row.revision, Power.TERMINATED, force=True)
