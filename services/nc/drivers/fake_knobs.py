"""Every way in which a pretend hypervisor can misbehave, from a test or by a tag of the guest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind


@dataclass(slots=True)
class Knobs:
    """What shall go wrong on a node, until it is taken out again.

    A guest's tags say the same for itself alone: `mallee:fail=start`, `mallee:hang=shut_down`,
    `mallee:slow=SECONDS`, `mallee:lie=digest`, `mallee:ends-after=SECONDS`; lists by comma.
    """

    fail: dict[str, Exception] = field(default_factory=dict)  # by verb
    hang: set[str] = field(default_factory=set)  # verbs that do not return while named here
    slow: float = 0.0  # seconds that every verb takes longer
    lie: bool = False  # received images get a wrong digest
    crash: Callable[[str], None] | None = None  # told each step by name before it happens; may raise

    async def meet(self, verb: str, tags: Mapping[str, str], clock: Clock) -> None:
        """Suffer what is set for this verb and guest."""
        self.step(verb)
        delay = self.slow + _seconds(tags, "mallee:slow")
        if delay > 0:
            await clock.sleep(delay)
        while verb in self.hang or verb in tags.get("mallee:hang", "").split(","):
            await clock.sleep(0.05)
        if verb in self.fail:
            raise self.fail[verb]
        if verb in tags.get("mallee:fail", "").split(","):
            raise Fault(
                Kind.INTERNAL,
                f"The guest refused to {verb.replace('_', ' ')}.",
                why=f"Its tag mallee:fail names {verb}.",
                fix="Take the tag away.",
                code=f"{verb.replace('_', '-')}-failed",
            )

    def step(self, name: str) -> None:
        """A named moment inside a verb, where a test may end the world."""
        if self.crash is not None:
            self.crash(name)

    def lies(self, tags: Mapping[str, str]) -> bool:
        return self.lie or tags.get("mallee:lie") == "digest"


def ends_after(tags: Mapping[str, str]) -> float:
    """Seconds after which the guest powers itself off; 0 for never."""
    return _seconds(tags, "mallee:ends-after")


def _seconds(tags: Mapping[str, str], name: str) -> float:
    try:
        return max(0.0, float(tags.get(name, "0")))
    except ValueError:
        return 0.0  # tags are the user's, and no reason for a node to stumble
