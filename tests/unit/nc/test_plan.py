"""The next step for an instance, decided from what should be and what is."""

from __future__ import annotations

import pytest

from mallee.domain.guest import Cause, GuestKey, Phase, Power, Resources
from mallee.nc.plan import Copy, Outlook, Step, Verb, interrupts, next_step
from mallee.nc.words import Order

SURE, UNSURE, LAPSED = (
    Outlook(held=True, confirmed=True),
    Outlook(held=True, confirmed=False),
    Outlook(held=False, confirmed=False),
)


def order(power: Power = Power.RUNNING, generation: int = 2, **more: int | bool) -> Order:
    return Order(GuestKey("i-1", generation), 1, power, **more)  # type: ignore[arg-type]


def copy(phase: Phase, **more: object) -> Copy:
    return Copy(phase, Resources(1, 16), **more)  # type: ignore[arg-type]


RUNNING, PAUSED, STOPPED, INCOMING = (
    copy(phase) for phase in (Phase.RUNNING, Phase.PAUSED, Phase.STOPPED, Phase.INCOMING)
)
MOVING = copy(Phase.PAUSED, migration_id="mig-1")
POWERED_OFF = copy(Phase.STOPPED, cause=Cause("guest-shut-down", ""))


@pytest.mark.parametrize(
    ("wanted", "here", "outlook", "verb"),
    [
        (order(), None, SURE, Verb.START),
        (order(), None, UNSURE, None),
        (order(), None, LAPSED, None),
        (order(), RUNNING, SURE, None),
        (order(), RUNNING, UNSURE, None),
        (order(), RUNNING, LAPSED, Verb.PAUSE),
        (order(), PAUSED, SURE, Verb.RESUME),
        (order(), PAUSED, UNSURE, None),
        (order(), PAUSED, LAPSED, None),
        (order(), MOVING, SURE, None),
        (order(), INCOMING, SURE, None),
        (order(), STOPPED, SURE, Verb.START),
        (order(), POWERED_OFF, SURE, None),
        (order(reboots=1), RUNNING, SURE, Verb.REBOOT),
        (order(reboots=1), PAUSED, SURE, Verb.RESUME),
        (order(Power.STOPPED), RUNNING, SURE, Verb.SHUT_DOWN),
        (order(Power.STOPPED), MOVING, SURE, Verb.SHUT_DOWN),
        (order(Power.STOPPED), PAUSED, LAPSED, Verb.SHUT_DOWN),
        (order(Power.STOPPED), STOPPED, SURE, None),
        (order(Power.STOPPED), None, SURE, None),
        (order(Power.TERMINATED), RUNNING, UNSURE, Verb.DESTROY),
        (order(Power.TERMINATED), MOVING, SURE, Verb.DESTROY),
        (order(Power.TERMINATED), None, SURE, Verb.DESTROY),
        (None, RUNNING, SURE, Verb.PAUSE),
        (None, RUNNING, UNSURE, None),
        (None, PAUSED, SURE, None),
        (None, INCOMING, SURE, None),
        (None, MOVING, SURE, None),
        (order(generation=3), RUNNING, SURE, Verb.DESTROY),
        (order(generation=3), MOVING, SURE, Verb.DESTROY),
        (order(generation=1), INCOMING, LAPSED, None),
    ],
)
def test_what_is_done_next(
    wanted: Order | None, here: Copy | None, outlook: Outlook, verb: Verb | None
) -> None:
    copies = {2: here} if here else {}
    step = next_step(wanted, copies, 0, (), outlook)
    assert step == (Step(verb, 2) if verb else None)


def test_a_generation_that_has_ended_is_cleared_away_and_never_started() -> None:
    assert next_step(order(), {2: RUNNING}, 2, (), SURE) == Step(Verb.DESTROY, 2)
    assert next_step(order(), {}, 2, (), SURE) is None


def test_a_guest_in_a_migrations_hands_is_left_alone() -> None:
    assert next_step(None, {2: RUNNING}, 0, [2], SURE) is None
    assert next_step(order(reboots=1), {2: RUNNING}, 0, [2], SURE) is None
    assert next_step(order(Power.TERMINATED), {2: RUNNING}, 0, [2], SURE) == Step(Verb.DESTROY, 2)


WITH_DISK = copy(Phase.STOPPED, root_disk=True)


@pytest.mark.parametrize(
    ("wanted", "here", "step"),
    [
        (order(), {1: WITH_DISK}, Step(Verb.START, 2)),
        (order(), {1: STOPPED}, Step(Verb.DESTROY, 1)),
        (order(), {1: copy(Phase.RUNNING, root_disk=True)}, Step(Verb.DESTROY, 1)),
        (order(), {1: WITH_DISK, 2: RUNNING}, Step(Verb.DESTROY, 1)),
        (order(Power.STOPPED), {1: WITH_DISK}, None),
        (order(Power.TERMINATED), {1: WITH_DISK}, Step(Verb.DESTROY, 1)),
    ],
)
def test_a_disk_waits_for_the_next_life_of_its_guest(
    wanted: Order, here: dict[int, Copy], step: Step | None
) -> None:
    assert next_step(wanted, here, 0, [], SURE) == step


def test_a_disk_of_a_life_that_was_ended_for_good_waits_for_nobody() -> None:
    assert next_step(order(), {1: WITH_DISK}, 1, [], SURE) == Step(Verb.DESTROY, 1)


@pytest.mark.parametrize(
    ("wanted", "step", "answer"),
    [
        (order(Power.TERMINATED), Step(Verb.START, 2), True),
        (order(Power.STOPPED), Step(Verb.START, 2), True),
        (order(), Step(Verb.START, 2), False),
        (order(generation=3), Step(Verb.START, 2), True),
        (order(Power.STOPPED, force=True), Step(Verb.SHUT_DOWN, 2), True),
        (order(Power.STOPPED), Step(Verb.SHUT_DOWN, 2), False),
        (order(Power.TERMINATED), Step(Verb.SHUT_DOWN, 2), True),
        (order(Power.TERMINATED), Step(Verb.DESTROY, 2), False),
    ],
)
def test_terminate_and_stop_do_not_wait(wanted: Order, step: Step, answer: bool) -> None:
    assert interrupts(wanted, step) is answer
