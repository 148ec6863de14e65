"""The node controller's gRPC face, for all nodes of a process: every request names its node."""

# ruff: noqa: ARG002 - the contracts name these methods and their arguments

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from mallee import __version__
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable, Channel, Identity
from mallee.nc.captures import Captures, Wanted
from mallee.nc.drivers.pre_copy import PAGE_BYTES, expected_downtime_ms
from mallee.nc.node import Node
from mallee.nc.wire import RpcWire
from mallee.nc.words import capture_message, guest_of, key_of
from mallee.rpc import common_pb2, common_pb2_grpc, node_pb2, node_pb2_grpc

_CLUSTER_VERBS = (
    "Prepare",
    "PreCopy",
    "StopAndCopy",
    "Verify",
    "Activate",
    "Discard",
    "Abandon",
    "Resume",
    "Steer",
    "GetConsoleOutput",
    "GetConsoleScreenshot",
    "FollowConsole",
    "CaptureRoot",
)
ACCESS = AccessTable(
    {f"/mallee.node.v1.NodeService/{verb}": {"cc"} for verb in _CLUSTER_VERBS}
    | {
        "/mallee.node.v1.PageSinkService/Receive": {"nc"},
        "/mallee.common.v1.IntrospectionService/Describe": {"*"},
    }
)


class Nodes:
    """The nodes of this process, by name."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    def of(self, name: str) -> Node:
        """Raises Fault NOT_FOUND `no-such-node`."""
        node = self._nodes.get(name)
        if node is None:
            raise Fault(
                Kind.NOT_FOUND,
                f"No node {name!r} is here.",
                fix="Ask the cluster controller for the node's address.",
                code="no-such-node",
            )
        return node


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """What a cluster controller asks.

    Args:
        nodes: the nodes of this process.
        address: of this process's own server, for those who send pages.
        reach: a channel to another node controller's address, where this name must answer.
        clock: dates the console's output.
        captures: of root disks of the guests of these nodes.
    """

    def __init__(
        self,
        nodes: Nodes,
        address: Callable[[], str],
        reach: Callable[[str, str], Channel],
        clock: Clock,
        captures: Captures,
    ) -> None:
        self._nodes = nodes
        self._captures = captures
        self._address = address
        self._reach = reach
        self._clock = clock

    async def Prepare(self, request: node_pb2.PrepareRequest, context: Any) -> node_pb2.PrepareResponse:
        to = request.subject
        migrations = self._nodes.of(to.node).migrations
        ticket, landing = await migrations.prepare(
            key_of(to), to.migration_id, guest_of(request.guest), request.source_node
        )
        return node_pb2.PrepareResponse(address=self._address(), ticket=ticket, landing=landing)

    async def PreCopy(
        self, request: node_pb2.PreCopyRequest, context: Any
    ) -> AsyncIterator[node_pb2.PreCopyResponse]:
        of = request.subject
        destination = node_pb2.Subject(
            node=request.destination_node,
            instance_id=of.instance_id,
            generation=request.destination_generation,
            migration_id=of.migration_id,
        )
        node = self._nodes.of(of.node)
        words = node.migrations.pre_copy(
            key_of(of),
            of.migration_id,
            lambda: RpcWire(
                self._reach(request.address, request.destination_service), destination, request.ticket
            ),
            _limits(request),
            request.landing,
            request.destination_service,
        )
        memory = next((f.resources.memory_mib for f in node.guests.facts() if f.key == key_of(of)), 0)
        try:
            async for word in words:
                if isinstance(word, str):
                    yield node_pb2.PreCopyResponse(stop_reason=word)
                else:
                    yield _round_message(word, memory * 1024 * 1024)
        finally:
            await words.aclose()

    async def StopAndCopy(
        self, request: node_pb2.StopAndCopyRequest, context: Any
    ) -> node_pb2.StopAndCopyResponse:
        of = request.subject
        done = await self._nodes.of(of.node).migrations.stop_and_copy(key_of(of), of.migration_id)
        return node_pb2.StopAndCopyResponse(
            pages_sent=done.pages_sent,
            bytes_sent=done.bytes_sent,
            paused_ms=done.paused_ms,
            digest=done.digest,
        )

    async def Verify(self, request: node_pb2.VerifyRequest, context: Any) -> node_pb2.VerifyResponse:
        of = request.subject
        digest = await self._nodes.of(of.node).migrations.verify(key_of(of), of.migration_id)
        return node_pb2.VerifyResponse(whole=bool(digest), digest=digest)

    async def Activate(self, request: node_pb2.ActivateRequest, context: Any) -> node_pb2.ActivateResponse:
        of = request.subject
        await self._nodes.of(of.node).migrations.activate(key_of(of), of.migration_id)
        return node_pb2.ActivateResponse()

    async def Discard(self, request: node_pb2.DiscardRequest, context: Any) -> node_pb2.DiscardResponse:
        of = request.subject
        await self._nodes.of(of.node).migrations.discard(key_of(of), of.migration_id)
        return node_pb2.DiscardResponse()

    async def Abandon(self, request: node_pb2.AbandonRequest, context: Any) -> node_pb2.AbandonResponse:
        of = request.subject
        await self._nodes.of(of.node).migrations.abandon(key_of(of), of.migration_id)
        return node_pb2.AbandonResponse()

    async def Resume(self, request: node_pb2.ResumeRequest, context: Any) -> node_pb2.ResumeResponse:
        of = request.subject
        await self._nodes.of(of.node).migrations.resume(key_of(of), of.migration_id)
        return node_pb2.ResumeResponse()

    async def Steer(self, request: node_pb2.SteerRequest, context: Any) -> node_pb2.SteerResponse:
        of = request.subject
        self._nodes.of(of.node).migrations.steer(
            key_of(of),
            of.migration_id,
            finish=request.finish,
            bandwidth_mbps=max(0.0, request.bandwidth_mbps),
        )
        return node_pb2.SteerResponse()

    async def GetConsoleOutput(
        self, request: node_pb2.GetConsoleOutputRequest, context: Any
    ) -> node_pb2.GetConsoleOutputResponse:
        output = await self._nodes.of(request.node).driver.console(request.instance_id)
        return node_pb2.GetConsoleOutputResponse(
            output=output, at_ms=int(self._clock.now().timestamp() * 1000)
        )

    async def GetConsoleScreenshot(
        self, request: node_pb2.GetConsoleScreenshotRequest, context: Any
    ) -> node_pb2.GetConsoleScreenshotResponse:
        picture = await self._nodes.of(request.node).driver.screenshot(request.instance_id)
        return node_pb2.GetConsoleScreenshotResponse(picture=picture, type="image/jpeg")

    async def FollowConsole(
        self, request: node_pb2.FollowConsoleRequest, context: Any
    ) -> AsyncIterator[node_pb2.FollowConsoleResponse]:
        written = self._nodes.of(request.node).driver.follow_console(request.instance_id)
        async with aclosing(written):
            async for some in written:
                yield node_pb2.FollowConsoleResponse(output=some)

    async def CaptureRoot(
        self, request: node_pb2.CaptureRootRequest, context: Any
    ) -> AsyncIterator[node_pb2.CaptureRootResponse]:
        of = request.subject
        goal = (request.capture_id, request.bucket, request.key, request.owner)
        wanted = Wanted(of.node, key_of(of), *goal)
        words = self._captures.follow(self._nodes.of(of.node).driver, wanted)
        async with aclosing(words):
            async for word in words:
                yield capture_message(word)


class PageSink(node_pb2_grpc.PageSinkServiceServicer):
    """Where other nodes send pages to."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    async def Receive(
        self, request_iterator: AsyncIterator[node_pb2.ReceiveRequest], context: Any
    ) -> node_pb2.ReceiveResponse:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None:
            raise Fault(Kind.INVALID, "A sender of pages said nothing.", code="no-ticket")
        to = first.subject
        migrations = self._nodes.of(to.node).migrations
        token = await migrations.admit(key_of(to), to.migration_id, first.ticket)
        await context.send_initial_metadata(())
        pages, digest = 0, ""
        async for each in requests:
            pages += len(each.page_numbers) // 4
            digest = await migrations.receive(
                token, to.migration_id, each.round, each.page_numbers, each.page_contents, each.cpu_state
            )
        return node_pb2.ReceiveResponse(pages=pages, digest=digest)


class Introspection(common_pb2_grpc.IntrospectionServiceServicer):
    """Says who this is."""

    def __init__(self, me: Identity, clock: Clock) -> None:
        self._me = me
        self._clock = clock
        self._since = clock.boot()

    async def Describe(
        self, request: common_pb2.DescribeRequest, context: Any
    ) -> common_pb2.DescribeResponse:
        return common_pb2.DescribeResponse(
            role=self._me.role,
            name=self._me.name,
            cloud=self._me.cloud,
            version=__version__,
            uptime_seconds=self._clock.boot() - self._since,
        )


def _limits(request: node_pb2.PreCopyRequest) -> Limits:
    """What the request sets; its zeros are our defaults."""
    usual = Limits()
    return Limits(
        request.downtime_budget_ms or usual.downtime_budget_ms,
        request.bandwidth_mbps or usual.bandwidth_mbps,
        request.max_rounds or usual.max_rounds,
        request.max_factor or usual.max_factor,
        request.auto_converge,
    )


def _round_message(done: Round, memory_bytes: int) -> node_pb2.PreCopyResponse:
    return node_pb2.PreCopyResponse(
        number=done.number,
        pages_sent=done.pages_sent,
        bytes_sent=done.bytes_sent,
        pages_dirtied=done.pages_dirtied,
        duration_ms=done.duration_ms,
        bandwidth_mbps=done.bandwidth_mbps,
        throttle_percent=done.throttle_percent,
        memory_bytes=memory_bytes,
        bytes_remaining=done.pages_dirtied * PAGE_BYTES,
        expected_downtime_ms=expected_downtime_ms(done),
    )
