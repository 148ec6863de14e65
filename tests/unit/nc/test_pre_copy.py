"""When copying stops and how fast it goes, without copying anything."""

from __future__ import annotations

import pytest

from mallee.domain.migration import Limits, Round
from mallee.nc.drivers import pre_copy

MEMORY = 100_000


def rounds(*left: int, mbps: float = 1000.0, sent: int | None = None, throttle: int = 0) -> list[Round]:
    """Rounds that left so many dirty pages, each having sent what the one before had left."""
    found, told = MEMORY, []
    for number, dirtied in enumerate(left, 1):
        pages = found if sent is None else sent
        seconds = pre_copy.transfer_seconds(pages, mbps)
        told.append(Round(number, pages, pages * 4096, dirtied, seconds * 1e3, mbps, throttle))
        found = dirtied
    return told


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ((50_000,), ""),
        ((9_000,), "fits-budget"),  # 9,000 pages need 295 ms at a gigabit
        ((9_200,), ""),
        ((60_000, 30_000, 20_000), ""),
        ((60_000, 59_000), ""),  # once is a burst
        ((60_000, 59_000, 58_000), "no-progress"),
        ((60_000, 70_000, 80_000), "no-progress"),
    ],
)
def test_the_budget_decides_and_a_standstill_ends_it(left: tuple[int, ...], reason: str) -> None:
    assert pre_copy.within(Limits())(MEMORY, rounds(*left)) == reason


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ((9_000,), ""),  # it would fit, and a round more is cheap
        ((9_000, 4_000), ""),
        ((9_000, 4_000, 400), "fits-budget"),  # 13 ms
        ((9_000, 8_000), "fits-budget"),  # it does not get better
        ((50_000,), ""),
        ((60_000, 59_000, 58_000), "no-progress"),
    ],
)
def test_a_stop_is_made_shorter_while_that_is_cheap(left: tuple[int, ...], reason: str) -> None:
    assert pre_copy.keen(Limits())(MEMORY, rounds(*left)) == reason


def test_limits_end_it() -> None:
    assert pre_copy.within(Limits(max_rounds=2))(MEMORY, rounds(90_000, 40_000)) == "max-rounds"
    assert pre_copy.within(Limits(max_factor=1.5))(MEMORY, rounds(90_000, 40_000)) == "max-factor"


def test_no_standstill_while_the_guest_can_be_slowed() -> None:
    stuck = (60_000, 60_000, 60_000)
    rule = pre_copy.within(Limits(auto_converge=True))
    assert rule(MEMORY, rounds(*stuck, throttle=20)) == ""
    assert rule(MEMORY, rounds(*stuck, throttle=99)) == "no-progress"


def test_the_old_rule_of_xen() -> None:
    rule = pre_copy.xen_old()
    assert rule(MEMORY, rounds(40_000, 20_000)) == ""
    assert rule(MEMORY, rounds(40, 10)) == "fits-budget"  # the second round found 40 pages
    assert rule(MEMORY, rounds(*[60_000] * 3)) == ""
    assert rule(MEMORY, rounds(*[95_000] * 4)) == "max-factor"
    assert rule(MEMORY, rounds(*[10_000 - n for n in range(29)])) == "max-rounds"


def test_the_old_rule_ends_when_a_round_at_full_rate_grew() -> None:
    growing = rounds(10_000, 20_000, 30_000)  # the third sent 20,000 after 10,000
    assert pre_copy.xen_old(fastest_mbps=1000.0)(MEMORY, growing) == "no-progress"
    assert pre_copy.xen_old(fastest_mbps=2000.0)(MEMORY, growing) == ""


def test_the_new_rule_of_xen() -> None:
    rule = pre_copy.xen_new()
    assert rule(MEMORY, rounds(50)) == ""
    assert rule(MEMORY, rounds(49)) == "fits-budget"
    assert rule(MEMORY, rounds(*[60_000] * 4)) == ""
    assert rule(MEMORY, rounds(*[60_000] * 5)) == "max-rounds"


def test_the_rate_follows_the_guest() -> None:
    rate = pre_copy.adaptive()
    assert rate([]) == 100.0
    # 100,000 pages at 1,000 Mbit/s take 3.28 s; 30,000 dirtied in it are 300 Mbit/s
    assert rate(rounds(30_000)) == pytest.approx(350.0)
    assert rate(rounds(100)) == 100.0
    assert rate(rounds(90_000)) == 500.0


def test_throttling_begins_at_the_second_bad_round_and_ends_below_a_standstill() -> None:
    assert pre_copy.throttle_after(rounds(60_000)) == 0
    assert pre_copy.throttle_after(rounds(60_000, 50_000)) == 20
    assert pre_copy.throttle_after(rounds(60_000, 10_000)) == 0
    assert pre_copy.throttle_after(rounds(60_000, 50_000, throttle=20)) == 30
    assert pre_copy.throttle_after(rounds(60_000, 50_000, throttle=90)) == 99
    assert pre_copy.throttle_after(rounds(60_000, 50_000, throttle=99)) == 99
