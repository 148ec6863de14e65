"""A node's open line to its cluster controller: orders come down, facts and renewals go up.

Nothing on it is remembered: each time it opens the node says everything it has, and hears
everything it should have. A node whose lease lapsed hangs up by itself, because only a new line
brings the whole of its orders, without which nothing may run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn

from mallee import __version__
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Channel, keep_streaming
from mallee.nc.guarding import Guarding
from mallee.nc.node import Node
from mallee.nc.words import fact_message, guards_of, order_of, resources_message
from mallee.rpc.attendance_pb2 import AttendRequest, AttendResponse, Hello, Renewal
from mallee.rpc.attendance_pb2_grpc import AttendanceServiceStub

GATHER_SECONDS = 0.005  # facts that fall within it go up together
FACTS_A_MESSAGE = 2_000
INVENTORY_A_MESSAGE = 250


class Attendance:
    """Keeps one node's line.

    Args:
        node: who attends.
        boot_id: another one after each boot of the host.
        address: of the node's own server.
        channel: to the cluster controller.
        clock: times renewals and the lease.
        entropy: spreads the nodes of a zone over time.
    """

    def __init__(
        self, node: Node, *, boot_id: str, address: str, channel: Channel, clock: Clock, entropy: Entropy
    ) -> None:
        self._node = node
        self._boot_id = boot_id
        self._address = address
        self._stub = AttendanceServiceStub(channel)
        self._clock = clock
        self._entropy = entropy
        self._renew_seconds = 3.0
        self._lapsed = asyncio.Event()
        self._due = False  # the lease wants to be renewed
        self._asked = asyncio.Event()  # for the inventory
        self._stir = asyncio.Event()  # something is to be said before it is
        self._guards = Guarding(node.driver, clock) if node.capabilities.guards else None

    async def run(self) -> NoReturn:
        """Attend until cancelled."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_beside(self._node.lease.watch(self._lapse)))
            if self._guards is not None:
                await stack.enter_async_context(_beside(self._guards.run()))
            await keep_streaming(
                f"attend {self._node.name}",
                self._stub.Attend,
                self._attend,
                clock=self._clock,
                entropy=self._entropy,
            )

    def _lapse(self) -> None:
        self._node.guests.lapse()
        self._lapsed.set()

    async def _attend(self, stream: Any) -> None:
        self._lapsed.clear()
        self._asked.clear()
        self._due = False
        await stream.write(self._hello())
        async with (
            _beside(self._read(stream)) as reading,
            _beside(self._write(stream)) as writing,
            _beside(self._lapsed.wait()) as lapsing,
        ):
            ended, _ = await asyncio.wait((reading, writing, lapsing), return_when=asyncio.FIRST_COMPLETED)
            if lapsing in ended:
                raise Fault(
                    Kind.UNAVAILABLE,
                    f"The lease of {self._node.name} has lapsed.",
                    why="No renewal was granted in time; every guest is paused.",
                    code="lease-lapsed",
                )
            for each in ended:
                each.result()

    def _hello(self) -> AttendRequest:
        node = self._node
        return AttendRequest(
            hello=Hello(
                node=node.name,
                boot_id=self._boot_id,
                address=self._address,
                hypervisor=node.capabilities.hypervisor,
                cpu_model=node.capabilities.cpu_model,
                capacity=resources_message(node.capabilities.capacity),
                inventory_follows=True,
                guards=node.capabilities.guards,
                version=__version__,
            ),
            renewal=Renewal(sequence=node.lease.send()),
        )

    async def _read(self, stream: AsyncIterator[AttendResponse]) -> None:
        async for answer in stream:
            if answer.HasField("welcome"):
                self._renew_seconds = answer.welcome.renew_seconds or self._renew_seconds
                if answer.welcome.lease_seconds > 0:
                    self._node.lease.set_seconds(answer.welcome.lease_seconds)
            if answer.HasField("grant") and self._node.lease.grant(answer.grant.sequence):
                self._node.guests.renew()
            if answer.say_inventory:
                self._asked.set()
                self._stir.set()
            if answer.HasField("guards") and self._guards is not None:
                self._guards.put(guards_of(answer.guards))
            if answer.HasField("orders"):
                orders = (order_of(each) for each in answer.orders.orders)
                self._node.guests.take_orders(_known(orders), whole=answer.orders.whole)

    async def _write(self, stream: Any) -> None:
        """The one writer: a stream takes one message at a time."""
        guests = self._node.guests
        async with _beside(self._pace()):
            while not self._asked.is_set():
                await self._stir.wait()
                self._stir.clear()
                if self._due:
                    await stream.write(self._renewal(AttendRequest()))
            await self._say_all(stream)
            while True:
                await guests.news.wait()
                if not self._due:
                    await self._clock.sleep(GATHER_SECONDS)
                facts = [fact_message(fact) for fact in guests.take_news()]
                await stream.write(self._renewal(AttendRequest(facts=facts[:FACTS_A_MESSAGE])))
                for first in range(FACTS_A_MESSAGE, len(facts), FACTS_A_MESSAGE):
                    await stream.write(AttendRequest(facts=facts[first : first + FACTS_A_MESSAGE]))

    async def _say_all(self, stream: Any) -> None:
        """The inventory, in parts between which leases are renewed, this one and those of others."""
        guests = self._node.guests
        guests.take_news()  # the inventory says it, and the orders will ask for what it does not say
        for part in guests.inventory(INVENTORY_A_MESSAGE):
            message = AttendRequest(facts=[fact_message(fact) for fact in part])
            await stream.write(self._renewal(message))
        await stream.write(AttendRequest(inventory_end=True))

    def _renewal(self, message: AttendRequest) -> AttendRequest:
        """The message, with a renewal if one is due."""
        if self._due:
            self._due = False
            message.renewal.sequence = self._node.lease.send()
        return message

    async def _pace(self) -> None:
        """Have the lease renewed, from a random point on, so that a thousand nodes renew evenly.

        At once when guests wait for it.
        """
        if self._node.lease.held:
            await self._clock.sleep(self._entropy.uniform(0.3, 1.0) * self._renew_seconds)
        while True:
            self._due = True
            self._stir.set()
            self._node.guests.news.set()
            await self._clock.sleep(self._renew_seconds)


def _known(orders: Iterable[Any]) -> list[Any]:
    return [order for order in orders if order is not None]


@asynccontextmanager
async def _beside(work: Awaitable[Any]) -> AsyncIterator[asyncio.Future[Any]]:
    """A task that ends with the block; a failure nobody asked for is not lost on the way out."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()
