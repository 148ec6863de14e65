"""A lease counts from the sending, on the boot clock, and nothing but a grant prolongs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from mallee.kernel.clock import ManualClock
from mallee.nc.lease import Lease
from mallee.nc.lease_file import LeaseFile


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


class Deaf(ManualClock):
    """A clock whose time can go on while nobody does anything."""

    def skip(self, seconds: float) -> None:
        self._elapsed += seconds


@pytest.mark.parametrize("waits", [True, False])
async def test_who_wakes_too_late_reads_what_came_meanwhile_and_waits_no_longer(*, waits: bool) -> None:
    clock, told = Deaf(), list[float]()
    lease = Lease(clock, 10.0)
    watching = asyncio.ensure_future(lease.watch(lambda: told.append(clock.boot())))
    await clock.settle()
    await clock.advance(5)
    sequence = lease.send()
    clock.skip(7)  # busy until 12; the grant came at 6
    await clock.advance(0.05)
    if waits:
        assert lease.grant(sequence)
    await clock.advance(0.1)
    assert told == ([] if waits else [pytest.approx(12.1)])
    await clock.advance(3)
    assert told == [pytest.approx(15.0 if waits else 12.1)]
    watching.cancel()


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


def inherited(clock: ManualClock, path: Path) -> Lease:
    """The lease of a new process."""
    file = LeaseFile(path)
    return Lease(clock, 10.0, until=file.deadline("n.1"), keep=partial(file.keep, "n.1"))


async def test_a_lapse_that_nobody_saw_begin_is_told(
    clock: ManualClock, lease: Lease, lapses: list[float]
) -> None:
    """Renewed after a lapse and lost again before the next look, because the whole host hung."""
    await clock.advance(10.5)
    assert lease.grant(lease.send())
    clock._elapsed += 40
    await clock.advance(0.1)
    assert not lease.held
    assert len(lapses) == 2


async def test_no_number_of_restarts_stretches_a_lease(clock: ManualClock, tmp_path: Path) -> None:
    """Found by the model of the lease: a controller that dies every few seconds let its guests run for ever."""
    lease = inherited(clock, tmp_path / "leases")
    await clock.advance(4)
    assert lease.grant(lease.send())
    for _ in range(3):
        await clock.advance(3)
        assert inherited(clock, tmp_path / "leases").held
    await clock.advance(1.1)
    assert not inherited(clock, tmp_path / "leases").held
    renewed = inherited(clock, tmp_path / "leases")
    assert renewed.grant(renewed.send())
    assert inherited(clock, tmp_path / "leases").held


def test_a_deadline_of_before_the_boot_is_worth_one_lease_at_most(tmp_path: Path) -> None:
    file = LeaseFile(tmp_path / "leases")
    file.keep("n.1", 1e6)
    file.keep("n.2", 5.0)
    file.close()
    again = LeaseFile(tmp_path / "leases")
    assert [again.deadline(name) for name in ("n.1", "n.2", "n.3")] == [1e6, 5.0, None]
    lease = inherited(ManualClock(), tmp_path / "leases")
    assert lease._until == 10.0


async def test_a_disk_that_is_full_costs_no_lease(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = inherited(clock, tmp_path / "leases")
    await clock.advance(5)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    assert lease.grant(lease.send())
    await clock.advance(6)
    assert lease.held
    monkeypatch.undo()
    assert not inherited(clock, tmp_path / "leases").held  # sooner than need be, never later
