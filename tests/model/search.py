"""Exhaustive search of a small model: every state that can be reached, by any order of events and faults.

A model is a set of rules from a state to its successors, each with a name and with whether it is a fault.
Safety: no reachable state may be bad. Recovery: from every reachable state, without any further fault,
a good state can be reached. A breach is told as the shortest way to it, event by event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)


class Event(NamedTuple, Generic[S]):
    """Something that may happen next."""

    name: str
    then: S
    fault: bool = False


class Model(NamedTuple, Generic[S]):
    """What is searched.

    Args:
        first: the state before anything has happened.
        events: all that may happen in a state.
        bad: what is wrong with a state, '' for nothing.
        good: whether a state is one that recovery must lead to.
    """

    first: S
    events: Callable[[S], Iterator[Event[S]]]
    bad: Callable[[S], str]
    good: Callable[[S], bool]


class Result(NamedTuple):
    """What came of a search; `breach` is '' when all promises hold."""

    states: int
    steps: int
    depth: int
    breach: str
    trace: list[str]

    def __str__(self) -> str:
        found = f"{self.states} states, {self.steps} steps, {self.depth} deep"
        if not self.breach:
            return f"{found}: every promise holds"
        lines = [f"  {number:2}. {line}" for number, line in enumerate(self.trace, 1)]
        return "\n".join([f"{found}: {self.breach}", *lines])


def search(model: Model[S], limit: int = 5_000_000) -> Result:
    """Visit everything, breadth first, so that the first breach found is a shortest one."""
    came: dict[S, tuple[S, str] | None] = {model.first: None}
    onward: dict[S, list[S]] = {}  # who leads here without a fault
    ahead = deque([(model.first, 0)])
    steps = depth = 0
    while ahead:
        state, depth = ahead.popleft()
        if breach := model.bad(state):
            return Result(len(came), steps, depth, breach, _trace(came, state))
        for event in model.events(state):
            steps += 1
            if not event.fault:
                onward.setdefault(event.then, []).append(state)
            if event.then not in came:
                assert len(came) < limit, "the model is larger than was thought"
                came[event.then] = state, event.name
                ahead.append((event.then, depth + 1))
    lost = _without_recovery(model, came, onward)
    if lost is not None:
        breach = f"from here no way without further faults leads to what should be: {lost}"
        return Result(len(came), steps, depth, breach, _trace(came, lost))
    return Result(len(came), steps, depth, "", [])


def _without_recovery(
    model: Model[S], came: dict[S, tuple[S, str] | None], onward: dict[S, list[S]]
) -> S | None:
    """The first state found from which no good one can be reached without faults."""
    saved = {state for state in came if model.good(state)}
    ahead = list(saved)
    while ahead:
        for before in onward.get(ahead.pop(), ()):
            if before not in saved:
                saved.add(before)
                ahead.append(before)
    return next((state for state in came if state not in saved), None)


def _trace(came: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    names: list[str] = []
    while (before := came[state]) is not None:
        state, name = before
        names.append(name)
    return names[::-1]
