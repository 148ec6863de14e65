"""When the iterative pre-copy stops, and how fast it sends: decisions without I/O.

A driver sends passes and asks here after each. The default rule fits the rest into a downtime
budget; the two rules of Xen stand beside it, for comparison with published figures:
`xc_linux_save.c` (2005, `DEF_MAX_ITERS` 29, `DEF_MAX_FACTOR` 3) and `xg_sr_save.c`
(`SPP_MAX_ITERATIONS` 5, `SPP_TARGET_DIRTY_COUNT` 50).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mallee.domain.migration import Limits, Round

PAGE_BYTES = 4096
FEW_PAGES = 50
FITS, STUCK, ROUNDS, FACTOR, FORCED = "fits-budget", "no-progress", "max-rounds", "max-factor", "forced"

FIRST_THROTTLE, THROTTLE_STEP, MOST_THROTTLE = 20, 10, 99  # per cent; QEMU migration/options.c
THROTTLE_TRIGGER = 0.5  # dirtied per sent; QEMU's throttle-trigger-threshold
GAIN = 0.9  # a round that leaves more than this share of the round before gained nothing

_SHORT = 0.05  # of the budget: nothing is to be gained any more
_WORTH_A_ROUND = 0.5  # at most so much of what the round before had left

StopRule = Callable[[int, Sequence[Round]], str]
"""(pages of memory, rounds so far) -> the reason to stop, '' to go on."""

RateRule = Callable[[Sequence[Round]], float]
"""rounds so far -> megabits a second for the next."""


def transfer_seconds(pages: int, mbps: float) -> float:
    """How long `pages` take on a line of `mbps` (10^6 bits a second)."""
    return pages * PAGE_BYTES * 8 / (mbps * 1e6)


def dirty_mbps(last: Round) -> float:
    """The rate at which the guest dirtied memory during a round."""
    return last.pages_dirtied * PAGE_BYTES * 8 / (max(last.duration_ms, 1e-6) * 1e3)


def expected_downtime_ms(last: Round) -> float:
    """What stopping now would cost, at the rate just measured."""
    return transfer_seconds(last.pages_dirtied, last.bandwidth_mbps) * 1e3


def within(limits: Limits) -> StopRule:
    """Our rule: the budget first, then whatever says that going on is no use."""

    def stop(memory: int, rounds: Sequence[Round]) -> str:
        last = rounds[-1]
        if expected_downtime_ms(last) <= limits.downtime_budget_ms:
            return FITS
        if last.number >= limits.max_rounds:
            return ROUNDS
        if sum(each.pages_sent for each in rounds) > memory * limits.max_factor:
            return FACTOR
        can_slow_down = limits.auto_converge and last.throttle_percent < MOST_THROTTLE
        return STUCK if not can_slow_down and _stuck(memory, rounds) else ""

    return stop


def keen(limits: Limits) -> StopRule:
    """The same, but not content with the budget while a round more makes the stop half as long.

    Such a round takes about as long as the stop that it spares: a guest that stands still is dearer
    than one that runs.
    """
    fits = within(limits)

    def stop(memory: int, rounds: Sequence[Round]) -> str:
        reason = fits(memory, rounds)
        last = rounds[-1]
        short = expected_downtime_ms(last) <= limits.downtime_budget_ms * _SHORT
        if reason != FITS or short or last.number >= limits.max_rounds:
            return reason
        found = rounds[-2].pages_dirtied if len(rounds) > 1 else memory
        return "" if last.pages_dirtied <= found * _WORTH_A_ROUND else FITS

    return stop


def _stuck(memory: int, rounds: Sequence[Round]) -> bool:
    """Two rounds in a row that left about as much as they found: one may be a burst of the guest."""
    left = [memory, *(each.pages_dirtied for each in rounds)]
    return len(left) > 3 and left[-1] > GAIN * left[-2] and left[-2] > GAIN * left[-3]


def xen_old(fastest_mbps: float = 500.0, max_rounds: int = 29, max_factor: float = 3.0) -> StopRule:
    """`xc_linux_save`: also when a round at the highest rate sent more than the one before."""

    def stop(memory: int, rounds: Sequence[Round]) -> str:
        last = rounds[-1]
        found = rounds[-2].pages_dirtied if len(rounds) > 1 else memory
        if found < FEW_PAGES:
            return FITS
        if last.number >= max_rounds:
            return ROUNDS
        if sum(each.pages_sent for each in rounds) > memory * max_factor:
            return FACTOR
        grew = len(rounds) > 1 and last.pages_sent > rounds[-2].pages_sent
        return STUCK if grew and last.bandwidth_mbps >= 0.99 * fastest_mbps else ""

    return stop


def xen_new(max_rounds: int = 5) -> StopRule:
    """`xg_sr_save`: five rounds, or fewer than fifty dirty pages."""

    def stop(_memory: int, rounds: Sequence[Round]) -> str:
        if rounds[-1].pages_dirtied < FEW_PAGES:
            return FITS
        return ROUNDS if rounds[-1].number >= max_rounds else ""

    return stop


def clark(fastest_mbps: float = 500.0, step_mbps: float = 50.0) -> StopRule:
    """The rule as the paper tells it (section 4.3.1): the next rate would pass the highest, or under 256 KiB."""

    def stop(_memory: int, rounds: Sequence[Round]) -> str:
        last = rounds[-1]
        if last.pages_dirtied * PAGE_BYTES < 256 * 1024:
            return FITS
        return STUCK if dirty_mbps(last) + step_mbps > fastest_mbps else ""

    return stop


def steady(mbps: float) -> RateRule:
    """Every round as fast as allowed."""
    return lambda _rounds: mbps


def adaptive(slowest: float = 100.0, step: float = 50.0, fastest: float = 500.0) -> RateRule:
    """Clark et al. section 4.3.1: slow at first, then each round the last dirty rate and a step more."""

    def rate(rounds: Sequence[Round]) -> float:
        wished = dirty_mbps(rounds[-1]) + step if rounds else slowest
        return min(fastest, max(slowest, wished))

    return rate


def throttle_after(rounds: Sequence[Round]) -> int:
    """Auto-converge: the guest loses CPU once two rounds each dirtied over half of what they sent."""
    now = rounds[-1].throttle_percent
    if len(rounds) < 2 or any(r.pages_dirtied <= THROTTLE_TRIGGER * r.pages_sent for r in rounds[-2:]):
        return now
    return min(MOST_THROTTLE, now + THROTTLE_STEP) if now else FIRST_THROTTLE
