"""What to do next for one instance: a pure decision from what should be and what is.

It is asked again after every step, so no decision outlives an await; and it answers one step at a
time, so the order of these rules is the order of what matters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mallee.domain.guest import Cause, Moment, Phase, Power, Resources
from mallee.nc.words import Order


class Verb(StrEnum):
    """What can be done to a copy of a guest."""

    START = "start"
    SHUT_DOWN = "shut down"
    DESTROY = "destroy"
    REBOOT = "reboot"
    PAUSE = "pause"
    RESUME = "resume"
    DESCRIBE = "describe"


class Step(NamedTuple):
    """A verb and the generation it is for."""

    verb: Verb
    generation: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A guest of one generation, as last seen."""

    phase: Phase
    resources: Resources
    reboots: int = 0
    cause: Cause | None = None
    migration_id: str = ""
    moments: tuple[Moment, ...] = ()
    description: int = 0
    root_disk: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """What holds for all guests of a node.

    Args:
        held: the node holds its lease; without it nothing runs.
        confirmed: everything that should be here was named since the lease was last lost, so what
            is named may start and resume, and what is not named is nobody's.
    """

    held: bool
    confirmed: bool

    @property
    def may_run(self) -> bool:
        return self.held and self.confirmed


def next_step(
    order: Order | None, copies: Mapping[int, Copy], ended: int, migrating: Collection[int], outlook: Outlook
) -> Step | None:
    """The next step for an instance, or None when all is as it should be, or must wait.

    Args:
        order: what should be; None when nobody named the instance.
        copies: its copies here, by generation.
        ended: the highest generation that has ended here.
        migrating: generations that a migration of this moment has in its hands.
        outlook: of the node.
    """
    wanted = order.key.generation if order else 0
    for generation, copy in copies.items():
        if generation <= ended or (generation < wanted and not _waits_for_heir(order, copy, copies)):
            return Step(Verb.DESTROY, generation)
        if copy.phase is Phase.RUNNING and not outlook.held:
            return Step(Verb.PAUSE, generation)
        nobodys = (
            order is None and outlook.confirmed and generation not in migrating and not copy.migration_id
        )
        if nobodys and copy.phase is Phase.RUNNING:
            return Step(Verb.PAUSE, generation)
    if order is None or wanted <= ended:
        return None
    verb = _towards(order, copies.get(wanted), migrates=wanted in migrating, outlook=outlook)
    return Step(verb, wanted) if verb else None


def _waits_for_heir(order: Order | None, copy: Copy, copies: Mapping[int, Copy]) -> bool:
    """Whether this copy of an earlier generation, which is off, has the disk that the next one will start with."""
    ends = order is None or order.power is Power.TERMINATED or order.key.generation in copies
    return copy.root_disk and copy.phase is Phase.STOPPED and not ends


def _towards(order: Order, copy: Copy | None, *, migrates: bool, outlook: Outlook) -> Verb | None:
    if order.power is Power.TERMINATED:
        return Verb.DESTROY
    if order.power is Power.STOPPED:
        lives = copy is not None and copy.phase in {Phase.RUNNING, Phase.PAUSED}
        return Verb.SHUT_DOWN if lives else None
    return _towards_running(order, copy, migrates=migrates) if outlook.may_run else None


def _towards_running(order: Order, copy: Copy | None, *, migrates: bool) -> Verb | None:
    if copy is None or (copy.phase is Phase.STOPPED and copy.cause is None):
        return Verb.START
    if migrates or copy.migration_id:
        return None
    if copy.phase is Phase.PAUSED:
        return Verb.RESUME
    if copy.phase is not Phase.RUNNING:
        return None
    if copy.reboots < order.reboots:
        return Verb.REBOOT
    return Verb.DESCRIBE if copy.description < order.description else None


def interrupts(order: Order, step: Step) -> bool:
    """Whether an order makes a step in progress pointless: terminate and stop do not wait for a start."""
    if step.verb is Verb.START:
        return order.power is not Power.RUNNING or order.key.generation > step.generation
    return step.verb is Verb.SHUT_DOWN and (order.power is Power.TERMINATED or order.force)
