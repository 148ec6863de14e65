"""What is on disk: the tables, tombstones that age, and changes that share a commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.errors import Fault, Kind
from mallee.nc.config import NcConfig
from mallee.nc.db import MIGRATIONS, fakes, metadata, tombstones
from mallee.nc.db.batch import Batches
from mallee.nc.db.tombstones import Graveyard
from tests.databases import assert_models_equal_migrations


def test_models_are_the_sum_of_all_migrations(database_url: str) -> None:
    assert {fakes.fake_guests.name, tombstones.tombstones.name} == set(metadata.tables)
    assert_models_equal_migrations(metadata, MIGRATIONS, database_url)


async def test_tombstones_last_a_month_and_no_longer(tmp_path: Path) -> None:
    clock = ManualClock()
    async with await Database.open(f"sqlite:///{tmp_path}/g.db", metadata=metadata, durable=False) as db:
        first = Graveyard(db, clock)
        await first.end("n", "i-1", 3)
        await first.end("n", "i-1", 2)
        await first.call_off("n", "mig-1")
        for days, remembered in ((29, True), (2, False)):
            await clock.advance(days * 86_400)
            again = Graveyard(db, clock)
            await again.load()
            assert (again.ended("n", "i-1") == 3) is remembered
            assert again.is_dead("n", "mig-1") is remembered
            assert again.ended("other", "i-1") == 0


async def test_a_stone_that_could_not_be_written_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    async with await Database.open(f"sqlite:///{tmp_path}/g.db", metadata=metadata, durable=False) as db:
        graves = Graveyard(db, clock)

        async def full(_work: object) -> None:
            raise Fault(Kind.UNAVAILABLE, "The disk is full.")

        with monkeypatch.context() as broken:
            broken.setattr(db, "transact", full)
            with pytest.raises(Fault):
                await graves.end("n", "i-1", 3)
        await graves.end("n", "i-1", 3)
        again = Graveyard(db, clock)
        await again.load()
        assert again.ended("n", "i-1") == 3


async def test_changes_during_a_commit_share_the_next(tmp_path: Path) -> None:
    written: list[dict[str, int]] = []
    async with await Database.open(f"sqlite:///{tmp_path}/b.db", metadata=metadata, durable=False) as db:
        batches: Batches[str, int] = Batches(db, lambda _tx, changed: written.append(dict(changed)))
        await asyncio.gather(*(batches.put({f"k{n % 10}": n}) for n in range(100)))
        await batches.settle()
    assert sum(len(each) for each in written) <= 20
    assert {key: value for each in written for key, value in each.items()} == {
        f"k{n % 10}": n for n in range(90, 100)
    }


async def test_a_commit_that_fails_is_told_to_all_who_put_and_to_nobody_else(tmp_path: Path) -> None:
    broken = True

    def write(_tx: object, _changed: object) -> None:
        if broken:
            raise Fault(Kind.UNAVAILABLE, "The disk is full.")

    async with await Database.open(f"sqlite:///{tmp_path}/b.db", metadata=metadata, durable=False) as db:
        batches: Batches[str, int] = Batches(db, write)
        told = await asyncio.gather(*(batches.put({str(n): n}) for n in range(3)), return_exceptions=True)
        assert [str(each) for each in told] == ["The disk is full."] * 3
        broken = False
        await batches.put({"x": 1})


def test_names_of_nodes() -> None:
    assert NcConfig().node_names("n") == ["n"]
    assert NcConfig(fake_nodes=3).node_names("n") == ["n.1", "n.2", "n.3"]


@pytest.mark.parametrize(
    "wrong", [{"hypervisor": "xen"}, {"fake_nodes": 0}, {"start_seconds": -1.0}, {"bandwidth_mbps": 0.0}]
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Fault) as caught:
        NcConfig(**wrong)  # type: ignore[arg-type]
    assert next(iter(wrong)) in str(caught.value)
