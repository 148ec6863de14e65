"""Wishes meet facts: the latest wish wins, and a fact counts only for the copy that the row names."""

import pytest

from mallee.cc.convergence import GuestFact
from mallee.domain.guest import Cause, Phase, Power, Resources
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from tests.unit.cc.a_zone import SMALL, ANode, AZone


async def learn(zone: AZone, node: ANode, instance_id: str, generation: int, phase: Phase, **more) -> None:
    number = zone.nodes.index(node)
    fact = GuestFact(instance_id, generation, more.pop("revision", 1), phase, SMALL, **more)
    await zone.cc.convergence.learn(number, [fact])


async def test_a_bound_claim_runs_where_it_was_placed(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert (fact.phase, fact.host_id, fact.generation, fact.reachable) == (Phase.RUNNING, "h-0", 1, True)
    assert node.guests == {("i-1", 1): Phase.RUNNING}


async def test_without_a_claim_it_is_placed_anew(zone: AZone) -> None:
    await zone.join("n1")
    await zone.wish("i-1", 1)
    await zone.obey()
    assert zone.phase("i-1") is Phase.RUNNING


async def test_no_room_is_a_fact_with_its_cause(zone: AZone) -> None:
    await zone.wish("i-1", 1)
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert fact.cause is not None
    assert (fact.phase, fact.cause.code) == (Phase.FAILED, "Server.InsufficientInstanceCapacity")


async def test_an_older_wish_is_ignored(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 3, Power.STOPPED)
    await zone.wish("i-1", 2, Power.RUNNING)
    await zone.obey()
    assert zone.phase("i-1") is Phase.STOPPED
    assert node.orders[-1].power is Power.STOPPED


async def test_stop_gives_the_room_back_when_the_node_says_so_and_not_before(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    assert zone.free() == [Resources(3, 3072)]
    assert zone.phase("i-1") is not Phase.STOPPED
    await zone.obey()
    assert zone.free() == [Resources(4, 4096)]
    assert zone.phase("i-1") is Phase.STOPPED


async def test_a_start_is_a_new_generation_and_the_copy_at_rest_elsewhere_goes(zone: AZone) -> None:
    first = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    second = await zone.join("n2")
    await zone.wish("i-1", 3, Power.RUNNING, host_id="h-1")
    await zone.obey()
    assert second.guests == {("i-1", 2): Phase.RUNNING}
    assert first.guests == {}
    assert zone.phase("i-1") is Phase.RUNNING


async def test_terminate_of_what_nobody_knows_is_a_tombstone(zone: AZone) -> None:
    await zone.wish("i-1", 5, Power.TERMINATED)
    assert zone.phase("i-1") is Phase.TERMINATED
    await zone.wish("i-1", 6, Power.RUNNING)
    assert zone.phase("i-1") is Phase.TERMINATED


async def test_terminate_of_a_stopped_one_destroys_what_is_left_of_it(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    await zone.wish("i-1", 3, Power.TERMINATED)
    assert zone.phase("i-1") is Phase.TERMINATED
    await zone.obey()
    assert node.guests == {}


async def test_terminate_of_a_claim_needs_no_node(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.place("i-1")
    await zone.wish("i-1", 1, Power.TERMINATED)
    assert zone.phase("i-1") is Phase.TERMINATED
    await zone.obey()
    assert node.orders == []
    assert zone.free() == [Resources(4, 4096)]


async def test_a_start_that_failed_frees_its_room_and_says_why(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.place("i-1")
    await zone.wish("i-1", 1)
    await learn(zone, node, "i-1", 1, Phase.FAILED, cause=Cause("Server.InternalError", "No such image."))
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert (fact.phase, fact.cause) == (Phase.FAILED, Cause("Server.InternalError", "No such image."))
    assert zone.free() == [Resources(4, 4096)]


async def test_stopped_in_answer_to_an_older_wish_starts_again(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.wish("i-1", 3, Power.RUNNING)
    await learn(zone, node, "i-1", 1, Phase.STOPPED, revision=2)
    await zone.obey()
    assert node.guests[("i-1", 2)] is Phase.RUNNING
    assert zone.phase("i-1") is Phase.RUNNING


async def test_a_fact_of_an_old_copy_changes_nothing(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    await zone.wish("i-1", 3, Power.RUNNING)
    await zone.obey()
    await learn(zone, node, "i-1", 1, Phase.TERMINATED)
    await learn(zone, node, "i-1", 1, Phase.STOPPED)
    assert zone.phase("i-1") is Phase.RUNNING
    assert zone.free() == [Resources(3, 3072)]


async def test_terminate_while_stopping_waits_for_the_end_of_the_copy(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.wish("i-1", 3, Power.TERMINATED)
    await learn(zone, node, "i-1", 1, Phase.STOPPED, revision=2)
    assert zone.free() == [Resources(3, 3072)]
    await zone.obey()
    assert zone.phase("i-1") is Phase.TERMINATED
    assert zone.free() == [Resources(4, 4096)]


async def test_ends_that_cannot_be_written_are_not_believed(
    zone: AZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")

    def full(tx: Tx) -> None:
        raise Fault(Kind.UNAVAILABLE, "The disk is full.")

    monkeypatch.setattr(zone.cc.ledger.journal, "_fence", full)
    with pytest.raises(Fault):
        await learn(zone, node, "i-1", 1, Phase.TERMINATED)
    monkeypatch.undo()
    assert zone.free() == [Resources(3, 3072)]
    await learn(zone, node, "i-1", 1, Phase.TERMINATED)
    assert zone.phase("i-1") is Phase.TERMINATED


@pytest.mark.slow
async def test_tombstones_go_after_an_hour(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.run("i-2")
    await zone.wish("i-1", 2, Power.TERMINATED)
    await zone.obey()
    await zone.pass_time(3500, node)
    assert zone.phase("i-1") is Phase.TERMINATED
    await zone.pass_time(200, node)
    assert zone.cc.watch.fact("i-1") is None
    assert zone.phase("i-2") is Phase.RUNNING


async def test_a_restart_in_the_middle_loses_nothing(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-run")
    await zone.place("i-claimed")
    await zone.place("i-ordered")
    await zone.wish("i-ordered", 1)
    await zone.run("i-stopping")
    await zone.wish("i-stopping", 2, Power.STOPPED)
    await zone.restart()
    await zone.dial(node)
    await zone.obey()
    assert zone.phase("i-run") is Phase.RUNNING
    assert zone.phase("i-ordered") is Phase.RUNNING
    assert zone.phase("i-stopping") is Phase.STOPPED
    assert zone.cc.ledger.placements.rows["i-claimed"].claimed
    assert zone.free() == [Resources(1, 1024)]
    await zone.wish("i-claimed", 1)
    await zone.obey()
    assert zone.phase("i-claimed") is Phase.RUNNING


async def test_a_fact_that_meets_a_full_disk_is_told_all_the_same(
    zone: AZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known from now on: said again by the node it would be no news."""
    await zone.join("n1")
    await zone.run("i-1")
    convergence, touched = zone.cc.convergence, list[str]()

    async def commit(also: object = None) -> None:
        raise Fault(Kind.UNAVAILABLE, "The disk is full.")

    monkeypatch.setattr(zone.cc.ledger.journal, "commit", commit)
    monkeypatch.setattr(convergence, "_touch", touched.extend)
    fact = GuestFact("i-1", 1, 1, Phase.RUNNING, Resources(1, 1024), reboots=7)
    with pytest.raises(Fault):
        await convergence.learn(0, [fact])
    assert touched == ["i-1"]
