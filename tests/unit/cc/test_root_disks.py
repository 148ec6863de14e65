"""A root disk stays on its node: its instance runs there again or says why not; and it is captured where it is."""

from __future__ import annotations

import pytest

from mallee.domain.guest import Phase, Power, Resources
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity
from mallee.rpc import cluster_pb2, common_pb2
from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub
from tests.unit.cc.a_zone import ANode, AZone

WITH_DISK = common_pb2.Guest(
    image=common_pb2.Image(root=common_pb2.ImageFile(bucket="b", key="k"))
).SerializeToString()


async def stopped(zone: AZone, guest: bytes = WITH_DISK) -> ANode:
    """An instance `i-1` that ran and is off; the node where that was, on which another guest is now."""
    for name in ("n1", "n2", "n3"):
        await zone.join(name)
    await zone.place("i-1")
    await zone.wish("i-1", 1, guest=guest)
    await zone.obey()
    await zone.wish("i-1", 2, Power.STOPPED, guest=guest)
    await zone.obey()
    home = zone.nodes[zone.cc.ledger.placements.rows["i-1"].left_host]
    assert home.line is not None
    # Spread over the nodes the next start would go elsewhere.
    await zone.run("i-2", host_id=f"h-{home.line.number}")
    return home


def where(zone: AZone) -> ANode:
    return zone.nodes[zone.cc.ledger.placements.rows["i-1"].host]


@pytest.mark.parametrize("claimed", [True, False])
async def test_an_instance_with_a_disk_starts_where_its_disk_is(zone: AZone, claimed: bool) -> None:
    home = await stopped(zone)
    if claimed:
        assert (await zone.place("i-1")).refusal is None
    await zone.wish("i-1", 3, guest=b"")
    await zone.obey()
    assert zone.phase("i-1") is Phase.RUNNING
    assert where(zone) is home


async def test_an_instance_without_one_starts_anywhere(zone: AZone) -> None:
    home = await stopped(zone, b"")
    await zone.wish("i-1", 3, guest=b"")
    await zone.obey()
    assert where(zone) is not home


@pytest.mark.parametrize("claimed", [True, False])
async def test_without_room_where_its_disk_is_it_says_so_and_loses_nothing(
    zone: AZone, claimed: bool
) -> None:
    home = await stopped(zone)
    assert home.line is not None
    taken = Resources(3, 3072)
    await zone.place("i-3", resources=taken, host_id=f"h-{home.line.number}")
    await zone.wish("i-3", 1, resources=taken)
    if claimed:
        refusal = (await zone.place("i-1")).refusal
        assert refusal is not None
        assert refusal.code == "no-capacity"
        assert "root disk is on node h-" in refusal.message
    await zone.wish("i-1", 3, guest=b"")
    await zone.obey()
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert fact.phase is Phase.FAILED
    assert fact.cause is not None
    assert "root disk is on node h-" in fact.cause.message
    assert ("i-1", 1) in home.guests


async def test_a_cordoned_home_is_named(zone: AZone) -> None:
    home = await stopped(zone)
    assert home.line is not None
    await zone.cc.nodes.cordon(home.line.number, cordoned=True)
    refusal = (await zone.place("i-1")).refusal
    assert refusal is not None
    assert "is cordoned" in refusal.message


def _asked(generation: int = 0) -> cluster_pb2.CaptureRootRequest:
    return cluster_pb2.CaptureRootRequest(
        instance_id="i-1", generation=generation, capture_id="c", bucket="b", key="k", owner="123456789012"
    )


async def _capture(
    zone: AZone, asked: cluster_pb2.CaptureRootRequest
) -> list[cluster_pb2.CaptureRootResponse]:
    channel = zone.transport.connect(Identity("cloud", "clc", "clc"), zone.cc.address, expect="cc")
    stub = ClusterServiceStub(channel)
    return [each async for each in stub.CaptureRoot(asked)]


async def test_a_disk_is_captured_where_it_is_running_or_not(zone: AZone) -> None:
    home = await stopped(zone)
    told = await _capture(zone, _asked(1))
    assert [(one.bytes_done, one.bytes_total) for one in told] == [(1, 2), (2, 2)]
    assert (told[-1].file.key, told[-1].file.virtual_bytes) == ("k", 8192)

    await zone.wish("i-1", 3, guest=b"")
    await zone.obey()
    await _capture(zone, _asked())
    assert [(subject.node, subject.generation) for subject, _ in home.captured] == [
        (home.name, 1),
        (home.name, 2),
    ]
    assert home.captured[0][1] == ("c", "b", "k", "123456789012")


async def test_a_capture_of_another_life_is_stale_and_of_nothing_not_found(zone: AZone) -> None:
    with pytest.raises(Fault) as caught:
        await _capture(zone, _asked())
    assert caught.value.kind is Kind.NOT_FOUND
    await stopped(zone)
    with pytest.raises(Fault) as caught:
        await _capture(zone, _asked(2))
    assert caught.value.kind is Kind.STALE
