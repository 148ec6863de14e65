"""The states of an instance as EC2 shows them, and the ways between them.

Three columns, never one: the state a user sees, the operation in progress, and the cause of a
failure. Terminate and stop win over whatever is under way. Source: "Amazon EC2 instance state
changes"; EC2 itself refuses to stop a pending instance, here a wish never waits for another.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple


class State(IntEnum):
    """EC2's states by their codes; only the low byte counts."""

    PENDING = 0
    RUNNING = 16
    SHUTTING_DOWN = 32
    TERMINATED = 48
    STOPPING = 64
    STOPPED = 80

    @property
    def title(self) -> str:
        """As the API writes it: `shutting-down`."""
        return _TITLES[self]

    @property
    def is_settled(self) -> bool:
        """Whether it stays so until somebody wishes otherwise."""
        return self in {State.RUNNING, State.STOPPED, State.TERMINATED}


_TITLES = {state: state.name.lower().replace("_", "-") for state in State}
BY_TITLE = {title: state for state, title in _TITLES.items()}


class Operation(StrEnum):
    """What is under way with an instance; it decides what a failure means."""

    NONE = ""
    LAUNCH = "launch"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    DESCRIBE = "describe"
    TERMINATE = "terminate"


class Reason(NamedTuple):
    """EC2's StateReason: why an instance is as it is."""

    code: str = ""
    message: str = ""


USER_SHUTDOWN = Reason(
    "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"
)
GUEST_SHUTDOWN = Reason(
    "Client.InstanceInitiatedShutdown",
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
)

NEXT: dict[State, frozenset[State]] = {
    # A launch that fails ends at once, a start that fails falls back: neither ever ran.
    State.PENDING: frozenset(
        {State.RUNNING, State.STOPPING, State.SHUTTING_DOWN, State.STOPPED, State.TERMINATED}
    ),
    State.RUNNING: frozenset({State.STOPPING, State.SHUTTING_DOWN}),
    State.STOPPING: frozenset({State.STOPPED, State.SHUTTING_DOWN}),
    State.STOPPED: frozenset({State.PENDING, State.SHUTTING_DOWN}),
    State.SHUTTING_DOWN: frozenset({State.TERMINATED}),
    State.TERMINATED: frozenset(),
}


class ImpossibleStateError(Exception):
    """A bug: somebody wanted to lead an instance where no way goes."""


def advance(now: State, then: State) -> State:
    """`then`, if a way leads there from `now`; staying is always possible."""
    if then is not now and then not in NEXT[now]:
        raise ImpossibleStateError(f"no way leads from {now.title} to {then.title}")
    return then
