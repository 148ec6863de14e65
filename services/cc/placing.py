"""Claims: capacity that is really held, before anything runs.

The decision is made in memory without an await, so N requests at once on room for L give exactly L.
It is durable before it is answered, and lapses unless a wish binds it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mallee.cc.db.placements import Placement
from mallee.cc.ledger import Ledger
from mallee.cc.scheduler.filters import Kind, Question, refusal
from mallee.cc.scheduler.inventory import Host
from mallee.domain.guest import Cause, Phase, Power, Resources


@dataclass(frozen=True, slots=True)
class Ask:
    """A group of guests of one kind, as many of `instance_ids` as fit, at least `min_count`."""

    group_id: str
    min_count: int
    instance_ids: Sequence[str]
    resources: Resources
    host_id: str = ""
    cpu_model: str = ""
    near: Collection[str] = ()
    apart: Collection[str] = ()


class Placed(NamedTuple):
    """A claim."""

    instance_id: str
    host_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an ask: claims, or the reason why there are none."""

    group_id: str
    placed: tuple[Placed, ...] = ()
    refusal: Cause | None = None


def host_number(host_id: str) -> int:
    """The number in `h-12`, -1 for anything that is no host id."""
    prefix, _, digits = host_id.partition("-")
    return int(digits) if prefix == "h" and digits.isascii() and digits.isdigit() and len(digits) < 10 else -1


class Placing:
    """Makes claims, takes them back, and lets them lapse after `claim_seconds`.

    Args:
        ledger: of the zone.
        claim_seconds: how long a claim waits for its wish.
        has_disk: whether a guest, as its bytes describe it, has a root disk on the node where it ran last.
    """

    def __init__(
        self,
        ledger: Ledger,
        claim_seconds: float,
        has_disk: Callable[[bytes], bool] = lambda _guest: False,
    ) -> None:
        self._ledger = ledger
        self._claim_seconds = claim_seconds
        self._has_disk = has_disk
        self._deadlines: dict[str, float] = {}

    async def place(self, asks: Sequence[Ask]) -> list[Outcome]:
        """Claim for each ask, or refuse it whole. Asking again for the same instances is answered alike."""
        outcomes = [self._claim_group(ask) for ask in asks]
        await self._ledger.journal.commit()
        return outcomes

    async def release(self, instance_ids: Sequence[str]) -> None:
        """Give claims back that no wish has bound; all else is left alone."""
        self._give_back(instance_ids)
        await self._ledger.journal.commit()

    async def sweep(self) -> None:
        """Take back what nobody bound in time."""
        # Which claims there are is asked of the rows: what was given back, or bound, in a transaction that came to
        # nothing is a claim again, and so is what was found at the start. Each has its whole time from here on.
        claimed = self._ledger.claimed
        self._deadlines = {each: self._deadlines.get(each, self._due()) for each in claimed}
        now = self._ledger.clock.boot()
        self._give_back([instance_id for instance_id, due in self._deadlines.items() if due <= now])
        await self._ledger.journal.commit()

    def claim(self, row: Placement, host: Host) -> Placement:
        """Hold `host` for this row: the next generation, and the capacity from now on."""
        claimed = row._replace(
            host=host.index,
            generation=row.issued + 1,
            issued=row.issued + 1,
            phase=Phase.CLAIMED,
            cause_code="",
            cause_message="",
            updated_ms=self._ledger.now_ms(),
        )
        self._ledger.placements.put(row.instance_id, claimed)
        self._deadlines[row.instance_id] = self._due()
        return claimed

    def home(self, row: Placement) -> int:
        """The only node where this instance can run again, because its root disk is there; -1 for any."""
        return row.left_host if row.host < 0 and row.left_host >= 0 and self._has_disk(row.guest) else -1

    def why_not_home(self, number: int, resources: Resources) -> Cause:
        """Why the node that has an instance's root disk cannot run it."""
        host = self._ledger.inventory.hosts.get(number)
        reason = refusal(host, Question(Kind(resources))) if host is not None else None
        why = reason.message if reason else f"Node h-{number} is not there."
        return Cause(
            "no-capacity", f"The instance's root disk is on node h-{number}, which cannot run it now. {why}"
        )

    def _due(self) -> float:
        return self._ledger.clock.boot() + self._claim_seconds

    def _claim_group(self, ask: Ask) -> Outcome:
        rows = self._ledger.placements.rows
        kind = Kind(ask.resources, cpu_model=ask.cpu_model)
        held = [rows[i] for i in ask.instance_ids if i in rows and rows[i].host >= 0]
        wanted = [i for i in dict.fromkeys(ask.instance_ids) if i not in rows or rows[i].host < 0]
        if any(i in rows and rows[i].ended for i in wanted):
            return Outcome(
                ask.group_id, refusal=Cause("terminated", "A terminated instance never runs again.")
            )
        chosen = self._choose(ask, kind, wanted)
        if len(held) + len(chosen) < max(1, ask.min_count):
            for instance_id in chosen:
                self._ledger.inventory.release(instance_id)
            return Outcome(ask.group_id, refusal=self._why_not(ask, kind, wanted))
        for instance_id, host in chosen.items():
            row = rows.get(instance_id) or Placement(instance_id)
            held.append(
                self.claim(
                    row._replace(vcpus=kind.resources.vcpus, memory_mib=kind.resources.memory_mib), host
                )
            )
        placed = tuple(Placed(row.instance_id, f"h-{row.host}", row.generation) for row in held)
        return Outcome(ask.group_id, placed)

    def _choose(self, ask: Ask, kind: Kind, wanted: Sequence[str]) -> dict[str, Host]:
        """A host for each as far as they go, booked so that the next choice sees it."""
        inventory, scheduler = self._ledger.inventory, self._ledger.scheduler
        only = frozenset(inventory.of(ask.near)) if ask.near else None
        if ask.host_id:
            pin = frozenset({host_number(ask.host_id)})
            only = pin if only is None else only & pin
        apart, ask_apart = frozenset(inventory.of(ask.apart)), frozenset(ask.apart)
        chosen: dict[str, Host] = {}
        for instance_id in wanted:
            row = self._ledger.placements.rows.get(instance_id)
            home = -1 if row is None else self.home(row)
            here = only if home < 0 else frozenset({home}) if only is None else only & {home}
            host = scheduler.choose(Question(kind, here, apart))
            if host is None:
                break
            inventory.take(instance_id, host, kind.resources)
            chosen[instance_id] = host
            if instance_id in ask_apart:
                apart |= {host.index}
        return chosen

    def _why_not(self, ask: Ask, kind: Kind, wanted: Sequence[str]) -> Cause:
        """The reason of the one node asked for, or of the zone."""
        rows = self._ledger.placements.rows
        homes = [home for i in wanted if i in rows and (home := self.home(rows[i])) >= 0]
        if homes:
            return self.why_not_home(homes[0], kind.resources)
        if ask.host_id:
            host = self._ledger.inventory.hosts.get(host_number(ask.host_id))
            if host is None:
                return Cause("not-found", f"There is no such node in {self._ledger.zone}.")
            reason = refusal(host, Question(kind))
            if reason is not None:
                return reason
        return Cause(
            "no-capacity",
            f"Zone {self._ledger.zone} has no room for {max(1, ask.min_count)} guests of {kind.resources.vcpus} vCPUs "
            f"and {kind.resources.memory_mib} MiB under the rules asked for.",
        )

    def _give_back(self, instance_ids: Sequence[str]) -> None:
        book = self._ledger.placements
        for instance_id in instance_ids:
            row = book.rows.get(instance_id)
            if row is None or not row.claimed:
                continue
            if row.revision == 0:
                book.drop(instance_id)
            else:
                # It lived before this claim: as it was stopped, it is again.
                phase = Phase.STOPPED if row.power == Power.STOPPED else Phase.FAILED
                book.put(instance_id, row._replace(host=-1, phase=phase, updated_ms=self._ledger.now_ms()))
