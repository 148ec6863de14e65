"""The contracts over a wire: who may speak, and that everything survives being a message."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mallee.cc.nodes import ADOPTED_AT_ONCE
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable, Channel, Identity
from mallee.rpc import attendance_pb2, cluster_pb2, common_pb2, node_pb2
from mallee.rpc.attendance_pb2_grpc import AttendanceServiceStub
from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub
from mallee.rpc.common_pb2_grpc import IntrospectionServiceStub
from mallee.rpc.node_pb2_grpc import NodeServiceServicer, add_NodeServiceServicer_to_server
from tests.unit.cc.a_zone import AZone

SIZE = common_pb2.Resources(vcpus=1, memory_mib=1024)


def channel(zone: AZone, role: str, name: str) -> Channel:
    return zone.transport.connect(Identity("cloud", role, name), "cc:1", expect="cc")


@pytest.fixture
def clc(zone: AZone) -> ClusterServiceStub:
    return ClusterServiceStub(channel(zone, "clc", "clc"))


class Line:
    """A node's side of `Attend`."""

    def __init__(
        self, zone: AZone, peer: str, node: str, *inventory: attendance_pb2.GuestFact, follows: bool = False
    ) -> None:
        self._up: asyncio.Queue[attendance_pb2.AttendRequest] = asyncio.Queue()
        hello = attendance_pb2.Hello(
            node=node,
            boot_id="b",
            address=f"{node}:1",
            hypervisor="fake",
            cpu_model="m",
            capacity=common_pb2.Resources(vcpus=4, memory_mib=4096),
            inventory=inventory,
            inventory_follows=follows,
        )
        self.say(hello=hello, renewal=attendance_pb2.Renewal(sequence=1) if follows else None)
        self.down = AttendanceServiceStub(channel(zone, "nc", peer)).Attend(self._requests())

    def say(self, **message: Any) -> None:
        self._up.put_nowait(attendance_pb2.AttendRequest(**message))

    async def _requests(self) -> AsyncIterator[attendance_pb2.AttendRequest]:
        while True:
            yield await self._up.get()

    async def next(self) -> attendance_pb2.AttendResponse:
        message = await self.down.read()
        assert isinstance(message, attendance_pb2.AttendResponse), message
        return message

    async def greeted(self) -> int:
        """Welcome and the lease, in whatever order; which renewal was granted."""
        assert (await self.next()).HasField("welcome")
        return (await self.granted()).sequence

    async def granted(self) -> attendance_pb2.Grant:
        while not (message := await self.next()).HasField("grant"):
            assert not message.HasField("orders")
        return message.grant

    async def asked(self) -> None:
        while not (await self.next()).say_inventory:
            pass

    async def orders(self) -> attendance_pb2.Orders:
        while not (message := await self.next()).HasField("orders"):
            pass
        return message.orders

    def close(self) -> None:
        self.down.cancel()


async def test_a_node_attends_and_an_instance_runs(zone: AZone, clc: ClusterServiceStub) -> None:
    line = Line(zone, "host", "host.1")
    welcome = (await line.next()).welcome
    assert (welcome.host_id, welcome.lease_seconds, welcome.renew_seconds) == ("h-0", 10.0, 3.0)
    assert (await line.orders()).whole
    line.say(renewal=attendance_pb2.Renewal(sequence=5))
    assert (await line.next()).grant.sequence == 5

    ask = cluster_pb2.Ask(group_id="r-1", min_count=1, instance_ids=["i-1"], resources=SIZE)
    outcome = (await clc.Place(cluster_pb2.PlaceRequest(asks=[ask]))).outcomes[0]
    assert (outcome.placements[0].host_id, outcome.placements[0].generation) == ("h-0", 1)
    wish = cluster_pb2.DesiredInstance(
        instance_id="i-1",
        revision=1,
        power=common_pb2.POWER_RUNNING,
        resources=SIZE,
        guest=b"whole",
        generation=1,
    )
    await clc.Converge(cluster_pb2.ConvergeRequest(instances=[wish]))
    order = (await line.orders()).orders[0]
    assert (order.instance_id, order.generation, order.revision, order.guest) == ("i-1", 1, 1, b"whole")

    fact = attendance_pb2.GuestFact(
        instance_id="i-1", generation=1, revision=1, phase=common_pb2.PHASE_RUNNING, resources=SIZE
    )
    watch = clc.Watch(cluster_pb2.WatchRequest())
    first = await watch.read()
    assert isinstance(first, cluster_pb2.WatchResponse)
    assert [(f.instance_id, f.phase) for f in first.facts] == [("i-1", common_pb2.PHASE_PROVISIONING)]
    end = await watch.read()
    assert isinstance(end, cluster_pb2.WatchResponse)
    assert (end.snapshot_end, end.sequence, end.epoch, end.zone.nodes) == (True, 2, first.epoch, 1)
    line.say(facts=[fact])
    reading = asyncio.ensure_future(watch.read())
    await zone.until(reading.done, step=0.01)
    news = reading.result()
    assert isinstance(news, cluster_pb2.WatchResponse)
    assert [(f.instance_id, f.phase) for f in news.facts] == [("i-1", common_pb2.PHASE_RUNNING)]
    watch.cancel()

    nodes = (await clc.ListNodes(cluster_pb2.ListNodesRequest(with_instances=True))).nodes
    assert [(n.host_id, n.name, n.state, n.free.vcpus) for n in nodes] == [("h-0", "host.1", "ready", 3)]
    assert [(i.instance_id, i.phase) for i in nodes[0].instances] == [("i-1", "running")]
    line.close()


def a_fact(number: int, phase: common_pb2.Phase = common_pb2.PHASE_RUNNING) -> attendance_pb2.GuestFact:
    return attendance_pb2.GuestFact(instance_id=f"i-{number}", generation=1, phase=phase, resources=SIZE)


async def test_the_lease_is_granted_before_the_inventory_is_known(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.run("i-2")
    await zone.restart()
    line = Line(zone, "n1", "n1", follows=True)
    assert await line.greeted() == 1
    line.say(facts=[a_fact(1)])
    line.say(renewal=attendance_pb2.Renewal(sequence=2))
    assert (await line.granted()).sequence == 2
    assert not zone.cc.nodes.attending()

    line.say(facts=[a_fact(2, common_pb2.PHASE_STOPPED)], inventory_end=True)
    orders = await line.orders()
    assert orders.whole
    sent = {order.instance_id: bool(order.guest) for order in orders.orders}
    assert sent == {"i-1": False, "i-2": True}  # who runs needs no description, who starts anew does
    assert zone.cc.nodes.attending() == {0}
    assert node.line is None
    line.close()


async def test_few_are_asked_for_their_inventory_at_once_and_all_renew(zone: AZone) -> None:
    lines = [Line(zone, f"n{number}", f"n{number}", follows=True) for number in range(ADOPTED_AT_ONCE + 2)]
    asked, others = lines[:ADOPTED_AT_ONCE], lines[ADOPTED_AT_ONCE:]
    for line in lines:
        assert await line.greeted() == 1
    for line in asked:
        await line.asked()
    for line in others:
        line.say(renewal=attendance_pb2.Renewal(sequence=2))
        assert (await line.next()).grant.sequence == 2
    asked[0].say(inventory_end=True)
    await others[0].asked()
    asked[1].close()  # who hangs up has had its turn
    await others[1].asked()
    for line in lines:
        line.close()


async def test_orders_wait_for_the_inventory(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    await zone.restart()
    line = Line(zone, "n1", "n1", follows=True)
    assert (await line.next()).HasField("welcome")
    clc = ClusterServiceStub(channel(zone, "clc", "clc"))
    end = cluster_pb2.DesiredInstance(instance_id="i-1", revision=2, power=common_pb2.POWER_TERMINATED)
    await clc.Converge(cluster_pb2.ConvergeRequest(instances=[end]))
    assert (await line.granted()).sequence == 1
    line.say(facts=[a_fact(1)], inventory_end=True)
    orders = await line.orders()
    assert orders.whole
    assert [(order.instance_id, order.power) for order in orders.orders] == [
        ("i-1", common_pb2.POWER_TERMINATED)
    ]
    line.close()


async def test_a_lost_node_gets_its_lease_with_its_orders(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    await zone.pass_time(11)
    line = Line(zone, "n1", "n1", follows=True)
    assert (await line.next()).HasField("welcome")
    line.close()
    again = Line(zone, "n1", "n1", follows=True)  # a second Hello is no way around it
    assert (await again.next()).HasField("welcome")
    asked = await again.next()
    assert (asked.say_inventory, asked.HasField("grant")) == (True, False)
    again.say(renewal=attendance_pb2.Renewal(sequence=2))
    again.say(facts=[a_fact(1)], inventory_end=True)
    answer = await again.next()
    assert (answer.orders.whole, answer.grant.sequence) == (True, 2)
    again.close()


async def test_a_node_may_not_attend_in_another_name(zone: AZone) -> None:
    line = Line(zone, "host", "other")
    with pytest.raises(Fault) as caught:
        await line.next()
    assert (caught.value.kind, caught.value.code) == (Kind.FORBIDDEN, "not-your-name")
    assert zone.cc.ledger.nodes.rows == {}


async def test_a_node_may_not_speak_as_the_clc(zone: AZone) -> None:
    stub = ClusterServiceStub(channel(zone, "nc", "host"))
    with pytest.raises(Fault) as caught:
        await stub.Place(cluster_pb2.PlaceRequest())
    assert caught.value.kind is Kind.FORBIDDEN


async def test_a_line_that_breaks_makes_the_node_silent(zone: AZone) -> None:
    line = Line(zone, "host", "host")
    await line.next()
    line.close()
    await zone.until(lambda: zone.cc.ledger.inventory.hosts[0].silent, step=0.1)


async def test_migrations_cordon_and_console_as_messages(zone: AZone, clc: ClusterServiceStub) -> None:
    await zone.join("a")
    await zone.run("i-1")
    await zone.join("b")
    console = await clc.GetConsoleOutput(cluster_pb2.GetConsoleOutputRequest(instance_id="i-1"))
    assert (console.output, console.at_ms) == (b"a says i-1", 7)
    asked = cluster_pb2.MigrateRequest(migration_id="m-1", instance_id="i-1", plan_only=True)
    planned = await clc.Migrate(asked)
    assert not planned.HasField("migration")
    assert planned.candidate_host_ids == ["h-1"]
    assert [(r.host_id, r.cause.code) for r in planned.refusals] == [("h-0", "same-host")]
    asked.plan_only = False
    begun = (await clc.Migrate(asked)).migration
    assert (begun.migration_id, begun.source_host_id, begun.mode) == ("m-1", "h-0", "live")
    await zone.until(lambda: not zone.cc.desk.migration_of("i-1"), step=0.1)
    listed = (await clc.ListMigrations(cluster_pb2.ListMigrationsRequest(states=["completed"]))).migrations
    assert [(m.migration_id, m.stage_name, len(m.rounds), len(m.stages)) for m in listed] == [
        ("m-1", "5-activation", 2, 6)
    ]
    with pytest.raises(Fault) as caught:
        await clc.SteerMigration(cluster_pb2.SteerMigrationRequest(migration_id="m-9", cancel=True))
    assert caught.value.kind is Kind.NOT_FOUND
    node = (await clc.CordonNode(cluster_pb2.CordonNodeRequest(host_id="h-1", cordoned=True))).node
    assert node.state == "cordoned"
    with pytest.raises(Fault):
        await clc.CordonNode(cluster_pb2.CordonNodeRequest(host_id="nonsense", cordoned=True))


async def test_it_says_who_it_is(zone: AZone) -> None:
    stub = IntrospectionServiceStub(channel(zone, "clc", "clc"))
    said = await stub.Describe(common_pb2.DescribeRequest())
    assert (said.role, said.name, said.cloud) == ("cc", "z", "cloud")


class Console(NodeServiceServicer):
    """A node's server that answers whoever asks."""

    async def GetConsoleOutput(  # noqa: N802 - the name is the contract's
        self, request: node_pb2.GetConsoleOutputRequest, context: object
    ) -> node_pb2.GetConsoleOutputResponse:
        return node_pb2.GetConsoleOutputResponse(output=b"who am I?")


@pytest.mark.parametrize(("who", "answers"), [("host", True), ("thief", False)])
async def test_only_who_spoke_for_a_node_may_answer_at_its_address(
    tmp_path: Path, who: str, *, answers: bool
) -> None:
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db").start(own_connect=False)
    line = Line(zone, "host", "host.1", follows=True)
    await line.greeted()
    access = AccessTable({"/mallee.node.v1.NodeService/GetConsoleOutput": {"cc"}})
    served = await zone.transport.serve(
        Identity("cloud", "nc", who),
        "host.1:1",
        partial(add_NodeServiceServicer_to_server, Console()),
        access=access,
    )
    for _ in range(2):  # and the same after a restart, before the node attends again
        asking = zone.cc.desk.peer(0).console("host.1", "i-1")
        if answers:
            assert (await asking)[0] == b"who am I?"
        else:
            with pytest.raises(Fault) as caught:
                await asking
            assert caught.value.kind is Kind.UNAVAILABLE
        line.close()
        transport = zone.transport
        await zone.stop()
        await zone.start(own_connect=False, transport=transport)
    await served.close()
    await zone.stop()
