"""What the CLC asks of a zone, as gRPC."""

# ruff: noqa: ARG002 - the contracts name these methods and their arguments

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from mallee import __version__
from mallee.cc import capturing, words
from mallee.cc.audit import edge as audit
from mallee.cc.audit.auditor import Auditor
from mallee.cc.config import CcConfig
from mallee.cc.convergence import Convergence
from mallee.cc.guarding import Guarding
from mallee.cc.ledger import Ledger
from mallee.cc.migration.desk import Desk
from mallee.cc.nodes import Nodes, unknown_node
from mallee.cc.peers import Goal, Subject
from mallee.cc.placing import Placing, host_number
from mallee.cc.watch import Watch
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable, Identity
from mallee.rpc import cluster_pb2, common_pb2
from mallee.rpc.cluster_pb2_grpc import ClusterServiceServicer
from mallee.rpc.common_pb2_grpc import IntrospectionServiceServicer

_VERBS = (
    "Place",
    "Release",
    "Converge",
    "PlaceInTurn",
    "ConvergeInTurn",
    "Watch",
    "ListNodes",
    "CordonNode",
    "Migrate",
    "ListMigrations",
    "SteerMigration",
    "GetConsoleOutput",
    "GetConsoleScreenshot",
    "FollowConsole",
    "Guard",
    "Audit",
    "CaptureRoot",
)
ACCESS = AccessTable(
    {f"/mallee.cluster.v1.ClusterService/{verb}": {"clc"} for verb in _VERBS}
    | {
        "/mallee.attendance.v1.AttendanceService/Attend": {"nc"},
        "/mallee.common.v1.IntrospectionService/Describe": {"*"},
    }
)

_PAGE = 1000


class ClusterEdge(ClusterServiceServicer):
    """Serves the contract; every method is one call of the room that knows."""

    def __init__(
        self,
        config: CcConfig,
        epoch: str,
        *,
        ledger: Ledger,
        placing: Placing,
        convergence: Convergence,
        nodes: Nodes,
        watch: Watch,
        desk: Desk,
        auditor: Auditor,
        guarding: Guarding,
    ) -> None:
        self._config = config
        self._epoch = epoch
        self._ledger = ledger
        self._placing = placing
        self._convergence = convergence
        self._nodes = nodes
        self._watch = watch
        self._desk = desk
        self._auditor = auditor
        self._guarding = guarding

    async def Place(self, request: cluster_pb2.PlaceRequest, context: Any) -> cluster_pb2.PlaceResponse:
        return cluster_pb2.PlaceResponse(outcomes=await self._place(request.asks))

    async def PlaceInTurn(
        self, request_iterator: AsyncIterator[cluster_pb2.PlaceInTurnRequest], context: Any
    ) -> AsyncIterator[cluster_pb2.PlaceInTurnResponse]:
        async for request in request_iterator:
            yield cluster_pb2.PlaceInTurnResponse(outcomes=await self._place(request.asks))

    async def _place(self, asks: Iterable[cluster_pb2.Ask]) -> list[cluster_pb2.Outcome]:
        outcomes = await self._placing.place([words.ask(ask) for ask in asks])
        return [words.outcome_message(outcome) for outcome in outcomes]

    async def Release(self, request: cluster_pb2.ReleaseRequest, context: Any) -> cluster_pb2.ReleaseResponse:
        await self._placing.release(request.instance_ids)
        return cluster_pb2.ReleaseResponse()

    async def Converge(
        self,
        request: cluster_pb2.ConvergeRequest,
        context: Any,
    ) -> cluster_pb2.ConvergeResponse:
        await self._convergence.converge([words.wish(wish) for wish in request.instances])
        return cluster_pb2.ConvergeResponse()

    async def ConvergeInTurn(
        self, request_iterator: AsyncIterator[cluster_pb2.ConvergeInTurnRequest], context: Any
    ) -> AsyncIterator[cluster_pb2.ConvergeInTurnResponse]:
        async for request in request_iterator:
            await self._convergence.converge([words.wish(wish) for wish in request.instances])
            yield cluster_pb2.ConvergeInTurnResponse()

    async def Watch(
        self,
        request: cluster_pb2.WatchRequest,
        context: Any,
    ) -> AsyncIterator[cluster_pb2.WatchResponse]:
        sequence = 0
        async with aclosing(self._watch.follow()) as news:
            async for one in news:
                sequence += 1
                yield words.news_message(self._config.zone, self._epoch, sequence, one)

    async def ListNodes(
        self, request: cluster_pb2.ListNodesRequest, context: Any
    ) -> cluster_pb2.ListNodesResponse:
        numbers = [host_number(host_id) for host_id in request.host_ids]
        after = host_number(request.after_host_id) if request.after_host_id else -1
        rows = self._nodes.page(numbers, after, request.max_results or _PAGE)
        return cluster_pb2.ListNodesResponse(
            nodes=[self._node(row.number, with_instances=request.with_instances) for row in rows]
        )

    async def CordonNode(
        self, request: cluster_pb2.CordonNodeRequest, context: Any
    ) -> cluster_pb2.CordonNodeResponse:
        number = host_number(request.host_id)
        if number < 0:
            raise unknown_node(request.host_id)
        await self._nodes.cordon(number, cordoned=request.cordoned)
        return cluster_pb2.CordonNodeResponse(node=self._node(number, with_instances=False))

    def _node(self, number: int, *, with_instances: bool) -> cluster_pb2.Node:
        host = self._ledger.inventory.hosts[number]
        guests = self._nodes.guests_on(number) if with_instances else []
        phases = [
            (guest, fact.phase if (fact := self._watch.fact(guest.instance_id)) else guest.phase)
            for guest in guests
        ]
        return words.node_message(self._ledger.nodes.rows[number], host, self._nodes.state(host), phases)

    async def Migrate(self, request: cluster_pb2.MigrateRequest, context: Any) -> cluster_pb2.MigrateResponse:
        if not request.instance_id or not (request.migration_id or request.plan_only):
            raise Fault(
                Kind.INVALID,
                "A migration needs an instance and an id of its own.",
                fix="Make the id before the call, and send the same one when you repeat it.",
                code="bad-migration",
            )
        asked = words.asked(request, self._config.limits)
        answer = await self._desk.migrate(asked, plan_only=request.plan_only)
        return cluster_pb2.MigrateResponse(
            migration=words.migration_message(answer.migration) if answer.migration else None,
            refusals=[
                cluster_pb2.Refusal(host_id=refusal.host_id, cause=words.cause_message(refusal.cause))
                for refusal in answer.plan.refusals
            ],
            candidate_host_ids=[host.host_id for host in answer.plan.candidates],
        )

    async def ListMigrations(
        self, request: cluster_pb2.ListMigrationsRequest, context: Any
    ) -> cluster_pb2.ListMigrationsResponse:
        page = await self._desk.page(
            migration_ids=list(request.migration_ids),
            instance_ids=list(request.instance_ids),
            states=list(request.states),
            after=request.after_migration_id,
            limit=request.max_results or _PAGE,
        )
        return cluster_pb2.ListMigrationsResponse(migrations=[words.migration_message(one) for one in page])

    async def SteerMigration(
        self, request: cluster_pb2.SteerMigrationRequest, context: Any
    ) -> cluster_pb2.SteerMigrationResponse:
        migration = await self._desk.steer(
            request.migration_id, cancel=request.cancel, force_complete=request.force_complete
        )
        return cluster_pb2.SteerMigrationResponse(migration=words.migration_message(migration))

    async def GetConsoleOutput(
        self, request: cluster_pb2.GetConsoleOutputRequest, context: Any
    ) -> cluster_pb2.GetConsoleOutputResponse:
        number = self._where(request.instance_id)
        if number < 0:
            return cluster_pb2.GetConsoleOutputResponse()  # it never ran here, so it never wrote
        peer, name = self._desk.peer(number), self._desk.node_name(number)
        output, at_ms = await peer.console(name, request.instance_id)
        return cluster_pb2.GetConsoleOutputResponse(output=output, at_ms=at_ms)

    async def GetConsoleScreenshot(
        self, request: cluster_pb2.GetConsoleScreenshotRequest, context: Any
    ) -> cluster_pb2.GetConsoleScreenshotResponse:
        number = self._must_be_somewhere(request.instance_id)
        peer, name = self._desk.peer(number), self._desk.node_name(number)
        picture, kind = await peer.screenshot(name, request.instance_id)
        return cluster_pb2.GetConsoleScreenshotResponse(picture=picture, type=kind)

    async def FollowConsole(
        self, request: cluster_pb2.FollowConsoleRequest, context: Any
    ) -> AsyncIterator[cluster_pb2.FollowConsoleResponse]:
        number = self._must_be_somewhere(request.instance_id)
        peer, name = self._desk.peer(number), self._desk.node_name(number)
        async with aclosing(peer.follow_console(name, request.instance_id)) as written:
            async for some in written:
                yield cluster_pb2.FollowConsoleResponse(output=some)

    def _where(self, instance_id: str) -> int:
        """The node that has the instance, or had it last; -1 for none."""
        row = self._ledger.placements.rows.get(instance_id)
        return -1 if row is None else row.host if row.host >= 0 else row.left_host

    def _must_be_somewhere(self, instance_id: str) -> int:
        number = self._where(instance_id)
        if number < 0:
            raise Fault(
                Kind.NOT_FOUND,
                f"{instance_id} is on no node of this zone.",
                fix="Start it first.",
                code="no-such-guest",
            )
        return number

    async def Guard(self, request: cluster_pb2.GuardRequest, context: Any) -> cluster_pb2.GuardResponse:
        self._guarding.take(words.guards_of(request.guards))
        return cluster_pb2.GuardResponse()

    async def CaptureRoot(
        self, request: cluster_pb2.CaptureRootRequest, context: Any
    ) -> AsyncIterator[cluster_pb2.CaptureRootResponse]:
        number, generation = capturing.where(self._ledger, request.instance_id, request.generation)
        subject = Subject(self._desk.node_name(number), request.instance_id, generation, "")
        goal = Goal(request.capture_id, request.bucket, request.key, request.owner)
        async with aclosing(self._desk.peer(number).capture(subject, goal)) as told:
            async for one in told:
                yield capturing.message(one)

    async def Audit(
        self, request: cluster_pb2.AuditRequest, context: Any
    ) -> AsyncIterator[cluster_pb2.AuditResponse]:
        for part in audit.instances(self._ledger, self._watch):
            yield part
        await self._auditor.look()
        yield audit.verdict(self._auditor, self._ledger.clock.monotonic())


class IntrospectionEdge(IntrospectionServiceServicer):
    """Says who this is."""

    def __init__(self, me: Identity, clock: Clock) -> None:
        self._me = me
        self._clock = clock
        self._started = clock.monotonic()

    async def Describe(
        self, request: common_pb2.DescribeRequest, context: Any
    ) -> common_pb2.DescribeResponse:
        return common_pb2.DescribeResponse(
            role=self._me.role,
            name=self._me.name,
            cloud=self._me.cloud,
            version=__version__,
            uptime_seconds=self._clock.monotonic() - self._started,
        )
