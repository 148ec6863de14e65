"""A node's lease, and the restart of its guest elsewhere: two clocks, lost messages, processes that die.

What each part stands for:

    left               what remains of the lease by the node's own clock (`nc/lease.py: Lease`); it counts from the
                       moment the renewal was *sent*, so a grant that took long is worth less
    kept               the deadline on the node's disk (`nc/lease_file.py`), which outlives the process
    message, age       one renewal on its way to the controller, or its grant on the way back, and how long ago, by
                       the node's clock, it was sent (`nc/attendance.py`)
    guest              on the node: it runs, is paused by the lapse, or was destroyed (`nc/guests.py`)
    up, overdue        the node controller; while it is down nobody pauses anything, and for how long that was so
                       past the deadline
    silence            since the last renewal that arrived, by the controller's clock (`cc/nodes.py: Nodes.renew`);
                       negative when a successor waits for what its predecessor may still grant (`held_on`)
    predecessor        for how long a deposed controller goes on granting (`Nodes._may_grant`, `hold_seconds`)
    elsewhere          the guest's next generation, started on another node once `silence` reached the fence
    skew               how far the controller's clock may still run ahead of the node's

Time moves in ticks: a lease is three of them, and a node is fenced after two leases (`lease_margin`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from tests.model.search import Event, Model

LEASE = 3
FENCE = 2 * LEASE
HOLD = 2
DRIFT = 1  # ticks by which one clock may outrun the other in the time of two leases
OVERDUE = 1  # ticks past the deadline for which no node controller may live to pause; see `Faults.stays_dead`


class Guest(StrEnum):
    """The copy on the node."""

    RUNS = "runs"
    PAUSED = "paused"
    GONE = "gone"


class State(NamedTuple):
    """Everything there is; see above."""

    guest: Guest = Guest.RUNS
    up: bool = True
    overdue: int = 0
    left: int = LEASE
    kept: int = LEASE
    message: str = ""  # "", renewal, grant
    age: int = 0
    host: bool = True
    silence: int = 0
    predecessor: int = 0
    elsewhere: bool = False
    skew: int = DRIFT


class Faults(NamedTuple):
    """What is wrong with the protocol, for controls that must fail; by default nothing."""

    fence_without_margin: bool = False
    counts_from_the_grant: bool = False
    a_restart_begins_a_new_lease: bool = False
    stays_dead: bool = False
    resumes_without_orders: bool = False
    successor_does_not_wait: bool = False
    attendance_ends_the_wait: bool = False
    never_pauses: bool = False


class Lease:
    """The rules, with or without a fault in the protocol."""

    def __init__(self, faults: Faults = Faults()) -> None:  # noqa: B008 - a tuple
        self._wrong = faults
        self._fence = LEASE if faults.fence_without_margin else FENCE

    def model(self) -> Model[State]:
        return Model(State(), self.events, self.bad, self.good)

    def bad(self, s: State) -> str:
        if s.guest is Guest.RUNS and s.elsewhere:
            return "the guest runs on its node and elsewhere"
        if s.guest is Guest.GONE and s.host and not s.elsewhere:
            return "the guest was destroyed, and runs nowhere"
        return ""

    def good(self, s: State) -> bool:
        """It runs in exactly one place, and nothing is left in the other."""
        return s.elsewhere != (s.guest is Guest.RUNS) and s.guest is not Guest.PAUSED

    def events(self, s: State) -> Iterator[Event[State]]:
        yield from self._time(s)
        if s.host:
            yield from self._node(s)
        yield from self._controller(s)
        yield from self._misfortune(s)

    # Time.

    def _time(self, s: State) -> Iterator[Event[State]]:
        """Both clocks tick, or the controller's alone. Nothing that is due at once is put off for a tick."""
        if s.overdue >= OVERDUE and not (self._wrong.stays_dead or self._wrong.never_pauses):
            return
        if s.host and s.up and s.left == 0 and s.guest is Guest.RUNS and not self._wrong.never_pauses:
            return  # the lease's own timer pauses before anything later happens (`Lease.watch`)
        yield Event("a tick", self._node_tick(self._controller_tick(s)))
        if s.skew > 0:
            ahead = self._controller_tick(s)._replace(skew=s.skew - 1)
            yield Event("a tick of the controller's clock alone", ahead, fault=True)

    def _controller_tick(self, s: State) -> State:
        return s._replace(silence=min(s.silence + 1, self._fence), predecessor=max(0, s.predecessor - 1))

    @staticmethod
    def _node_tick(s: State) -> State:
        return s._replace(
            left=max(0, s.left - 1),
            kept=max(0, s.kept - 1),
            age=min(s.age + 1, LEASE) if s.message else 0,
            overdue=min(s.overdue + 1, OVERDUE) if s.guest is Guest.RUNS and s.kept == 0 else 0,
        )

    # The node.

    def _node(self, s: State) -> Iterator[Event[State]]:
        if not s.up:
            yield Event("the node controller starts again", self._started(s))
            return
        if not s.message:
            yield Event("the node sends a renewal", s._replace(message="renewal", age=0))
        if s.message == "grant":
            worth = LEASE if self._wrong.counts_from_the_grant else max(0, LEASE - s.age)
            left = max(s.left, worth)
            granted = s._replace(message="", age=0, left=left, kept=left, overdue=0 if left else s.overdue)
            yield Event(
                "the grant arrives", self._resumed(granted) if self._wrong.resumes_without_orders else granted
            )
        if s.left == 0 and s.guest is Guest.RUNS and not self._wrong.never_pauses:
            yield Event(
                "the lease lapses, and the guest is paused", s._replace(guest=Guest.PAUSED, overdue=0)
            )

    def _started(self, s: State) -> State:
        """The guest is adopted as it is, on what its lease has left by the deadline on the disk."""
        left = LEASE if self._wrong.a_restart_begins_a_new_lease else s.kept
        return s._replace(up=True, left=left, kept=left)

    @staticmethod
    def _resumed(s: State) -> State:
        return s._replace(guest=Guest.RUNS) if s.guest is Guest.PAUSED and s.left > 0 else s

    # The controller.

    def _controller(self, s: State) -> Iterator[Event[State]]:
        if s.message == "renewal":
            drift = DRIFT  # what the clocks may do is counted anew from here
            granted = s._replace(message="grant", silence=min(s.silence, 0), skew=drift)
            yield Event("the renewal arrives", granted)
            if s.predecessor > 0:
                yield Event("the renewal arrives at the predecessor", s._replace(message="grant"))
        if s.silence >= self._fence and not s.elsewhere:
            yield Event("the guest is started elsewhere", s._replace(elsewhere=True))
        # Orders come with the node's new line, whole, to a node that holds its lease.
        if s.host and s.up and s.left > 0:
            if s.elsewhere and s.guest is not Guest.GONE:
                yield Event("the node is told to destroy what is superseded", s._replace(guest=Guest.GONE))
            if not s.elsewhere and s.guest is Guest.PAUSED:
                silence = 0 if self._wrong.attendance_ends_the_wait else min(s.silence, 0)
                yield Event(
                    "the node is told to resume its guest", self._resumed(s._replace(silence=silence))
                )

    # Faults.

    def _misfortune(self, s: State) -> Iterator[Event[State]]:
        if s.message:
            yield Event(f"the {s.message} is lost", s._replace(message="", age=0), fault=True)
        if s.host and s.up:
            dead = s._replace(up=False, left=0, message="", age=0)
            yield Event("the node controller dies", dead, fault=True)
        if s.host:
            gone = s._replace(
                host=False, up=False, guest=Guest.GONE, message="", age=0, left=0, kept=0, overdue=0
            )
            yield Event("the host dies", gone, fault=True)
        yield Event("the controller starts anew", s._replace(silence=min(s.silence, 0)), fault=True)
        if s.predecessor == 0:
            wait = 0 if self._wrong.successor_does_not_wait else -HOLD
            succeeded = s._replace(predecessor=HOLD, silence=wait)
            yield Event("another controller takes over", succeeded, fault=True)
