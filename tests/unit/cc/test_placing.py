"""Claims are real: exactly as many as fit, none leaked, all durable."""

import asyncio

import pytest

from mallee.domain.guest import Phase, Power, Resources
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from tests.unit.cc.a_zone import SMALL, AZone


async def test_parallel_asks_get_exactly_what_there_is(zone: AZone) -> None:
    await zone.join("n1", Resources(4, 4096))
    await zone.join("n2", Resources(3, 4096))
    outcomes = await asyncio.gather(*(zone.place(f"i-{n}") for n in range(20)))
    assert sum(outcome.refusal is None for outcome in outcomes) == 7
    assert {o.refusal.code for o in outcomes if o.refusal} == {"no-capacity"}
    assert sum(free.vcpus for free in zone.free()) == 0


async def test_a_group_below_its_minimum_gets_nothing(zone: AZone) -> None:
    await zone.join("n1", Resources(2, 4096))
    refused = await zone.place("i-1", "i-2", "i-3")
    assert refused.refusal is not None
    assert zone.free() == [Resources(2, 4096)]
    served = await zone.place("i-1", "i-2", "i-3", min_count=1)
    assert [p.instance_id for p in served.placed] == ["i-1", "i-2"]


async def test_asking_again_is_answered_alike(zone: AZone) -> None:
    await zone.join("n1")
    first = await zone.place("i-1", "i-2")
    again = await zone.place("i-1", "i-2")
    assert set(first.placed) == set(again.placed)
    assert zone.free() == [Resources(2, 2048)]


async def test_an_unbound_claim_lapses(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.place("i-1")
    await zone.place("i-2")
    await zone.wish("i-2", 1)
    await zone.pass_time(61, node)
    assert zone.cc.ledger.placements.rows.keys() == {"i-2"}
    assert zone.free() == [Resources(3, 3072)]


@pytest.mark.parametrize("lost", ["release", "lapse", "binding"])
async def test_a_claim_lapses_though_a_transaction_about_it_was_lost(
    zone: AZone, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    async def full(_work: object) -> None:
        raise Fault(Kind.UNAVAILABLE, "The database does not answer.")

    node = await zone.join("n1")
    await zone.place("i-1")
    with monkeypatch.context() as patch:
        if lost != "release":
            await zone.pass_time(58, node)
        patch.setattr(zone.db, "transact", full)
        if lost == "release":
            with pytest.raises(Fault):
                await zone.cc.placing.release(["i-1"])
        if lost == "binding":
            with pytest.raises(Fault):
                await zone.wish("i-1", 1)
        await zone.clock.advance(3)
    await zone.pass_time(63, node)
    assert zone.cc.ledger.placements.rows == {}
    assert zone.free() == [Resources(4, 4096)]


async def test_release_gives_back_claims_alone(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    await zone.place("i-2")
    await zone.cc.placing.release(["i-1", "i-2", "i-unknown"])
    assert zone.free() == [Resources(3, 3072)]
    assert zone.phase("i-1") is Phase.RUNNING


async def test_a_claim_for_a_start_that_never_came_leaves_the_instance_stopped(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    placed = (await zone.place("i-1")).placed
    assert placed[0].generation == 2
    await zone.pass_time(61, node)
    assert zone.phase("i-1") is Phase.STOPPED
    assert zone.free() == [Resources(4, 4096)]


async def test_claims_survive_a_restart_and_have_their_whole_time_again(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.place("i-1")
    await zone.pass_time(50, node)
    await zone.restart()
    assert zone.free() == [Resources(3, 3072)]
    await zone.dial(node)
    await zone.pass_time(50, node)
    assert zone.free() == [Resources(3, 3072)]
    await zone.pass_time(11, node)
    assert zone.free() == [Resources(4, 4096)]


async def test_a_commit_that_fails_takes_everything_back(
    zone: AZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    await zone.join("n1")
    await zone.run("i-1")

    def full(tx: Tx) -> None:
        raise Fault(Kind.UNAVAILABLE, "The disk is full.")

    monkeypatch.setattr(zone.cc.ledger.journal, "_fence", full)
    results = await asyncio.gather(
        zone.place("i-2"), zone.wish("i-1", 2, Power.STOPPED), return_exceptions=True
    )
    assert [type(result) for result in results] == [Fault, Fault]
    monkeypatch.undo()
    assert zone.free() == [Resources(3, 3072)]
    assert zone.cc.ledger.placements.rows["i-1"].revision == 1
    assert (await zone.place("i-2")).refusal is None
    await zone.restart()
    assert zone.cc.ledger.placements.rows.keys() == {"i-1", "i-2"}


async def test_rules_pin_near_and_apart(zone: AZone) -> None:
    await zone.join("n1")
    await zone.join("n2")
    await zone.join("n3")
    await zone.place("i-1", host_id="h-1")
    near = await zone.place("i-2", near=["i-1"])
    apart = await zone.place("i-3", apart=["i-1"])
    assert near.placed[0].host_id == "h-1"
    assert apart.placed[0].host_id != "h-1"
    among = await zone.place("i-4", "i-5", "i-6", apart=["i-4", "i-5", "i-6"])
    assert len({placed.host_id for placed in among.placed}) == 3


async def test_a_refusal_names_what_is_wrong_with_the_node_asked_for(zone: AZone) -> None:
    await zone.join("n1", SMALL)
    await zone.cc.nodes.cordon(0, cordoned=True)
    unknown, cordoned = await zone.place("i-1", host_id="h-7"), await zone.place("i-1", host_id="h-0")
    assert unknown.refusal is not None
    assert cordoned.refusal is not None
    assert (unknown.refusal.code, cordoned.refusal.code) == ("not-found", "cordoned")
    await zone.cc.nodes.cordon(0, cordoned=False)
    await zone.place("i-1")
    full = await zone.place("i-2", host_id="h-0")
    assert full.refusal is not None
    assert full.refusal.code == "no-capacity"


async def test_a_second_controller_fences_the_first(zone: AZone) -> None:
    await zone.join("n1")
    other = await AZone(zone.url, network=zone.network, config=zone.config).start()
    with pytest.raises(Fault) as caught:
        await zone.place("i-1")
    assert caught.value.code == "superseded"
    await other.stop()
