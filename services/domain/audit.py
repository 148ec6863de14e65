"""What must hold of the whole cloud at any time, and how it is told that it does not.

The parties of a cloud are asked one after another, so what differs in one look may be a message on its
way. A `Finding` therefore says how long it must stay the same before it is a violation: no time at
all where one snapshot proves it, two looks where two parties are compared, a minute where something
is under way. `Doubts` keeps that account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# Seconds for which a finding must be seen unchanged.
PROVEN = 0.0  # by one snapshot
TWO_LOOKS = 5.0  # longer than any message is under way between services that are well
LEFTOVER = 15.0  # what a node was told to destroy
MOST_TOLD = 1000  # of findings in one answer
_MOST_LOGGED = 100  # of one look: when a whole zone is wrong, more lines say no more
LATE = 60.0  # what is under way must be over, or must at least have moved


class Invariant(StrEnum):
    """The rules, by the numbers that `docs/reliability.md` gives them."""

    RUNS_ONCE = "I1"
    RUNS_WHERE_RECORDED = "I2"
    ENDED_IS_GONE = "I3"
    STATES_FOLLOW_THE_GRAPH = "I4"
    ROOM_IS_WHAT_IS_USED = "I6"
    ADDRESSES_ARE_HELD_ONCE = "I9"
    SAGAS_END = "I10"
    WORK_IS_FINISHED = "I22"

    @property
    def rule(self) -> str:
        """For people: `runs once`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be.

    Args:
        subject: the id of what it is about.
        what, why, fix: the three parts of an error; `why` holds what was compared, so a finding is the
            same one only as long as that is.
        after: seconds for which it must stay the same to be a violation.
    """

    invariant: Invariant
    subject: str
    what: str
    why: str
    fix: str
    after: float = field(default=TWO_LOOKS, compare=False)
    zone: str = ""


class Doubts:
    """The findings of look after look; a gap of one look ends a doubt."""

    def __init__(self) -> None:
        self._since: dict[Finding, float] = {}
        self._violations: dict[Finding, float] = {}

    def look(self, findings: Iterable[Finding], now: float) -> tuple[list[Finding], list[Finding]]:
        """Take in one whole look; violations that are new with it, and those that are over.

        Args:
            findings: of this look.
            now: seconds on a monotonic clock.
        """
        since = {found: self._since.get(found, now) for found in findings}
        true = {found: began for found, began in since.items() if now - began >= found.after}
        new = [found for found in true if found not in self._violations]
        over = [found for found in self._violations if found not in true]
        self._since, self._violations = since, true
        return new, over

    @property
    def violations(self) -> list[Finding]:
        """What is certain after the last look, by rule and subject."""
        return sorted(self._violations, key=lambda found: (found.invariant, found.zone, found.subject))

    def wait(self, now: float, patience: float) -> float:
        """Seconds until doubts of at most that patience are cleared up; 0 when there are none."""
        open_ = [began + found.after for found, began in self._since.items() if found not in self._violations]
        return max((due - now for due in open_ if due - now <= patience), default=0.0)


def tell(log: Any, doubts: Doubts, findings: Iterable[Finding], now: float) -> None:
    """Take a look in, and tell the log of what it has made certain and of what is over."""
    new, over = doubts.look(findings, now)
    if len(new) > _MOST_LOGGED:
        log.error("many violations at once", alarm="audit", count=len(new), told=_MOST_LOGGED)
    for found in new[:_MOST_LOGGED]:
        log.error(
            found.what,
            alarm="audit",
            invariant=found.invariant,
            subject=found.subject,
            zone=found.zone,
            why=found.why,
            fix=found.fix,
        )
    for found in over[:_MOST_LOGGED]:
        log.info("audit: no longer so", what=found.what, invariant=found.invariant, subject=found.subject)
