"""A live migration from its reservation to its end, with every fault that its parties can meet.

What each part stands for:

    pc                 the saga's log (`kernel/saga/run.py`): which verb is said next; durable, so a controller
                       that starts anew says the verb of its `pc` again
    calling            a verb is said and not answered yet; lost when the controller dies
    owner              the placement row in the zone's database; `commit` is the compare-and-swap of
                       `cc/migration/desk.py: Desk.move`, within stage 4
    a, b               the copies on the disks of A and B (`nc/drivers`); they outlive the node controllers
    a_over, b_over     tombstones of the migration (`nc/db/tombstones.py: Graveyard.call_off`)
    a_session          the sender of stage 2 and 3, in A's memory (`nc/migration.py: _Outgoing`)
    b_session          the receiver, in B's memory (`_Incoming`)
    late               verbs whose caller has given up, and which may still arrive, once or more often

The verbs are those of `cc/migration/live.py`, in the order of its steps and their undos:

    prepare            Reservation.do           -> Migrations.prepare
    pre_copy           IterativePreCopy.do      -> Migrations.pre_copy
    stop_and_copy      StopAndCopy.do           -> Migrations.stop_and_copy and its task `_finish`
    verify, commit     Commitment.do            -> Migrations.verify; Desk.move
    activate, discard  Activation.do            -> Migrations.activate, Migrations.discard
    abandon, resume    the undos, B before A    -> Migrations.abandon, Migrations.resume

Left out, because nothing here depends on it: what the pages hold (one bit says whether the copy is whole), the
limits of the pre-copy, and capacity. What a lapse of a node's lease does to a guest is here (`lapsed`); when it
comes is the matter of `lease.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from tests.model.search import Event, Model

LATE_AT_ONCE = 3  # verbs on the wire whose caller has given up


class Copy(StrEnum):
    """A guest's copy, as its node's disk has it."""

    NONE = "none"
    RUNS = "runs"
    LAPSED = "paused by the lapse of its node's lease"
    STOPPED = "paused for the migration"  # and no digest yet
    HANDED_OVER = "paused and handed over"
    INCOMING = "incoming"
    ENDED = "ended"  # destroyed, with a tombstone of its generation


class State(NamedTuple):
    """Everything there is; see above."""

    pc: str = "prepare"
    calling: bool = False
    up: bool = True  # the controller
    cancelled: bool = False
    owner: str = "A"
    a: Copy = Copy.RUNS
    a_over: bool = False
    a_session: str = ""  # "", ready, stopping, sent
    a_host: bool = True
    b: Copy = Copy.NONE
    b_whole: bool = False
    b_over: bool = False
    b_session: bool = False
    b_host: bool = True
    late: tuple[str, ...] = ()


class Faults(NamedTuple):
    """What is wrong with the protocol, for controls that must fail; by default nothing."""

    source_resumes_by_itself: bool = False
    activates_before_the_commit: bool = False
    goes_back_after_the_commit: bool = False
    forgets_what_was_called_off: bool = False
    restart_wakes_the_paused: bool = False
    does_not_compare: bool = False
    gives_up_on_its_undo: bool = False
    prepare_empties_a_whole_copy: bool = False


GONE = frozenset({Copy.NONE, Copy.ENDED})
ON_A = frozenset({"pre_copy", "stop_and_copy", "resume", "discard"})
NEXT = {
    "prepare": "pre_copy",
    "pre_copy": "stop_and_copy",
    "stop_and_copy": "verify",
    "verify": "commit",
    "activate": "discard",
    "discard": "done",
    "abandon 3": "resume 3",
    "resume 3": "abandon 2",
    "abandon 2": "resume 2",
    "resume 2": "abandon 1",
    "abandon 1": "undone",
}
# Where a saga goes on that fails at a step: the undo of that step first.
BACK = {
    "prepare": "abandon 1",
    "pre_copy": "abandon 2",
    "stop_and_copy": "abandon 3",
    "verify": "abandon 3",
    "commit": "abandon 3",
}
OVER = frozenset({"done", "undone"})
Answer = tuple[State, str]  # the state after the verb, and: ok, refused, or '' while it is being done


class SwitchOver:
    """The rules, with or without a fault in the protocol."""

    def __init__(self, faults: Faults = Faults()) -> None:  # noqa: B008 - a tuple
        self._wrong = faults
        self._verbs: dict[str, Callable[[State], Answer]] = {
            "prepare": self._prepare,
            "pre_copy": self._pre_copy,
            "stop_and_copy": self._stop_and_copy,
            "verify": self._verify,
            "activate": self._activate,
            "discard": self._discard,
            "abandon": self._abandon,
            "resume": self._resume,
        }
        self._next = dict(NEXT)
        if faults.activates_before_the_commit:
            self._next |= {"verify": "activate early", "activate early": "commit"}

    def model(self) -> Model[State]:
        return Model(State(), self.events, self.bad, self.good)

    # What must hold.

    def bad(self, s: State) -> str:
        wrong = {
            "the guest runs twice": s.a is Copy.RUNS and s.b is Copy.RUNS,
            "a copy runs that is not whole": s.b in {Copy.RUNS, Copy.LAPSED} and not s.b_whole,
            "the copy on B runs, and the record says A": s.b is Copy.RUNS and s.owner == "A",
            "the copy on A runs, and the record says B": s.a is Copy.RUNS and s.owner == "B",
            "the record says B, and B has no copy": s.owner == "B" and s.b_host and s.b in GONE,
            "the record says A, and A has no copy": s.owner == "A" and s.a_host and s.a in GONE,
        }
        return next((what for what, is_so in wrong.items() if is_so), "")

    def good(self, s: State) -> bool:
        """All is over, and the guest runs on the node that the record names, if its host lives, and nowhere else."""
        if not s.up or s.pc not in OVER or s.late:
            return s.up and not self._owner_lives(s)
        if not self._owner_lives(s):
            return True
        here, there = (s.a, s.b) if s.owner == "A" else (s.b, s.a)
        return here is Copy.RUNS and there in GONE

    @staticmethod
    def _owner_lives(s: State) -> bool:
        return s.a_host if s.owner == "A" else s.b_host

    # What may happen.

    def events(self, s: State) -> Iterator[Event[State]]:
        yield from self._controller(s)
        yield from self._nodes(s)
        yield from self._arrivals(s)
        yield from self._misfortune(s)

    def _controller(self, s: State) -> Iterator[Event[State]]:
        if not s.up:
            yield Event("the controller starts again", s._replace(up=True))
            return
        if s.pc in OVER:
            yield from self._convergence(s)
            return
        if s.pc == "commit" and not s.calling:
            if s.cancelled:
                yield Event("the controller goes back", s._replace(pc=BACK["commit"]))
            yield Event("the placement moves to B", s._replace(owner="B", pc="activate"))
            return
        if not s.calling:
            if s.cancelled and s.pc in BACK:
                yield Event("the controller goes back", s._replace(pc=BACK[s.pc]))
            else:
                yield Event(f"the controller says {s.pc}", s._replace(calling=True))
            return
        yield from self._answers(s)

    def _answers(self, s: State) -> Iterator[Event[State]]:
        """The call arrives and is answered; or its answer, or the call, is lost, or is late."""
        verb, node = s.pc.split()[0], "A" if s.pc.split()[0] in ON_A else "B"
        alive = s.a_host if node == "A" else s.b_host
        if alive:
            after, answer = self._verbs[verb](s)
            if answer:
                yield Event(f"{node} does {s.pc}: {answer}", self._told(after, answer))
                yield Event(
                    f"{node} does {s.pc}: {answer}, and the answer is lost",
                    self._told(after, "lost"),
                    fault=True,
                )
            elif after != s:
                yield Event(f"{node} begins {s.pc}", after)
            if verb not in s.late and len(s.late) < LATE_AT_ONCE:
                late = s._replace(late=tuple(sorted((*s.late, verb))))
                yield Event(
                    f"{s.pc} is late, and the controller gives up waiting",
                    self._told(late, "lost"),
                    fault=True,
                )
        yield Event(f"{s.pc} cannot be said", self._told(s, "lost"), fault=alive)
        if s.cancelled and s.pc == "pre_copy":
            yield Event("the controller ends the pre-copy", s._replace(calling=False, pc=BACK[s.pc]))

    def _told(self, s: State, answer: str) -> State:
        """Where the saga goes with this answer; by default it says the same once more."""
        s = s._replace(calling=False)
        if answer == "ok":
            return s._replace(pc=self._next[s.pc])
        if s.pc in BACK:
            return s._replace(pc=BACK[s.pc])
        if s.pc == "activate early" or (self._wrong.goes_back_after_the_commit and s.pc == "activate"):
            return s._replace(pc="abandon 3")
        return s._replace(pc=self._next[s.pc]) if self._passed_over(s, answer) else s

    def _passed_over(self, s: State, answer: str) -> bool:
        """Whether an undo, or a step of no return, goes on without its verb."""
        verb = s.pc.split()[0]
        if answer == "refused":  # the copy is gone: there is nothing to wake or to drop
            return verb in {"resume", "activate", "discard"}
        if answer == "lost" and verb == "resume":
            return self._wrong.gives_up_on_its_undo
        # Only a node that is away is passed over: its return drops what is superseded.
        away = not (s.b_host if verb == "abandon" else s.a_host)
        return answer == "lost" and verb in {"abandon", "discard"} and away

    @staticmethod
    def _convergence(s: State) -> Iterator[Event[State]]:
        """`Convergence._superseded`: once the migration is over, whatever is not the guest is destroyed."""
        if s.owner == "A" and s.b is Copy.INCOMING and s.b_host:
            yield Event("B destroys what is superseded", s._replace(b=Copy.ENDED, b_session=False))
        if s.owner == "B" and s.a not in GONE and s.a_host:
            yield Event("A destroys what is superseded", s._replace(a=Copy.ENDED, a_session=""))

    @staticmethod
    def _nodes(s: State) -> Iterator[Event[State]]:
        """`Migrations._finish` goes on by itself; a lapsed lease comes back with all orders."""
        if s.a_session == "stopping":
            if s.b is Copy.INCOMING and s.b_session:
                sent = s._replace(a_session="sent")
                yield Event("A sends the rest", sent._replace(b_whole=True))
                yield Event("A sends the rest, and a page is damaged", sent, fault=True)
            else:
                yield Event("A cannot send the rest", s._replace(a_session=""))
        elif s.a_session == "sent":
            yield Event("A records its digest", s._replace(a=Copy.HANDED_OVER, a_session=""))
        if s.a is Copy.LAPSED and s.owner == "A":
            yield Event("A renews its lease and resumes", s._replace(a=Copy.RUNS))
        if s.b is Copy.LAPSED and s.owner == "B":
            yield Event("B renews its lease and resumes", s._replace(b=Copy.RUNS))

    def _arrivals(self, s: State) -> Iterator[Event[State]]:
        """What is late arrives, once or twice, or never."""
        for verb in s.late:
            rest = tuple(each for each in s.late if each != verb)
            yield Event(f"the late {verb} is lost", s._replace(late=rest))
            if s.a_host if verb in ON_A else s.b_host:
                after = self._verbs[verb](s)[0]
                yield Event(f"the late {verb} arrives", after._replace(late=rest), fault=True)
                yield Event(f"the late {verb} arrives, and another one is behind it", after, fault=True)

    def _misfortune(self, s: State) -> Iterator[Event[State]]:
        if s.up:
            down = s._replace(up=False, calling=False)
            yield Event("the controller dies", down, fault=True)
            verb = s.pc.split()[0]
            if s.calling and verb in self._verbs and verb not in s.late and len(s.late) < LATE_AT_ONCE:
                late = tuple(sorted((*s.late, verb)))
                yield Event(
                    f"the controller dies with {verb} on the wire", down._replace(late=late), fault=True
                )
        if not s.cancelled and s.pc in BACK:
            yield Event("somebody cancels", s._replace(cancelled=True), fault=True)
        if s.a_host:
            yield Event("the controller of A starts anew", self._restarted(s, "A"), fault=True)
            dead = s._replace(a_host=False, a=Copy.NONE, a_session="")
            yield Event("the host of A dies", dead, fault=True)
            if s.a is Copy.RUNS:
                yield Event("the lease of A lapses", s._replace(a=Copy.LAPSED), fault=True)
            if self._wrong.source_resumes_by_itself and s.a in {Copy.STOPPED, Copy.HANDED_OVER}:
                yield Event("A waits no longer and resumes", s._replace(a=Copy.RUNS, a_session=""))
        if s.b_host:
            yield Event("the controller of B starts anew", self._restarted(s, "B"), fault=True)
            dead = s._replace(b_host=False, b=Copy.NONE, b_session=False, b_whole=False)
            yield Event("the host of B dies", dead, fault=True)
            if s.b is Copy.RUNS:
                yield Event("the lease of B lapses", s._replace(b=Copy.LAPSED), fault=True)

    def _restarted(self, s: State, node: str) -> State:
        if node == "B":
            return s._replace(b_session=False)
        wakes = self._wrong.restart_wakes_the_paused and s.a in {Copy.STOPPED, Copy.HANDED_OVER}
        return s._replace(a_session="", a=Copy.RUNS if wakes else s.a)

    # What the nodes do: `services/nc/migration.py`, verb by verb.

    def _dead(self, over: bool, copy: Copy) -> bool:
        """`_refuse_dead`: the migration was called off here, or the generation has ended."""
        return (over and not self._wrong.forgets_what_was_called_off) or copy is Copy.ENDED

    def _prepare(self, s: State) -> Answer:
        if self._dead(s.b_over, s.b) or s.b in {Copy.RUNS, Copy.LAPSED}:
            return s, "refused"
        if s.b_session:
            return s, "ok"
        if s.b_whole and not self._wrong.prepare_empties_a_whole_copy:
            return s, "refused"
        return s._replace(b=Copy.INCOMING, b_whole=False, b_session=True), "ok"

    def _pre_copy(self, s: State) -> Answer:
        if self._dead(s.a_over, s.a):
            return s, "refused"
        s = s._replace(a_session="")
        open_ = s.b is Copy.INCOMING and s.b_session and not self._dead(s.b_over, s.b)
        if s.a is not Copy.RUNS or not open_:
            return s, "refused"
        return s._replace(a_session="ready", b_whole=False), "ok"

    def _stop_and_copy(self, s: State) -> Answer:
        if self._dead(s.a_over, s.a):
            return s, "refused"
        if s.a is Copy.HANDED_OVER:
            return s, "ok"
        if s.a_session == "ready" and s.a in {Copy.RUNS, Copy.LAPSED}:
            return s._replace(a=Copy.STOPPED, a_session="stopping"), ""
        return s, "" if s.a_session else "refused"

    def _verify(self, s: State) -> Answer:
        if self._wrong.does_not_compare and s.b is Copy.INCOMING:
            return s, "ok"
        whole = s.b is Copy.INCOMING and s.b_whole and not self._dead(s.b_over, s.b)
        return s, "ok" if whole else "refused"

    def _activate(self, s: State) -> Answer:
        if self._dead(s.b_over, s.b) or s.b is Copy.NONE:
            return s, "refused"
        if s.b is Copy.INCOMING:
            if not s.b_whole and not self._wrong.does_not_compare:
                return s, "conflict"  # which is no reason to pass it over: it is said again
            s = s._replace(b=Copy.RUNS)
        return s._replace(b_session=False), "ok"

    def _discard(self, s: State) -> Answer:
        return s._replace(a=Copy.ENDED, a_over=True, a_session=""), "ok"

    def _abandon(self, s: State) -> Answer:
        if s.b in {Copy.RUNS, Copy.LAPSED}:
            return s, "refused"
        b = Copy.NONE if s.b is Copy.INCOMING else s.b
        return s._replace(b=b, b_over=True, b_session=False, b_whole=False), "ok"

    def _resume(self, s: State) -> Answer:
        s = s._replace(a_over=True, a_session="")
        if s.a in {Copy.STOPPED, Copy.HANDED_OVER}:
            s = s._replace(a=Copy.RUNS)
        return s, "ok"
