"""The client of a zone, against a cluster controller that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from mallee.clc import clusters, orders
from mallee.clc.clusters import ClusterClient
from mallee.clc.db import instances
from mallee.kernel.clock import ManualClock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable, Identity
from mallee.kernel.rpc.memory import MemoryTransport
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from mallee.rpc.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server
from tests.unit.clc.pretend_cloud import PretendCloud

ZONE, ADDRESS = "mallee-1a", "cc:1"
ME = Identity("mallee", "clc", "clc")
METHODS = ("PlaceInTurn", "Release", "ConvergeInTurn", "Watch", "ListNodes", "Migrate")
ACCESS = AccessTable({f"/mallee.cluster.v1.ClusterService/{name}": {"clc"} for name in METHODS})


class Controller(ClusterServiceServicer):  # type: ignore[misc]
    """A cluster controller's face, and what it was told."""

    def __init__(self) -> None:
        self.placed: list[int] = []
        self.converged: list[list[tuple[str, int]]] = []
        self.released: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.lives = asyncio.Event()
        self.lives.set()
        self.news: asyncio.Queue[pb.WatchResponse | None] = asyncio.Queue()
        self.watchers = 0

    async def place(
        self, requests: AsyncIterator[pb.PlaceInTurnRequest], context: Any
    ) -> AsyncIterator[pb.PlaceInTurnResponse]:
        async for request in requests:
            self.placed.append(len(request.asks))
            await self.gate.wait()
            outcomes = []
            for ask in request.asks:
                placements = [
                    pb.Placement(instance_id=each, host_id=ask.host_id or "h-4", generation=1)
                    for each in ask.instance_ids
                ]
                outcomes.append(pb.Outcome(group_id=ask.group_id, placements=placements))
            yield pb.PlaceInTurnResponse(outcomes=outcomes)

    async def release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        self.released += request.instance_ids
        return pb.ReleaseResponse()

    async def converge(
        self, requests: AsyncIterator[pb.ConvergeInTurnRequest], context: Any
    ) -> AsyncIterator[pb.ConvergeInTurnResponse]:
        async for request in requests:
            self.converged.append([(each.instance_id, each.revision) for each in request.instances])
            yield pb.ConvergeInTurnResponse()

    async def watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        self.watchers += 1
        while (news := await self.news.get()) is not None:
            yield news

    async def nodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:
        await self.lives.wait()
        return pb.ListNodesResponse()

    ListNodes = nodes
    PlaceInTurn, Release, ConvergeInTurn, Watch = place, release, converge, watch


class Zone:
    """A client, a controller, and a clock between them."""

    def __init__(self, pretend: PretendCloud) -> None:
        self.clock: ManualClock = pretend.clock
        self.pretend = pretend
        self.controller = Controller()
        self.transport = MemoryTransport(self.clock)
        self.client = ClusterClient(
            ZONE,
            self.transport.connect(ME, ADDRESS, expect="cc"),
            db=pretend.cloud.db,
            clock=self.clock,
            sink=pretend.facts,
        )
        self.running: asyncio.Task[None] | None = None
        self.sequence = 0

    async def start(self) -> None:
        await self.serve()
        self.running = asyncio.create_task(self.client.run())
        await self.until(lambda: self.controller.watchers == 1)

    async def serve(self) -> None:
        add = partial(add_ClusterServiceServicer_to_server, self.controller)
        self.served = await self.transport.serve(Identity("mallee", "cc", ZONE), ADDRESS, add, access=ACCESS)

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait((self.running,))
        await self.served.close()

    def say(self, **message: Any) -> None:
        self.sequence += 1
        fields = {"epoch": "e", "sequence": self.sequence, **message}
        self.controller.news.put_nowait(pb.WatchResponse(**fields))

    async def until(self, true: Callable[[], bool]) -> None:
        for _ in range(2000):
            if true():
                return
            await self.clock.settle(1)
        raise AssertionError("it never became true")


@pytest.fixture
async def zone(pretend: PretendCloud) -> AsyncIterator[Zone]:
    made = Zone(pretend)
    await made.start()
    yield made
    await made.stop()


def an_ask(name: str, host_id: str = "") -> pb.Ask:
    return pb.Ask(group_id=name, min_count=1, instance_ids=[name], host_id=host_id)


async def test_a_zone_that_hangs_costs_one_deadline_until_it_answers(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "PLACE_SECONDS", 0.05)
    zone.say(snapshot_end=True, zone=pb.ZoneFact(zone=ZONE, nodes=1))
    await zone.until(lambda: zone.client.state is not None)
    zone.controller.gate.clear()
    zone.controller.lives.clear()
    first = asyncio.create_task(zone.client.place(an_ask("first")))
    await zone.until(lambda: zone.controller.placed == [1])
    second = asyncio.create_task(zone.client.place(an_ask("second")))  # waits for its turn
    for asked in (first, second):
        with pytest.raises(Fault, match="no answer"):
            await asked
    assert zone.client.state is None
    with pytest.raises(Fault) as refused:
        await zone.client.place(an_ask("third"))
    assert (refused.value.kind, refused.value.code) == (Kind.UNAVAILABLE, "zone-silent")
    assert zone.controller.placed == [1]
    zone.controller.gate.set()
    zone.controller.lives.set()
    await zone.until(lambda: zone.client.state is not None)
    assert (await zone.client.place(an_ask("fourth"))).placements


async def test_who_asks_at_the_same_time_asks_together(zone: Zone) -> None:
    outcomes = await asyncio.gather(*(zone.client.place(an_ask(f"a{number}")) for number in range(10)))
    assert [outcome.group_id for outcome in outcomes] == [f"a{number}" for number in range(10)]
    assert zone.controller.placed == [10]
    zone.controller.gate.clear()
    first = asyncio.create_task(zone.client.place(an_ask("first")))
    await zone.until(lambda: len(zone.controller.placed) == 2)
    others = [asyncio.create_task(zone.client.place(an_ask(f"o{number}"))) for number in range(5)]
    await zone.clock.settle()
    zone.controller.gate.set()
    await asyncio.gather(first, *others)
    assert zone.controller.placed == [10, 1, 5]


async def test_claims_of_who_went_away_are_given_back(zone: Zone) -> None:
    zone.controller.gate.clear()
    gone = asyncio.create_task(zone.client.place(an_ask("gone")))
    await zone.until(lambda: zone.controller.placed == [1])
    gone.cancel()
    zone.controller.gate.set()
    await zone.until(lambda: zone.controller.released == ["gone"])


async def test_hosts_have_one_id_in_the_whole_cloud(zone: Zone) -> None:
    outcome = await zone.client.place(an_ask("a"))
    assert outcome.placements[0].host_id == "h-mallee-1a-4"
    outcome = await zone.client.place(an_ask("b", "h-mallee-1a-9"))
    assert outcome.placements[0].host_id == "h-mallee-1a-9"


async def test_a_wish_goes_down_at_once_and_again_until_it_is_settled(zone: Zone) -> None:
    (one,) = await zone.pretend.run(Placement={"AvailabilityZone": ZONE})
    zone.client.hint([one])
    await zone.until(lambda: [(one, 1)] in zone.controller.converged)
    zone.controller.converged.clear()
    await zone.clock.advance(10.5)
    await zone.until(lambda: zone.controller.converged == [[(one, 1)]])
    await zone.pretend.settle()
    zone.controller.converged.clear()
    await zone.clock.advance(30)
    assert zone.controller.converged == []


async def test_a_wish_told_from_memory_is_the_one_of_the_database(zone: Zone) -> None:
    tags = [
        {
            "ResourceType": "instance",
            "Tags": [{"Key": "mallee:slow", "Value": "1"}, {"Key": "a", "Value": "b"}],
        }
    ]
    more = {
        "UserData": "aGVsbG8=",
        "KeyName": (await zone.pretend.ask("CreateKeyPair", KeyName="k"))["KeyName"],
    }
    ids = await zone.pretend.run(3, TagSpecifications=tags, **more)

    async def agree() -> None:
        read = await zone.pretend.cloud.db.read(lambda tx: orders.desired(tx, ids))
        told = {k: v for cluster in zone.pretend.clusters.values() for k, v in cluster.told.items()}
        assert len(read) == 3
        assert read == [told[each.instance_id] for each in read]

    await agree()
    await zone.pretend.ask("TerminateInstances", InstanceIds=ids)
    await agree()


async def test_an_older_wish_never_replaces_a_later_one(zone: Zone) -> None:
    (one,) = await zone.pretend.run(Placement={"AvailabilityZone": ZONE})
    (first,) = await zone.pretend.cloud.db.read(lambda tx: orders.desired(tx, [one]))
    await zone.pretend.ask("StopInstances", InstanceIds=[one])
    (later,) = await zone.pretend.cloud.db.read(lambda tx: orders.desired(tx, [one]))
    await zone.clock.settle()
    for say_later in (lambda: zone.client.hint([one]), lambda: zone.client.tell([later])):
        zone.controller.converged.clear()
        say_later()
        zone.client.tell([first])
        await zone.clock.advance(0.1)
        await zone.until(lambda: zone.controller.converged == [[(one, 2)]])


async def test_facts_come_up_in_one_transaction(zone: Zone) -> None:
    ids = await zone.pretend.run(50, Placement={"AvailabilityZone": ZONE})
    rows = await zone.pretend.rows(*ids)
    zone.say(snapshot=True, snapshot_end=True, zone=pb.ZoneFact(zone=ZONE, nodes=3))
    await zone.until(lambda: zone.client.state is not None)
    before = zone.pretend.cloud.db.transactions
    for row in rows:
        zone.say(facts=[zone.pretend.fact(row)])
    await zone.clock.settle(300)
    states = {row.state for row in await zone.pretend.rows(*ids)}
    assert states == {16}
    assert zone.pretend.cloud.db.transactions - before < 25


async def test_a_gap_is_a_new_beginning(zone: Zone) -> None:
    zone.say(snapshot=True, snapshot_end=True)
    zone.sequence += 1
    zone.say(zone=pb.ZoneFact(zone=ZONE))
    await zone.clock.advance(1)
    await zone.until(lambda: zone.controller.watchers == 2)


async def test_what_a_stream_brought_is_written_before_the_next_one_begins(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk wrote the old word after the new one had been compared with what was there before."""
    (instance_id,) = await zone.pretend.run()
    row = await zone.pretend.row(instance_id)
    take, gate = zone.pretend.facts.take, asyncio.Event()

    async def slowly(facts: Any) -> Any:
        await gate.wait()
        return await take(facts)

    monkeypatch.setattr(zone.pretend.facts, "take", slowly)
    zone.say(facts=[zone.pretend.fact(row, reachable=False)])
    await zone.clock.settle()
    zone.controller.news.put_nowait(None)
    await zone.clock.advance(5)
    assert zone.controller.watchers == 1
    gate.set()
    await zone.until(lambda: zone.controller.watchers == 2)
    assert not (await zone.pretend.row(instance_id)).reachable


async def test_after_a_reconnect_everything_unsettled_is_told_again(zone: Zone) -> None:
    (one,) = await zone.pretend.run(Placement={"AvailabilityZone": ZONE})
    zone.say(snapshot=True, snapshot_end=True)
    await zone.until(lambda: [(one, 1)] in zone.controller.converged)
    await zone.served.close()
    await zone.clock.settle()
    with pytest.raises(Fault) as fault:
        await zone.client.place(an_ask("x"))
    assert fault.value.kind is Kind.UNAVAILABLE
    await zone.pretend.ask("TerminateInstances", InstanceIds=[one])
    zone.client.hint([one])
    await zone.clock.advance(5)
    zone.controller.converged.clear()
    await zone.serve()
    await zone.clock.advance(3)
    await zone.until(lambda: zone.controller.watchers == 2)
    zone.sequence = 0
    zone.say(snapshot=True, snapshot_end=True)
    await zone.until(lambda: [(one, 2)] in zone.controller.converged)


async def test_what_the_zone_forgot_is_told_again(zone: Zone) -> None:
    (one,) = await zone.pretend.run(Placement={"AvailabilityZone": ZONE})
    await zone.pretend.settle()
    zone.say(snapshot=True, snapshot_end=True)
    await zone.until(lambda: [(one, 1)] in zone.controller.converged)
    assert (await zone.pretend.row(one)).unsettled


async def test_a_guest_that_ended_itself_is_wished_to_be_so(zone: Zone) -> None:
    (one,) = await zone.pretend.run(Placement={"AvailabilityZone": ZONE})
    await zone.pretend.settle()
    fact = zone.pretend.fact(await zone.pretend.row(one), common_pb2.PHASE_STOPPED)
    zone.say(snapshot=True, facts=[fact], snapshot_end=True)
    await zone.until(lambda: any((one, 2) in batch for batch in zone.controller.converged))
    settled = await zone.pretend.cloud.db.read(lambda tx: instances.find(tx, [one]))
    assert settled[0].power == "stopped"
