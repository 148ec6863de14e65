"""A node's right to run guests: granted by its cluster controller, and lost by silence.

The lease counts from the moment the node *sent* a renewal, on the clock that also runs while the
machine sleeps, so the node never believes in it longer than the granting side, whatever the
network does. The deadline outlives the process (`lease_file`): a controller that starts anew lets its
adopted guests run for as long as its predecessor might have, and not a moment longer, so no number
of restarts stretches a lease. The granting side waits for two leases before it starts anything
elsewhere: the second one is for clocks that differ, and for the time until a controller that died
lives again, as nobody else pauses its guests.
"""

from __future__ import annotations

from collections.abc import Callable

from mallee.kernel.clock import Clock

LATE_SECONDS = 0.1
KEPT_SENDINGS = 64  # a grant for an older renewal would have lapsed anyway


def _forget(_deadline: float) -> None:
    """For a lease that nobody will inherit."""


class Lease:
    """One node's.

    Args:
        seconds: how long one grant lasts until the cluster controller says otherwise.
        until: the deadline that a predecessor left; None for a node that never had one, which gets one lease.
        keep: writes each new deadline down, before it counts.
    """

    def __init__(
        self,
        clock: Clock,
        seconds: float = 10.0,
        *,
        until: float | None = None,
        keep: Callable[[float], None] = _forget,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._keep = keep
        longest = clock.boot() + seconds  # a deadline of before the host was booted says nothing
        self._until = longest if until is None else min(until, longest)
        keep(self._until)
        self._sent: dict[int, float] = {}
        self._sequence = 0

    def set_seconds(self, seconds: float) -> None:
        """How long the next grants last."""
        self._seconds = seconds

    def send(self) -> int:
        """The sequence of a renewal that is being sent now."""
        self._sequence += 1
        self._sent[self._sequence] = self._clock.boot()
        self._sent.pop(self._sequence - KEPT_SENDINGS, None)
        return self._sequence

    def grant(self, sequence: int) -> bool:
        """Take a grant; False when it came too late to be of use, or answers nothing we sent."""
        sent = self._sent.pop(sequence, None)
        if sent is None:
            return False
        until = max(self._until, sent + self._seconds)
        self._keep(until)
        self._until = until
        return self.held

    @property
    def held(self) -> bool:
        return self._clock.boot() < self._until

    async def watch(self, lapsed: Callable[[], None]) -> None:
        """Call `lapsed` each time the lease runs out, until cancelled."""
        told_of = float("-inf")  # the end that was told: another may pass unseen while this process hangs
        while True:
            left = self._until - self._clock.boot()
            if left > 0:
                await self._clock.sleep(left)
                if self._clock.boot() - self._until >= LATE_SECONDS:
                    # Whoever wakes so late was busy, and the grant that came meanwhile is read in a moment.
                    await self._clock.sleep(LATE_SECONDS)
                continue
            if told_of != self._until:
                told_of = self._until
                lapsed()
            await self._clock.sleep(min(1.0, self._seconds / 4))
