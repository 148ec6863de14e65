"""One zone's cluster controller, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from mallee.cc import words
from mallee.cc.attendance import AttendanceEdge
from mallee.cc.audit.auditor import LOOK_SECONDS, Auditor
from mallee.cc.config import CcConfig
from mallee.cc.convergence import Convergence
from mallee.cc.db import SAGAS
from mallee.cc.db.epochs import NOBODY, SUPERSEDED
from mallee.cc.db.nodes import NodeRow
from mallee.cc.guarding import Guarding
from mallee.cc.ledger import Ledger
from mallee.cc.migration.desk import Desk
from mallee.cc.node_client import NodeClient
from mallee.cc.nodes import Nodes
from mallee.cc.peers import Peer
from mallee.cc.placing import Placing
from mallee.cc.scheduler.policies import policy
from mallee.cc.service import ACCESS, ClusterEdge, IntrospectionEdge
from mallee.cc.tombstones import forget_sagas, sweep_tombstones
from mallee.cc.watch import Watch
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.entropy import Entropy, request_id
from mallee.kernel.errors import Fault
from mallee.kernel.reconcile import Reconciler
from mallee.kernel.rpc import Channel, Identity, Served, Transport
from mallee.kernel.saga.engine import Engine
from mallee.rpc.attendance_pb2_grpc import add_AttendanceServiceServicer_to_server
from mallee.rpc.cluster_pb2_grpc import add_ClusterServiceServicer_to_server
from mallee.rpc.common_pb2_grpc import add_IntrospectionServiceServicer_to_server

STEPS_AT_ONCE = 10_000  # a pre-copy is a long step that costs little: the limit per node is the limit
LEASE_LOOK = 0.5  # seconds between looks at leases and claims
PHASE_LOOK = 2.0  # seconds after which passing phases are written
TOMBSTONE_LOOK = 60.0  # seconds between sweeps of tombstones

_log = structlog.get_logger()


class ClusterController:
    """The service.

    Args:
        config: the `[cc]` section.
        db: opened with `mallee.cc.db.METADATA`; the caller closes it.
        transport: serves and reaches services.
        me: whose certificate it shows.
        listen: `host:port`, port 0 for any.
        connect: makes a node's client; by default over `transport`.
        holder: the id of its state folder, whose lock says that a predecessor of the same id is dead.

    Attributes:
        deposed: set when another process has become the zone's controller: end this one.
    """

    def __init__(
        self,
        config: CcConfig,
        db: Database,
        transport: Transport,
        me: Identity,
        *,
        listen: str,
        clock: Clock,
        entropy: Entropy,
        connect: Callable[[NodeRow], Peer] | None = None,
        holder: str = NOBODY,
    ) -> None:
        self.config = config
        self._transport = transport
        self._me = me
        self._listen = listen
        self._clock = clock
        self._entropy = entropy
        self._holder = holder
        self.deposed = asyncio.Event()
        self._channels: dict[tuple[str, str], Channel] = {}
        self.ledger = Ledger(db, config.zone, policy(config.policy), clock)
        self.placing = Placing(self.ledger, config.claim_seconds, words.has_root_disk)
        self.nodes = Nodes(self.ledger, config, words.description)
        self.desk = Desk(
            self.ledger,
            self.nodes,
            connect=connect or self._reach,
            touch=self._touch,
            per_node=config.migrations_per_node,
        )
        self.convergence = Convergence(
            self.ledger,
            self.placing,
            send=self.nodes.send,
            gone=self.nodes.is_fenced,
            touch=self._touch,
            wants_out=self.desk.wants_out,
            in_transit=self.desk.in_transit,
            stays=words.stays,
        )
        self.nodes.convergence = self.desk.convergence = self.convergence
        self.nodes.back = self.desk.node_is_back
        self.watch = Watch(self.ledger, self.desk.migration_of, lambda: bool(self.nodes.guarding))
        self.auditor = Auditor(self.ledger, self.nodes, self.desk, config.claim_seconds)
        self.guarding = Guarding(self.nodes, self.desk.migration_of)
        self.engine = Engine(
            db,
            SAGAS,
            [self.desk.saga()],
            owner=f"cc-{config.zone}",
            clock=clock,
            entropy=entropy,
            concurrency=STEPS_AT_ONCE,
            fence=self.ledger.check,
        )
        self.desk.engine = self.engine
        self._served: Served | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def address(self) -> str:
        """Where it listens, once started."""
        assert self._served is not None, "not started"
        return self._served.address

    async def start(self) -> None:
        """Read everything back, go on with what was under way, and answer.

        Raises:
            Fault: the address is in use, or the database cannot be read.
        """
        before = await self.ledger.open(self._holder)
        succeeds = before.holder not in {NOBODY, self._holder}
        self.nodes.open(held_on=self.config.hold_seconds if succeeds else 0.0)
        await self.desk.open()
        works = (self.engine.run(), self.watch.summarise(), *(one.run() for one in self._reconcilers()))
        self._tasks = [asyncio.create_task(work) for work in works]
        for task in self._tasks:
            task.add_done_callback(_told)
        self._served = await self._transport.serve(
            self._me,
            self._listen,
            partial(add_ClusterServiceServicer_to_server, self._edge()),
            partial(add_AttendanceServiceServicer_to_server, AttendanceEdge(self.nodes, self.config)),
            partial(add_IntrospectionServiceServicer_to_server, IntrospectionEdge(self._me, self._clock)),
            access=ACCESS,
        )

    async def stop(self) -> None:
        """Stop answering, write what is decided, and let go. May be called twice."""
        if self._served is not None:
            await self._served.close()
            self._served = None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.desk.close()
        await self.ledger.journal.close()
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def _edge(self) -> ClusterEdge:
        return ClusterEdge(
            self.config,
            request_id(self._entropy),
            ledger=self.ledger,
            placing=self.placing,
            convergence=self.convergence,
            nodes=self.nodes,
            watch=self.watch,
            desk=self.desk,
            auditor=self.auditor,
            guarding=self.guarding,
        )

    def _reconcilers(self) -> list[Reconciler]:
        sweep = partial(sweep_tombstones, self.ledger, self.config.tombstone_seconds)
        passes = (
            ("leases", self.nodes.sweep, LEASE_LOOK),
            ("claims", self.placing.sweep, LEASE_LOOK),
            ("migrations", self.desk.pump, TOMBSTONE_LOOK),
            ("phases", self.ledger.note_phases, PHASE_LOOK),
            ("tombstones", sweep, TOMBSTONE_LOOK),
            (
                "ended sagas",
                partial(forget_sagas, self.ledger, self.config.tombstone_seconds),
                TOMBSTONE_LOOK,
            ),
            ("audit", self.auditor.sweep, LOOK_SECONDS),
            ("guards", self.guarding.sweep, LEASE_LOOK),
        )
        beat = (("beat", self._beat, LEASE_LOOK),) if self.config.database else ()
        return [
            Reconciler(name, one_pass, every=every, clock=self._clock)
            for name, one_pass, every in (*beat, *passes)
        ]

    async def _beat(self) -> None:
        try:
            await self.ledger.beat()
        except Fault as fault:
            if fault.code == SUPERSEDED:
                self.deposed.set()
            else:
                _log.warning("the controller could not show that it lives", why=str(fault))

    def _touch(self, instance_ids: Sequence[str]) -> None:
        self.watch.touch(instance_ids)

    def _reach(self, node: NodeRow) -> Peer:
        """A client of the node's server, one for all nodes that it hosts; nobody else may answer there."""
        where = node.address, node.speaker
        channel = self._channels.get(where)
        if channel is None:
            expect = Identity(self._me.cloud, "nc", node.speaker)
            channel = self._channels[where] = self._transport.connect(self._me, node.address, expect=expect)
        return NodeClient(channel)


def _told(task: asyncio.Task[Any]) -> None:
    """A task for ever that ended by itself is our bug, and must be heard of."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a task of the cluster controller died", exc_info=error)
