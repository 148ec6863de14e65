"""The node controller as a whole: one process, one server, one database, one node or thousands of fake ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.entropy import Entropy
from mallee.kernel.reconcile import Reconciler
from mallee.kernel.rpc import Channel, Identity, Keys, Served, Transport
from mallee.nc.attendance import Attendance
from mallee.nc.captures import Captures
from mallee.nc.config import NcConfig
from mallee.nc.db import MIGRATIONS, metadata
from mallee.nc.db.tombstones import Graveyard
from mallee.nc.driver import Driver
from mallee.nc.drivers import choice
from mallee.nc.drivers.fake_knobs import Knobs
from mallee.nc.guests import Guests
from mallee.nc.images.objects import ObjectStore
from mallee.nc.lease import Lease
from mallee.nc.lease_file import LeaseFile
from mallee.nc.migration import Migrations
from mallee.nc.node import Node
from mallee.nc.service import ACCESS, Introspection, Nodes, NodeService, PageSink
from mallee.rpc.common_pb2_grpc import add_IntrospectionServiceServicer_to_server
from mallee.rpc.node_pb2_grpc import add_NodeServiceServicer_to_server, add_PageSinkServiceServicer_to_server

_BREATH = 0.001  # seconds

_log = structlog.get_logger()


class NodeController:
    """One node controller.

    Args:
        config: the `[nc]` section.
        me: its identity; its nodes carry this name, numbered if there are several.
        database: where its guests and tombstones are, e.g. `sqlite:////var/lib/mallee/nc/nc.db`.
        clock, entropy, transport: the world.
        durable: False in tests and simulation, see `Database.open`.
        leases: the file of its nodes' deadlines; without one a restart begins a new lease.

    Attributes:
        nodes: by name, once started.
        knobs: of each node's fake hypervisor.
    """

    def __init__(
        self,
        config: NcConfig,
        me: Identity,
        *,
        database: str,
        clock: Clock,
        entropy: Entropy,
        transport: Transport,
        durable: bool = True,
        leases: Path | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.knobs = {name: Knobs() for name in config.node_names(me.name)}
        self._config = config
        self._me = me
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._transport = transport
        self._durable = durable
        self._lease_path = leases
        self._keys = keys
        self._lease_file: LeaseFile | None = None
        self._boot_id: Callable[[str], str] = str
        self._served: Served | None = None
        self._channels: dict[tuple[str, Identity | str], Channel] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._stack = AsyncExitStack()

    @property
    def address(self) -> str:
        """Where it answers, once started."""
        return self._served.address if self._served else self._config.address

    async def start(self) -> None:
        """Adopt what runs, answer, and attend. Raises Fault CONFLICT `address-in-use`."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    @property
    def _objects(self) -> ObjectStore:
        return ObjectStore(self._reach(self._config.objects, "walrus"))

    async def _start(self) -> None:
        db = await Database.open(
            self._database, metadata=metadata, migrations=MIGRATIONS, durable=self._durable
        )
        self._stack.push_async_callback(db.close)
        if self._lease_path is not None:
            self._lease_file = LeaseFile(self._lease_path)
            self._stack.callback(self._lease_file.close)
        graveyard = Graveyard(db, self._clock)
        await graveyard.load()
        drivers, self._boot_id = await choice.open_drivers(
            self._config,
            self._me,
            db,
            self.knobs,
            clock=self._clock,
            entropy=self._entropy,
            stack=self._stack,
            objects=self._objects,
            keys=self._keys,
            traces=self._lease_path.with_name("host.json") if self._lease_path else None,
        )
        for name, driver in drivers.items():
            self.nodes[name] = await self._node(name, driver, graveyard)
        await self._serve()
        self._attend()

    async def _node(self, name: str, driver: Driver, graveyard: Graveyard) -> Node:
        clock, entropy = self._clock, self._entropy
        lease = self._lease(name)
        guests = Guests(name, driver, graveyard, clock, held=lease.held)
        self._stack.push_async_callback(guests.close)
        await guests.look()
        migrations = Migrations(name, driver, guests, graveyard, entropy)
        self._stack.callback(migrations.close)
        return Node(name, driver, await driver.capabilities(), guests, lease, migrations)

    def _lease(self, name: str) -> Lease:
        seconds, file = self._config.lease_seconds, self._lease_file
        if file is None:
            return Lease(self._clock, seconds)
        return Lease(self._clock, seconds, until=file.deadline(name), keep=partial(file.keep, name))

    async def _serve(self) -> None:
        nodes = Nodes(self.nodes)
        captures = Captures(self._objects)
        self._stack.push_async_callback(captures.close)
        service = NodeService(nodes, lambda: self.address, self._to_node, self._clock, captures)
        self._served = await self._transport.serve(
            self._me,
            self._config.address,
            partial(add_NodeServiceServicer_to_server, service),
            partial(add_PageSinkServiceServicer_to_server, PageSink(nodes)),
            partial(add_IntrospectionServiceServicer_to_server, Introspection(self._me, self._clock)),
            access=ACCESS,
        )

    def _attend(self) -> None:
        for node in self.nodes.values():
            attendance = Attendance(
                node,
                boot_id=self._boot_id(node.name),
                address=self.address,
                channel=self._to_cluster(),
                clock=self._clock,
                entropy=self._entropy,
            )
            self._run(attendance.run())
            self._run(node.guests.watch())
        self._run(self._look_on())

    async def _look_on(self) -> None:
        """Read the inventories again, from time to time."""
        every = self._config.look_seconds
        await self._clock.sleep(every)  # they were read at the start
        await Reconciler("inventory", self._look, every=every, clock=self._clock).run()

    async def _look(self) -> None:
        for node in self.nodes.values():
            await node.guests.look()
            await self._clock.sleep(_BREATH)  # renewals do not wait for all of them

    def _to_cluster(self) -> Channel:
        if not self._config.connection_each:
            return self._reach(self._config.cluster, "cc")
        channel = self._transport.connect(self._me, self._config.cluster, expect="cc", own_connection=True)
        self._stack.push_async_callback(channel.close)
        return channel

    def _to_node(self, address: str, name: str) -> Channel:
        """Another node controller: nobody else gets a guest's memory."""
        return self._reach(address, Identity(self._me.cloud, "nc", name) if name else "nc")

    def _reach(self, address: str, who: Identity | str) -> Channel:
        channel = self._channels.get((address, who))
        if channel is None:
            channel = self._channels[address, who] = self._transport.connect(self._me, address, expect=who)
            self._stack.push_async_callback(channel.close)
        return channel

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(_told)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Attend and answer no more; guests live on. May be called twice."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()
        if self._served is not None:
            await self._served.close()
            self._served = None
        await self._stack.aclose()
        self._channels.clear()


def _told(task: asyncio.Task[Any]) -> None:
    """A task for ever that ended by itself is our bug, and must be heard of."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a task of the node controller died", exc_info=error)
