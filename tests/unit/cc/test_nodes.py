"""Nodes come, fall silent, and come back: leases, ghosts and strangers."""

from pathlib import Path

import pytest

from mallee.cc.nodes import covers
from mallee.domain.guest import Phase, Power, Resources
from mallee.kernel.clock import ManualClock
from mallee.kernel.errors import Fault
from tests.unit.cc.a_zone import AZone


async def test_host_ids_are_given_once_and_kept(zone: AZone) -> None:
    first = await zone.join("n1")
    await zone.join("n2")
    await zone.restart()
    await zone.join("n3")
    await zone.dial(first)
    assert [(row.host_id, row.name) for row in zone.cc.nodes.page([], -1, 10)] == [
        ("h-0", "n1"),
        ("h-1", "n2"),
        ("h-2", "n3"),
    ]
    assert [row.host_id for row in zone.cc.nodes.page([], 0, 1)] == ["h-1"]


async def test_a_lapsed_lease_withdraws_capacity_and_shows(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.pass_time(30, node)
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert fact.reachable
    await zone.pass_time(11)
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert not fact.reachable
    assert zone.cc.watch.zone().nodes_ready == 0
    assert (await zone.place("i-2")).refusal is not None
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "lost"
    await zone.pass_time(11)
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "fenced"


async def test_a_node_that_returns_is_adopted_with_what_runs(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.pass_time(30)
    await zone.dial(node)
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert fact.reachable
    assert fact.phase is Phase.RUNNING
    assert zone.free() == [Resources(3, 3072)]
    await zone.obey()
    assert node.guests == {("i-1", 1): Phase.RUNNING}


async def test_what_was_to_stop_on_a_fenced_node_has_stopped_and_may_start_elsewhere(zone: AZone) -> None:
    first = await zone.join("n1")
    await zone.run("i-1")
    second = await zone.join("n2")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.pass_time(15, second)
    assert zone.phase("i-1") is not Phase.STOPPED  # lost, but its clock may be slow
    await zone.pass_time(10, second)
    assert zone.phase("i-1") is Phase.STOPPED
    await zone.wish("i-1", 3, Power.RUNNING)
    first.line = None
    await zone.obey()
    assert second.guests == {("i-1", 2): Phase.RUNNING}
    await zone.dial(first)
    await zone.obey()
    assert first.guests == {}
    assert zone.phase("i-1") is Phase.RUNNING
    assert zone.free() == [Resources(4, 4096), Resources(3, 3072)]


async def test_a_fenced_nodes_old_line_brings_its_lease_back_to_nobody(zone: AZone) -> None:
    """A renewal that was long on its way: what ran there may run elsewhere, so only a new hello counts."""
    first = await zone.join("n1")
    line = first.line
    assert line is not None
    second = await zone.join("n2")
    await zone.pass_time(25, second)
    assert zone.cc.nodes.is_fenced(line.number)
    line.take()
    zone.cc.nodes.renew(line, 7)
    assert line.closed
    assert line.take()[2] is None
    assert zone.cc.nodes.is_fenced(line.number)


async def test_a_superseded_copy_takes_room_until_it_is_gone(zone: AZone) -> None:
    first = await zone.join("n1")
    await zone.run("i-1")
    second = await zone.join("n2")
    await zone.pass_time(25, second)
    await zone.wish("i-1", 2, Power.TERMINATED)
    assert zone.phase("i-1") is Phase.TERMINATED
    await zone.dial(first)
    assert zone.free()[0] == Resources(3, 3072)
    await zone.obey()
    assert first.guests == {}
    assert zone.free()[0] == Resources(4, 4096)


async def test_a_guest_that_nobody_knows_is_left_alone_and_takes_room(zone: AZone) -> None:
    node = await zone.join("n1")
    node.guests["i-stranger", 3] = Phase.PAUSED
    await zone.dial(node)
    await zone.obey()
    assert node.guests == {("i-stranger", 3): Phase.PAUSED}
    assert node.orders == []
    assert zone.free() == [Resources(3, 3072)]
    node.guests.clear()
    await zone.dial(node)
    assert zone.free() == [Resources(4, 4096)]


async def test_a_copy_of_a_generation_that_was_never_given_out_is_a_stranger(zone: AZone) -> None:
    """The database was restored from a backup: what runs is newer than what it knows."""
    node = await zone.join("n1")
    await zone.run("i-1")
    node.guests = {("i-1", 9): Phase.RUNNING}
    await zone.dial(node)
    assert node.line is not None
    orders, whole, *_ = node.line.take()
    assert whole
    assert [(order.generation, order.power) for order in orders] == [(1, Power.RUNNING)]


async def test_a_new_line_ends_the_old_one(zone: AZone) -> None:
    node = await zone.join("n1")
    old = node.line
    await zone.dial(node)
    assert old is not None
    assert old.closed
    zone.cc.nodes.leave(old)
    assert not zone.cc.ledger.inventory.hosts[0].silent


async def test_a_node_whose_line_is_down_is_the_last_choice(zone: AZone) -> None:
    first = await zone.join("n1")
    await zone.join("n2", Resources(1, 1024))
    assert first.line is not None
    zone.cc.nodes.leave(first.line)
    assert (await zone.place("i-1")).placed[0].host_id == "h-1"
    assert (await zone.place("i-2")).placed[0].host_id == "h-0"


async def test_whole_orders_name_the_stopped_too(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.run("i-2")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    await zone.dial(node)
    assert node.line is not None
    orders, whole, *_ = node.line.take()
    assert whole
    assert {(order.instance_id, order.power) for order in orders} == {
        ("i-1", Power.STOPPED),
        ("i-2", Power.RUNNING),
    }


async def test_cordon_lasts_over_a_restart(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.cc.nodes.cordon(0, cordoned=True)
    await zone.restart()
    await zone.dial(node)
    assert (await zone.place("i-1")).refusal is not None
    with pytest.raises(Fault):
        await zone.cc.nodes.cordon(5, cordoned=True)


def test_a_certificate_covers_its_own_name_and_those_below() -> None:
    assert covers("node", "node")
    assert covers("node", "node.17")
    assert not covers("node", "node17")
    assert not covers("node.17", "node")


class Deaf(ManualClock):
    """A clock whose time can go on while nobody does anything."""

    async def skip(self, seconds: float) -> None:
        self._elapsed += seconds
        await self.settle()


async def test_silence_counts_only_while_somebody_listened(tmp_path: Path) -> None:
    clock = Deaf()
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db", clock=clock).start()
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.clock.advance(4)
    await clock.skip(20)  # a long pause of this process; what the node said meanwhile waits in the socket
    await zone.clock.advance(1)
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "ready"
    await zone.renew(node)
    await zone.clock.advance(9)
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "ready"
    await zone.clock.advance(2)
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "lost"
    await zone.stop()
