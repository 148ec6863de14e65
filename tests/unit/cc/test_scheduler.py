"""The scheduler answers as the naive scorer does, whatever happens between two questions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mallee.cc.scheduler.filters import Kind, Question, refusal
from mallee.cc.scheduler.heap import Scheduler
from mallee.cc.scheduler.inventory import Host, Inventory
from mallee.cc.scheduler.policies import NAMES, policy
from mallee.domain.guest import Resources
from tests.unit.cc.naive_scorer import choose

HOSTS = 6
KINDS = [
    Kind(Resources(vcpus, memory), zone, model)
    for vcpus, memory in ((1, 1), (2, 3), (4, 2))
    for zone in ("", "a", "b")
    for model in ("", "new")
]

indices = st.frozensets(st.integers(0, HOSTS - 1), max_size=4)
questions = st.builds(Question, st.sampled_from(KINDS), st.none() | indices, indices)
events = st.one_of(
    st.tuples(st.just("ask"), questions),
    st.tuples(st.just("release"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["cordoned", "lost", "silent"]), st.integers(0, HOSTS - 1)),
    st.tuples(st.just("resize"), st.integers(0, HOSTS - 1)),
)


def a_zone(name: str = "SPREAD", hosts: int = HOSTS) -> tuple[Inventory, Scheduler]:
    inventory = Inventory(policy(name))
    scheduler = Scheduler(inventory)
    for index in range(hosts):
        inventory.add(
            Host(
                index,
                zone="ab"[index % 2],
                capacity=Resources(4 + index % 3, 6),
                cpu_model="new" if index % 3 else "old",
            )
        )
    return inventory, scheduler


@pytest.mark.parametrize("name", NAMES)
@given(story=st.lists(events, max_size=60))
@settings(max_examples=120, deadline=None)
def test_the_heap_decides_as_the_naive_scorer(name: str, story: list) -> None:
    inventory, scheduler = a_zone(name)
    placed = 0
    for event, detail in story:
        if event == "ask":
            host = scheduler.choose(detail)
            assert host is choose(inventory, detail)
            assert scheduler.ranked(detail)[:1] == ([host] if host else [])
            if host is not None:
                inventory.take(f"i-{placed}", host, detail.kind.resources)
                placed += 1
        elif event == "release":
            inventory.release(f"i-{detail}")
        elif event == "resize":
            host = inventory.hosts[detail]
            inventory.resize(host, Resources(host.capacity.vcpus ^ 1, 7))
        else:
            host = inventory.hosts[detail]
            setattr(host, event, not getattr(host, event))
            inventory.touch(host)


def test_round_robin_goes_round() -> None:
    inventory, scheduler = a_zone("ROUNDROBIN", hosts=3)
    chosen = []
    for number in range(6):
        host = scheduler.choose(Question(Kind(Resources(1, 1))))
        assert host is not None
        inventory.take(f"i-{number}", host, Resources(1, 1))
        chosen.append(host.host_id)
    assert chosen == ["h-0", "h-1", "h-2"] * 2


def test_power_save_fills_a_busy_host_before_it_wakes_an_idle_one() -> None:
    inventory, scheduler = a_zone("POWERSAVE", hosts=3)
    inventory.take("i-first", inventory.hosts[2], Resources(1, 1))
    assert scheduler.choose(Question(Kind(Resources(1, 1)))) is inventory.hosts[2]


def test_spread_takes_the_emptiest() -> None:
    inventory, scheduler = a_zone("SPREAD", hosts=2)
    inventory.take("i-first", inventory.hosts[0], Resources(1, 1))
    assert scheduler.choose(Question(Kind(Resources(1, 1)))) is inventory.hosts[1]


def test_a_silent_host_is_the_last_choice_under_every_policy() -> None:
    for name in NAMES:
        inventory, scheduler = a_zone(name, hosts=2)
        inventory.hosts[0].silent = True
        inventory.touch(inventory.hosts[0])
        assert scheduler.choose(Question(Kind(Resources(1, 1)))) is inventory.hosts[1]


def test_taking_twice_is_taking_once_and_releasing_gives_all_back() -> None:
    inventory, _ = a_zone(hosts=2)
    first, second = inventory
    before = first.free, second.free
    inventory.take("i-1", first, Resources(2, 2))
    inventory.take("i-1", second, Resources(1, 1))
    assert first.free == before[0]
    assert inventory.of(["i-1", "i-unknown"]) == {1}
    inventory.release("i-1")
    inventory.release("i-1")
    assert (first.free, second.free) == before


def test_every_refusal_has_its_own_word() -> None:
    inventory, _ = a_zone(hosts=1)
    host = inventory.hosts[0]
    small = Kind(Resources(1, 1))
    said = {
        cause.code
        for cause in (
            refusal(host, Question(Kind(Resources(99, 1)))),
            refusal(host, Question(Kind(Resources(1, 1), zone="z"))),
            refusal(host, Question(Kind(Resources(1, 1), cpu_model="new"))),
            refusal(host, Question(small, only=frozenset())),
            refusal(host, Question(small, apart=frozenset({0}))),
        )
        if cause is not None
    }
    assert said == {"no-capacity", "zone-mismatch", "cpu-model-mismatch", "affinity", "anti-affinity"}
