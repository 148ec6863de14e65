"""A lease counts from the sending, on the boot clock, and nothing but a grant prolongs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mallee.kernel.clock import ManualClock
from mallee.nc.lease import Lease


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def lease(clock: ManualClock) -> Lease:
    return Lease(clock, 10.0)


@pytest.fixture
async def lapses(clock: ManualClock, lease: Lease) -> AsyncIterator[list[float]]:
    told: list[float] = []
    watching = asyncio.ensure_future(lease.watch(lambda: told.append(clock.boot())))
    await clock.settle()
    yield told
    watching.cancel()


async def test_a_start_has_one_lease_of_grace(clock: ManualClock, lease: Lease, lapses: list[float]) -> None:
    await clock.advance(9.9)
    assert lease.held
    await clock.advance(0.2)
    assert not lease.held
    assert lapses == [pytest.approx(10.0)]


async def test_a_late_grant_counts_from_its_sending(clock: ManualClock, lease: Lease) -> None:
    await clock.advance(5)
    sequence = lease.send()
    await clock.advance(9)
    assert lease.grant(sequence)
    assert lease.held
    await clock.advance(1.1)
    assert not lease.held


async def test_a_grant_after_its_own_end_is_worth_nothing(clock: ManualClock, lease: Lease) -> None:
    sequence = lease.send()
    await clock.advance(10.5)
    assert not lease.grant(sequence)
    assert not lease.held


async def test_grants_out_of_order_never_shorten(clock: ManualClock, lease: Lease) -> None:
    first = lease.send()
    await clock.advance(4)
    second = lease.send()
    lease.grant(second)
    lease.grant(first)
    await clock.advance(9)
    assert lease.held


async def test_what_was_not_sent_grants_nothing(clock: ManualClock, lease: Lease) -> None:
    sequence = lease.send()
    assert lease.grant(sequence)
    assert not lease.grant(sequence)
    assert not lease.grant(99)


async def test_each_lapse_is_told_once(clock: ManualClock, lease: Lease, lapses: list[float]) -> None:
    for _ in range(4):
        await clock.advance(3)
        lease.grant(lease.send())
    assert lapses == []
    await clock.advance(40)
    assert lapses == [pytest.approx(22.0)]
    lease.grant(lease.send())
    await clock.advance(40)
    assert len(lapses) == 2
