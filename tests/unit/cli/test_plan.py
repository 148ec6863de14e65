"""The shape of a cloud is kept from start to start, and its ports are found."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from mallee.cc.config import CcConfig
from mallee.cli import ports
from mallee.cli.composition import World, posts
from mallee.cli.plan import Plan, Wish, members, plan, shape_of
from mallee.cli.state import Shape, StateFolder
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import MemoryTransport
from mallee.nc.config import NcConfig

SHAPE = shape_of(Wish(zones=2, nodes=2), None)


@contextmanager
def listening() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def planned(shape: Shape, wish: Wish) -> Shape:
    return plan(shape, "mallee-1", wish, "mallee up --port {port}").shape


def test_what_is_not_said_is_as_it_was() -> None:
    first = shape_of(Wish(zones=1, nodes=3, node_vcpus=8, instant=True), None)

    again = shape_of(Wish(nodes=4), first)

    assert (again.zones, again.nodes, again.node_vcpus, again.instant) == (1, 4, 8, True)


@pytest.mark.parametrize("wish", [Wish(zones=1), Wish(nodes=1)])
def test_a_cloud_does_not_shrink_under_its_instances(wish: Wish) -> None:
    with pytest.raises(Fault, match="cannot start with 1") as refused:
        shape_of(wish, SHAPE)

    assert refused.value.kind is Kind.CONFLICT


@pytest.mark.parametrize("wish", [Wish(zones=0), Wish(zones=27), Wish(nodes=-1), Wish(node_memory_mib=1)])
def test_numbers_out_of_range_are_refused(wish: Wish) -> None:
    with pytest.raises(Fault, match="out of range"):
        shape_of(wish, None)


def test_the_option_is_named_as_it_is_typed() -> None:
    with pytest.raises(Fault, match=r"--node-memory 1 is"):
        shape_of(Wish(node_memory_mib=1), None)


def test_every_service_has_a_port_of_its_own() -> None:
    shape = planned(SHAPE, Wish(port=0))

    assert len(set(shape.ports.values())) == len(shape.ports)
    assert set(shape.ports) == {"ec2", "s3", "join"} | {member.name for member in members(shape, "mallee-1")}


def test_ports_are_kept_for_the_next_start() -> None:
    first = planned(SHAPE, Wish(port=0))

    assert planned(first, Wish()) == first


def test_a_small_cloud_has_a_controller_for_each_node_and_a_large_one_for_each_zone() -> None:
    small = planned(SHAPE, Wish(port=0))
    large = planned(shape_of(Wish(zones=2, nodes=300), None), Wish(port=0))

    assert [m.own_name for m in members(small, "mallee-1") if m.role == "nc"] == [
        "mallee-1a-node-1",
        "mallee-1a-node-2",
        "mallee-1b-node-1",
        "mallee-1b-node-2",
    ]
    assert [(m.own_name, m.nodes) for m in members(large, "mallee-1") if m.role == "nc"] == [
        ("mallee-1a-node", 300),
        ("mallee-1b-node", 300),
    ]


def test_guests_stay_where_they_are_when_a_small_cloud_grows() -> None:
    small = planned(SHAPE, Wish(port=0))
    grown = planned(shape_of(Wish(nodes=9), small), Wish())

    assert {m.name for m in members(small, "mallee-1")} < {m.name for m in members(grown, "mallee-1")}


def test_a_taken_port_is_named_with_its_holder_and_the_next_free_one() -> None:
    with listening() as port, pytest.raises(Fault) as refused:
        planned(SHAPE, Wish(port=port))

    assert f"pid {os.getpid()}" in refused.value.why
    offered = int(refused.value.fix.rpartition("--port ")[2])
    assert offered > port
    assert ports.is_free(offered)


def test_an_inner_port_that_is_taken_meanwhile_is_changed_silently() -> None:
    with listening() as port:
        first = msgspec.structs.replace(SHAPE, ports={"ec2": ports.any_free(), "clc": port})

        assert planned(first, Wish()).ports["clc"] != port


def leases(tmp_path: Path, nodes: int, text: str = "") -> set[float]:
    """What the controllers of a cloud with so many nodes a zone lease for, and how often nodes renew."""
    config = tmp_path / "mallee.toml"
    config.write_text(text)
    clock, seed = SystemClock(), SeededEntropy(1)
    world = World("c", tmp_path, config, {}, clock, seed, MemoryTransport(clock))
    shape = planned(shape_of(Wish(zones=2, nodes=nodes), None), Wish(port=0))
    whole = Plan(shape, "mallee-1", members(shape, "mallee-1"))
    found = set[float]()
    for post in posts(whole, StateFolder(tmp_path), ""):
        if post.role == "cc":
            cc = world.settings(CcConfig, "cc", post.settings, post.otherwise)
            found |= {cc.lease_seconds, cc.renew_seconds}
        elif post.role == "nc":
            found.add(world.settings(NcConfig, "nc", post.settings, post.otherwise).lease_seconds)
    return found


def test_many_nodes_on_one_machine_have_leases_that_outlast_its_start(tmp_path: Path) -> None:
    assert leases(tmp_path, 2) == {10.0, 3.0}
    assert leases(tmp_path, 200) == {40.0, 12.0}
    assert leases(tmp_path, 5000) == {60.0, 18.0}
    own = "[cc]\nlease_seconds = 20\nrenew_seconds = 5\n[nc]\nlease_seconds = 20\n"
    assert leases(tmp_path, 200, own) == {20.0, 5.0}
    assert leases(tmp_path, 200, "[cc]\nlease_seconds = 8\n") == {8.0, 3.0, 40.0}


def test_everything_listens_where_it_was_told_and_nowhere_else() -> None:
    assert SHAPE.listen == "127.0.0.1"
    shape = planned(shape_of(Wish(listen="127.0.0.2"), SHAPE), Wish(port=0))
    assert {member.host for member in members(shape, "mallee-1")} == {"127.0.0.2"}
    assert shape_of(Wish(), shape).listen == "127.0.0.2"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::1", ""])
def test_an_address_that_others_cannot_be_told_is_refused(host: str) -> None:
    with pytest.raises(Fault, match="no address of this machine"):
        shape_of(Wish(listen=host), None)
