"""A node and its cluster controller on an open line, through silence and restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.domain.guest import GuestKey, Phase, Power
from mallee.kernel.rpc import Identity
from mallee.rpc import node_pb2
from mallee.rpc.common_pb2 import DescribeRequest
from mallee.rpc.common_pb2_grpc import IntrospectionServiceStub
from tests.unit.nc.pretend import a_guest, driven, phases, until
from tests.unit.nc.zone import CC, Zone

KEY = GuestKey("i-1", 1)


@pytest.fixture
async def zone(tmp_path: Path) -> AsyncIterator[Zone]:
    made = Zone(tmp_path)
    await made.open("a")
    made.cluster.order("a", KEY, Power.RUNNING, a_guest())
    await made.becomes("a", KEY, "running")
    yield made
    await made.close()


async def here(zone: Zone) -> dict[GuestKey, Phase]:
    return await phases(zone.controllers["a"].nodes["a"].driver)


async def test_a_node_says_what_it_has(zone: Zone) -> None:
    hello = zone.cluster.hellos[0]
    assert (hello.node, hello.address, hello.hypervisor) == ("a", "a:1", "fake")
    assert (hello.capacity.vcpus, hello.capacity.memory_mib) == (128, 524_288)


async def test_silence_pauses_and_the_whole_of_the_orders_resumes(zone: Zone) -> None:
    zone.cluster.grants = False
    began = zone.clock.boot()
    await zone.becomes("a", KEY, "paused")
    assert zone.clock.boot() - began < 11
    zone.cluster.grants = True
    await zone.becomes("a", KEY, "running")


async def test_a_cut_line_pauses_within_the_lease_however_often_the_controller_dies(zone: Zone) -> None:
    await zone.close_cluster()
    for _ in range(4):
        await zone.clock.advance(3)
        await zone.restart("a")
    await zone.clock.advance(0.1)
    assert await here(zone) == {KEY: Phase.PAUSED}
    await zone.open_cluster()
    await zone.becomes("a", KEY, "running")


async def test_a_cut_line_pauses_within_the_lease_and_who_was_unsaid_stays_paused(zone: Zone) -> None:
    await zone.close_cluster()
    await zone.clock.advance(10.5)
    assert await here(zone) == {KEY: Phase.PAUSED}
    zone.cluster.forget("a", "i-1")
    await zone.open_cluster()
    await zone.clock.advance(60)
    assert await here(zone) == {KEY: Phase.PAUSED}
    assert zone.cluster.facts["a", *KEY].cause.code == "unknown-guest"


async def test_a_short_cut_disturbs_nobody(zone: Zone) -> None:
    await zone.close_cluster()
    await zone.clock.advance(4)
    assert await here(zone) == {KEY: Phase.RUNNING}
    await zone.open_cluster()
    await zone.clock.advance(30)
    assert await here(zone) == {KEY: Phase.RUNNING}
    assert len(zone.cluster.hellos) == 2


async def test_a_restarted_node_keeps_its_guests_running_and_names_them(zone: Zone) -> None:
    await zone.restart("a")
    assert await here(zone) == {KEY: Phase.RUNNING}
    await until(zone.clock, lambda: len(zone.cluster.hellos) == 2)
    await until(zone.clock, lambda: len(zone.cluster.inventories["a"]) == 2)
    assert zone.cluster.inventories["a"][1] == ["i-1"]
    assert zone.cluster.hellos[0].boot_id == zone.cluster.hellos[1].boot_id


async def test_a_node_that_restarts_alone_pauses_after_one_lease(zone: Zone) -> None:
    await zone.close_cluster()
    await zone.restart("a")
    await zone.clock.advance(9)
    assert await here(zone) == {KEY: Phase.RUNNING}
    await zone.clock.advance(2)
    assert await here(zone) == {KEY: Phase.PAUSED}
    await zone.open_cluster()


async def test_many_facts_are_few_messages(zone: Zone) -> None:
    before = zone.cluster.messages
    many = [GuestKey(f"i-{n}", 1) for n in range(2, 202)]
    for key in many:
        zone.cluster.order("a", key, Power.RUNNING, a_guest(key.instance_id))
    await until(zone.clock, lambda: all(zone.cluster.phase("a", key) == "running" for key in many))
    assert zone.cluster.messages - before < 40


async def test_the_console_and_the_name_by_rpc(zone: Zone) -> None:
    request = node_pb2.GetConsoleOutputRequest(node="a", instance_id="i-1")
    answer = await driven(zone.clock, zone.ask("a").GetConsoleOutput(request))
    assert b"login:" in answer.output
    channel = zone.transport.connect(CC, "a:1", expect=Identity("test", "nc", "a"))
    told = await driven(zone.clock, IntrospectionServiceStub(channel).Describe(DescribeRequest()))
    assert (told.role, told.name) == ("nc", "a")
    await channel.close()


async def test_one_process_is_many_nodes(tmp_path: Path) -> None:
    zone = Zone(tmp_path, fake_nodes=50, connection_each=True)
    await zone.open("m")
    names = [f"m.{number}" for number in range(1, 51)]
    keys = {name: GuestKey(f"i-{name}", 1) for name in names}
    for name in names:
        zone.cluster.order(name, keys[name], Power.RUNNING, a_guest(keys[name].instance_id))
    await until(zone.clock, lambda: all(zone.cluster.phase(n, keys[n]) == "running" for n in names))
    assert sorted(zone.controllers["m"].nodes) == sorted(names)
    await zone.restart("m")
    assert {n: await phases(node.driver) for n, node in zone.controllers["m"].nodes.items()} == {
        name: {keys[name]: Phase.RUNNING} for name in names
    }
    await zone.close()


@pytest.mark.parametrize("what", ["asks", "knows"])
async def test_the_lease_goes_on_while_the_inventory_waits(zone: Zone, what: str) -> None:
    setattr(zone.cluster, what, False)
    await zone.restart("a")
    await zone.clock.advance(60)
    assert await here(zone) == {KEY: Phase.RUNNING}
    assert len(zone.cluster.hellos) == 2


async def test_a_node_that_restarts_in_a_partition_wakes_nobody_without_a_lease(zone: Zone) -> None:
    await zone.close_cluster()
    await zone.clock.advance(11)
    assert await here(zone) == {KEY: Phase.PAUSED}
    await zone.restart("a")
    await zone.clock.advance(9)  # it holds what its predecessor may have held, which names nobody
    assert await here(zone) == {KEY: Phase.PAUSED}
    await zone.clock.advance(30)
    assert await here(zone) == {KEY: Phase.PAUSED}

    zone.cluster.grants = False
    await zone.open_cluster()
    await until(zone.clock, lambda: len(zone.cluster.inventories["a"]) == 2)
    await zone.clock.advance(30)  # named, but its lease is not granted
    assert await here(zone) == {KEY: Phase.PAUSED}
    zone.cluster.grants = True
    await zone.becomes("a", KEY, "running")


async def test_a_lease_alone_wakes_nobody_either(zone: Zone) -> None:
    await zone.close_cluster()
    await zone.clock.advance(11)
    zone.cluster.knows = False
    await zone.open_cluster()
    await zone.restart("a")
    await until(zone.clock, lambda: len(zone.cluster.hellos) == 2)
    await zone.clock.advance(30)
    assert await here(zone) == {KEY: Phase.PAUSED}
