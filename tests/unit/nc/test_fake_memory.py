"""Pages, who writes them, and what of them crosses."""

from __future__ import annotations

from array import array

import pytest

from mallee.kernel.entropy import SeededEntropy
from mallee.nc.drivers.fake_memory import Memory, to_little_endian
from mallee.nc.drivers.fake_workload import PROFILES, Band, Phase, Workload, profile

PAGES = 4096


def written(workload: Workload, seconds: float, seed: int = 1) -> int:
    memory = Memory.of("i-1", PAGES)
    memory.work(workload, seconds, SeededEntropy(seed))
    return memory.dirty_pages()


def test_the_same_seed_dirties_the_same_pages() -> None:
    web = profile({"mallee:workload": "web"}, PAGES)
    memories = [Memory.of("i-1", PAGES) for _ in range(2)]
    for memory in memories:
        memory.work(web, 0.5, SeededEntropy(3))
    assert memories[0].digest(b"") == memories[1].digest(b"")
    assert list(memories[0].take_dirty()) == list(memories[1].take_dirty())


def test_a_band_fills_as_chance_has_it() -> None:
    band = Workload((Band(1000, 1000.0),))
    # n(1 - e^-t) of n pages are hit by n*t random writes
    assert written(band, 1.0) == pytest.approx(632, abs=40)
    assert written(band, 3.0) == pytest.approx(950, abs=20)
    assert written(band, 60.0) == 1000


def test_short_spells_add_up_to_a_long_one() -> None:
    memory, entropy = Memory.of("i-1", PAGES), SeededEntropy(5)
    for _ in range(1000):
        memory.work(Workload((Band(PAGES, 400.0),)), 0.001, entropy)
    assert memory.dirty_pages() == pytest.approx(PAGES * (1 - 2.718281828 ** (-400 / PAGES)), rel=0.15)


def test_phases_take_turns() -> None:
    pulsing = Workload((), (Phase(2.0, 1.5), Phase(1.0, 0.0)))
    assert pulsing.effort(0, 3) == pytest.approx(3.0)
    assert pulsing.effort(2, 3) == pytest.approx(0.0)
    assert pulsing.effort(1, 4) == pytest.approx(3.0)


def test_profiles_differ_in_how_much_they_write() -> None:
    amounts = [written(profile({"mallee:workload": name}, PAGES), 0.2) for name in PROFILES]
    assert list(PROFILES) == ["idle", "web", "build", "memory"]
    assert amounts == sorted(amounts)
    assert amounts[0] < amounts[-1]
    assert profile({"mallee:workload": "no such"}, PAGES) == profile({}, PAGES)


def test_pages_arrive_as_they_left_in_any_order() -> None:
    source, copy = Memory.of("i-1", PAGES), Memory.empty(PAGES)
    for pages in (
        array("I", range(100, PAGES)),
        array("I", [50, 7, *range(51, 100), *range(7), *range(8, 50)]),
    ):
        copy.put(to_little_endian(pages), source.contents(pages))
    assert copy.digest(b"cpu") == source.digest(b"cpu")
    assert copy.digest(b"cpu") != source.digest(b"gpu")


def test_pages_that_only_look_like_a_run_are_not_one() -> None:
    source, copy = Memory.of("i-1", 4), Memory.empty(4)
    shuffled = array("I", [0, 2, 1, 3])
    copy.put(to_little_endian(shuffled), source.contents(shuffled))
    assert copy.digest(b"") == source.digest(b"")


@pytest.mark.parametrize("numbers", [[PAGES], [0, 1]])
def test_pages_outside_or_without_contents_are_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="page"):
        Memory.empty(PAGES).put(to_little_endian(array("I", numbers)), bytes(4))


def test_what_is_dirty_again_is_not_sent_and_stays_dirty() -> None:
    memory = Memory.of("i-1", 16)
    memory.work(Workload((Band(4, 1e6),)), 1.0, SeededEntropy(1))
    assert list(memory.still_clean(range(16))) == list(range(4, 16))
    assert list(memory.take_dirty()) == [0, 1, 2, 3]
    assert memory.dirty_pages() == 0


def test_a_saturated_band_changes_every_page() -> None:
    memory, before = Memory.of("i-1", 64), Memory.of("i-1", 64)
    memory.work(Workload((Band(64, 1e6),)), 1.0, SeededEntropy(1))
    assert all(now != then for now, then in zip(memory.versions, before.versions, strict=True))
