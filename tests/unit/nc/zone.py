"""A zone of node controllers on a simulated network, with a cluster controller that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from mallee.domain.guest import Guest, GuestKey, Power
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.rpc import AccessTable, Identity, MemoryTransport, Served
from mallee.nc.app import NodeController
from mallee.nc.config import NcConfig
from mallee.rpc import attendance_pb2 as attendance
from mallee.rpc import common_pb2, node_pb2
from mallee.rpc.attendance_pb2_grpc import AttendanceServiceServicer, add_AttendanceServiceServicer_to_server
from mallee.rpc.node_pb2_grpc import NodeServiceStub
from tests.unit.nc.pretend import as_message, until

CC = Identity("test", "cc", "local-1a")
ACCESS = AccessTable({"/mallee.attendance.v1.AttendanceService/Attend": {"nc"}})
PHASES = common_pb2.Phase


class Cluster(AttendanceServiceServicer):
    """Says Welcome, grants while `grants`, and hands out `orders`; remembers what it heard.

    Attributes:
        inventories: of each node the instances that it named after each Hello.
        asks: whether nodes are asked what they have.
        knows: while False an inventory is never the whole one, so that orders do not come.
    """

    def __init__(self) -> None:
        self.grants = True
        self.knows = self.asks = True
        self.inventories: dict[str, list[list[str]]] = {}
        self.orders: dict[str, dict[str, attendance.GuestOrder]] = {}
        self.hellos: list[attendance.Hello] = []
        self.messages = 0
        self.facts: dict[tuple[str, str, int], attendance.GuestFact] = {}
        self._lines: dict[str, asyncio.Queue[attendance.AttendResponse]] = {}

    async def Attend(self, request_iterator: AsyncIterator[attendance.AttendRequest], context: Any) -> None:  # noqa: N802
        first = await anext(aiter(request_iterator))
        node = first.hello.node
        self.hellos.append(first.hello)
        line = self._lines[node] = asyncio.Queue()
        welcome = attendance.Welcome(host_id=f"h-{node}", lease_seconds=10, renew_seconds=3)
        await context.write(attendance.AttendResponse(welcome=welcome, say_inventory=self.asks))
        telling = asyncio.ensure_future(self._tell(line, context))
        inventory: list[str] = []
        try:
            self._grant(line, first)
            async for message in request_iterator:
                self.messages += 1
                self._hear(node, message.facts)
                inventory += [fact.instance_id for fact in message.facts]
                self._grant(line, message)
                if message.inventory_end and self.knows:
                    self.inventories.setdefault(node, []).append(inventory)
                    whole = attendance.Orders(whole=True, orders=self.orders.get(node, {}).values())
                    line.put_nowait(attendance.AttendResponse(orders=whole))
        finally:
            telling.cancel()

    async def _tell(self, line: asyncio.Queue[attendance.AttendResponse], context: Any) -> None:
        while True:
            await context.write(await line.get())

    def _grant(
        self, line: asyncio.Queue[attendance.AttendResponse], message: attendance.AttendRequest
    ) -> None:
        if self.grants and message.HasField("renewal"):
            grant = attendance.Grant(sequence=message.renewal.sequence)
            line.put_nowait(attendance.AttendResponse(grant=grant))

    def _hear(self, node: str, facts: Any) -> None:
        for fact in facts:
            self.facts[node, fact.instance_id, fact.generation] = fact

    def order(self, node: str, key: GuestKey, power: Power, guest: Guest | None = None, **more: Any) -> None:
        before = self.orders.setdefault(node, {}).get(key.instance_id)
        order = attendance.GuestOrder(
            instance_id=key.instance_id,
            generation=key.generation,
            revision=before.revision + 1 if before else 1,
            power=common_pb2.Power.Value(f"POWER_{power.name}"),
            guest=as_message(guest) if guest else b"",
            **more,
        )
        self.orders[node][key.instance_id] = order
        if node in self._lines:
            self._lines[node].put_nowait(attendance.AttendResponse(orders=attendance.Orders(orders=[order])))

    def forget(self, node: str, instance_id: str) -> None:
        self.orders.get(node, {}).pop(instance_id, None)

    def phase(self, node: str, key: GuestKey) -> str:
        fact = self.facts.get((node, *key))
        return PHASES.Name(fact.phase).removeprefix("PHASE_").lower() if fact else ""


class Zone:
    """Nodes `a` and `b` in a process each, and their cluster controller."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.clock = ManualClock()
        self.cluster = Cluster()
        self.transport = MemoryTransport(self.clock)
        self.controllers: dict[str, NodeController] = {}
        self._folder = folder
        self._config = {"start_seconds": 0.2, "bandwidth_mbps": 200.0, **config}
        self._served: Served | None = None
        self._channels: list[Any] = []

    async def open(self, *names: str) -> None:
        await self.open_cluster()
        for name in names:
            await self.start(name)

    async def open_cluster(self) -> None:
        register = partial(add_AttendanceServiceServicer_to_server, self.cluster)
        self._served = await self.transport.serve(CC, "cc:1", register, access=ACCESS)

    async def close_cluster(self) -> None:
        assert self._served is not None
        await self._served.close()

    async def start(self, name: str) -> NodeController:
        controller = NodeController(
            NcConfig(address=f"{name}:1", cluster="cc:1", **self._config),
            Identity("test", "nc", name),
            database=f"sqlite:///{self._folder}/{name}.db",
            clock=self.clock,
            entropy=SeededEntropy(sum(name.encode())),
            transport=self.transport,
            durable=False,
            leases=self._folder / f"{name}.leases",
        )
        self.controllers[name] = controller
        await controller.start()
        return controller

    async def restart(self, name: str) -> NodeController:
        await self.controllers[name].stop()
        return await self.start(name)

    async def close(self) -> None:
        for controller in self.controllers.values():
            await controller.stop()
        for channel in self._channels:
            await channel.close()
        await self.close_cluster()

    def ask(self, name: str) -> Any:
        channel = self.transport.connect(CC, f"{name}:1", expect="nc")
        self._channels.append(channel)
        return NodeServiceStub(channel)

    async def becomes(self, node: str, key: GuestKey, phase: str) -> None:
        await until(self.clock, lambda: self.cluster.phase(node, key) == phase)


class Move:
    """One migration of `i-1`, generation 1 on `a` to generation 2 on `b`, verb by verb."""

    def __init__(self, zone: Zone, guest: Guest, migration_id: str = "mig-1") -> None:
        self.zone = zone
        self.guest = guest
        self.migration_id = migration_id
        self.source = node_pb2.Subject(node="a", instance_id="i-1", generation=1, migration_id=migration_id)
        self.target = node_pb2.Subject(node="b", instance_id="i-1", generation=2, migration_id=migration_id)
        self.here, self.there = zone.ask("a"), zone.ask("b")
        self.way: node_pb2.PrepareResponse | None = None

    async def prepare(self) -> node_pb2.PrepareResponse:
        self.way = await self.there.Prepare(
            node_pb2.PrepareRequest(subject=self.target, guest=as_message(self.guest), source_node="a")
        )
        return self.way

    async def pre_copy(self, **limits: Any) -> tuple[list[node_pb2.PreCopyResponse], str]:
        assert self.way is not None
        ticket = limits.pop("ticket", self.way.ticket)
        request = node_pb2.PreCopyRequest(
            subject=self.source,
            destination_node="b",
            address=self.way.address,
            ticket=ticket,
            destination_generation=2,
            **limits,
        )
        rounds = [each async for each in self.here.PreCopy(request)]
        return rounds[:-1], rounds[-1].stop_reason

    async def stop_and_copy(self) -> node_pb2.StopAndCopyResponse:
        return await self.here.StopAndCopy(node_pb2.StopAndCopyRequest(subject=self.source), timeout=60)

    async def verify(self) -> node_pb2.VerifyResponse:
        return await self.there.Verify(node_pb2.VerifyRequest(subject=self.target))

    async def activate(self) -> None:
        await self.there.Activate(node_pb2.ActivateRequest(subject=self.target))

    async def discard(self) -> None:
        await self.here.Discard(node_pb2.DiscardRequest(subject=self.source))

    async def abandon(self) -> None:
        await self.there.Abandon(node_pb2.AbandonRequest(subject=self.target))

    async def resume(self) -> None:
        await self.here.Resume(node_pb2.ResumeRequest(subject=self.source))

    async def steer(self, **how: Any) -> None:
        await self.here.Steer(node_pb2.SteerRequest(subject=self.source, **how))

    async def handed_over(self) -> node_pb2.StopAndCopyResponse:
        """Stages 1 to 3."""
        await self.prepare()
        await self.pre_copy()
        return await self.stop_and_copy()
