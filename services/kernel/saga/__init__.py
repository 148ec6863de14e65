"""Sagas: several steps at several parties that either all stand or are all taken back.

A saga is enqueued in the transaction of the intent it carries out, so neither exists without the
other. Its steps run in order; what each gave is recorded before the next begins, so a saga
survives the death of the process that runs it. A step runs *at least* once, and so does its undo:
both must be safe to repeat, and both are told the saga's id to use as their idempotency key.

A step marked `final` is the point of no return. Until it has succeeded, a failure, or somebody's
wish to cancel, takes back every step that was begun, the failed one included, in reverse. After
it a failure is tried again until it works.

This is the model of Garcia-Molina and Salem, *Sagas* (1987), with the log of events and the tests
that Oxide's steno made of it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

C = TypeVar("C")


class State(StrEnum):
    """Where a saga is. `stuck` waits for a human: an assertion failed, our bug."""

    RUNNING = "running"
    UNWINDING = "unwinding"
    DONE = "done"
    UNDONE = "undone"
    STUCK = "stuck"


ENDED = frozenset({State.DONE, State.UNDONE})


class Event(StrEnum):
    """What the log knows of a step."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNDO_STARTED = "undo_started"
    UNDO_FINISHED = "undo_finished"


class Step(ABC, Generic[C]):
    """One move of a saga, and how to take it back.

    `retries` is how often a passing failure (Fault UNAVAILABLE, a lost connection, a time-out) is
    tried again before the saga unwinds. A final step is tried for ever after a passing failure or
    an exception that is no Fault: nobody knows whether it took effect, so there is no way back any
    more. It refuses, and the saga unwinds, by raising any other Fault, knowing that it had no effect.
    """

    name: ClassVar[str]
    final: ClassVar[bool] = False
    retries: ClassVar[int] = 3

    @abstractmethod
    async def do(self, ctx: C, /) -> Any:
        """Make the move; the result, anything JSON can hold, is recorded and given to `undo`."""

    async def undo(self, ctx: C, done: Any, /) -> None:
        """Take the move back. `done` is what `do` gave, or None if it failed or nobody knows.

        By default a step leaves nothing behind. Tried until it works.
        """


@dataclass(frozen=True)
class Order:
    """What a saga was asked to do, and what its steps have given so far.

    `done` is kept up to date while the saga runs, by step name. `cancelled` is set when somebody
    wants it ended: a long step may look and give up (by raising) before it is over.
    """

    id: str
    input: Any
    done: Mapping[str, Any]
    cancelled: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


@dataclass(frozen=True)
class Saga(Generic[C]):
    """A kind of saga: its steps, and how to make their context, anew after every restart.

    A saga that was begun by version N is finished by version N's steps: when they change in
    meaning, register both.
    """

    kind: str
    version: int
    steps: tuple[Step[C], ...]
    context: Callable[[Order], Awaitable[C]]

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        assert names, f"{self.kind} has no steps"
        assert len(set(names)) == len(names), f"{self.kind} has two steps of one name"
        assert sum(step.final for step in self.steps) <= 1, f"{self.kind} has two points of no return"

    def index(self, name: str) -> int:
        return next(number for number, step in enumerate(self.steps) if step.name == name)


@dataclass(frozen=True)
class Outcome:
    """How a saga ended. `error` tells why it was undone: kind, what, why, fix, code, step."""

    state: State
    error: Mapping[str, Any] | None = None
