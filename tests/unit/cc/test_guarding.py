"""Security groups on their way through a zone, and descriptions that a running guest gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mallee.cc import words
from mallee.cc.attendance import _speak
from mallee.cc.convergence import GuestFact
from mallee.cc.nodes import Hello, Line
from mallee.domain.guards import Guarded, GuardRule, Guards
from mallee.domain.guest import Phase
from mallee.rpc import common_pb2
from tests.unit.cc.a_zone import FOUR, SMALL, AZone

IN = GuardRule(False, "tcp", 22, 22, "0.0.0.0/0")
FROM_B = GuardRule(False, "-1", -1, -1, "", "sg-b")


def guarded(instance_id: str, *groups: str) -> Guarded:
    number = int(instance_id.removeprefix("i-"))
    return Guarded(instance_id, f"02:00:00:00:00:{number:02x}", f"10.0.0.{number}", groups)


ALL = Guards(
    {"sg-a": (IN, FROM_B), "sg-b": (), "sg-c": (IN,)},
    (guarded("i-1", "sg-a"), guarded("i-2", "sg-b"), guarded("i-3", "sg-c")),
)


def test_a_node_hears_of_its_own_guests_and_of_whom_their_rules_name() -> None:
    mine = ALL.about({"i-1"})
    assert mine.groups == {"sg-a": (IN, FROM_B)}
    assert [each.instance_id for each in mine.guests] == ["i-1", "i-2"]
    assert ALL.about({"i-2"}) == Guards({"sg-b": ()}, (guarded("i-2", "sg-b"),))
    assert ALL.about(set()) == Guards()


def test_guards_survive_being_a_message() -> None:
    assert words.guards_of(words.guards_message(ALL)) == ALL


async def test_hosts_of_real_guests_learn_of_each_other_as_they_join(zone: AZone) -> None:
    first = await attending(zone, "n0")
    zone.cc.guarding.take(ALL)
    assert first.take().guards == Guards(hosts=("10.9.0.1",))

    second = await attending(zone, "n1")
    await zone.cc.nodes.attend(Hello("n2", "b", "10.9.0.9:1", "fake", "m", FOUR, []))
    await zone.cc.guarding.sweep()
    both = Guards(hosts=("10.9.0.1", "10.9.0.2"))
    assert [line.take().guards for line in (first, second)] == [both, both]

    zone.cc.nodes.leave(second)  # its guests run on, and are reached
    await zone.cc.guarding.sweep()
    assert first.take().guards is None


async def test_each_node_is_told_what_concerns_it_and_only_when_that_changes(zone: AZone) -> None:
    lines = [await attending(zone, name) for name in ("n0", "n1")]
    await launch(zone, "i-1")
    await launch(zone, "i-2")
    zone.cc.guarding.take(ALL)
    told = {line.number: line.take().guards for line in lines}
    for instance_id in ("i-1", "i-2"):
        row = zone.cc.ledger.placements.rows[instance_id]
        assert told[row.host] == replace(ALL.about({instance_id}), hosts=("10.9.0.1", "10.9.0.2"))

    await zone.cc.guarding.sweep()
    assert [line.take().guards for line in lines] == [None, None]

    changed = Guards({**ALL.groups, "sg-b": (IN,)}, ALL.guests)
    zone.cc.guarding.take(changed)
    news = {line.number: line.take().guards for line in lines}
    of_two = zone.cc.ledger.placements.rows["i-2"].host
    assert news[of_two] == replace(changed.about({"i-2"}), hosts=("10.9.0.1", "10.9.0.2"))
    assert news[1 - of_two] is None


async def test_who_attends_anew_is_told_anew_and_the_first_time_when_all_is_known(zone: AZone) -> None:
    line = await attending(zone, "n0")
    await zone.cc.guarding.sweep()
    assert line.take().guards is None  # nobody has said yet what holds: it goes on with what it has
    zone.cc.guarding.take(ALL)
    assert line.take().guards == Guards(hosts=("10.9.0.1",))
    again = await attending(zone, "n0")
    await zone.cc.guarding.sweep()
    assert again.take().guards == Guards(hosts=("10.9.0.1",))


async def test_the_zone_says_whether_anybody_enforces_groups(zone: AZone) -> None:
    assert not zone.cc.watch.zone().guards
    line = await attending(zone, "n0")
    assert zone.cc.watch.zone().guards
    assert words.zone_message("z", zone.cc.watch.zone()).guards  # type: ignore[union-attr]
    zone.cc.nodes.leave(line)
    assert not zone.cc.watch.zone().guards


async def test_guards_go_before_the_orders(zone: AZone) -> None:
    line = await attending(zone, "n0")
    await launch(zone, "i-1")
    zone.cc.guarding.take(ALL)
    messages = _speak(line)
    assert (await anext(messages)).HasField("guards")
    assert (await anext(messages)).HasField("orders")


async def launch(zone: AZone, instance_id: str, guest: bytes = b"guest") -> None:
    assert (await zone.place(instance_id)).refusal is None
    await zone.wish(instance_id, 1, guest=guest)


async def attending(zone: AZone, name: str) -> Line:
    address = f"10.9.0.{int(name.removeprefix('n')) + 1}:1"
    hello = Hello(name, "b", address, "libvirt", "m", FOUR, [], guards=True)
    return await zone.cc.nodes.attend(hello)


@pytest.mark.parametrize(("has", "is_told"), [(0, True), (5, False), (6, False)])
async def test_a_node_whose_guest_has_an_older_description_is_told_the_newest(
    zone: AZone, has: int, is_told: bool, a_described_guest: Callable[[int], bytes]
) -> None:
    await attending(zone, "n0")
    await launch(zone, "i-1", guest=a_described_guest(5))
    row = zone.cc.ledger.placements.rows["i-1"]
    fact = GuestFact("i-1", row.generation, 1, Phase.RUNNING, SMALL, description=has)
    line = await zone.cc.nodes.attend(Hello("n0", "b", "n0:1", "libvirt", "m", FOUR, [fact]))
    (order,) = line.take().orders
    assert bool(order.guest) is is_told
    assert zone.cc.watch.fact("i-1").description == has  # type: ignore[union-attr]


@pytest.fixture
def a_described_guest() -> Callable[[int], bytes]:
    return lambda number: common_pb2.Guest(instance_id="i-1", description=number).SerializeToString()
