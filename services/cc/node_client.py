"""A node's server over gRPC, with a deadline on every verb."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from mallee.cc.peers import Captured, Goal, HandedOver, Progress, Route, Subject, Ticket
from mallee.domain.guest import ImageFile
from mallee.domain.migration import Limits, Round
from mallee.kernel.rpc import Channel
from mallee.rpc import common_pb2, node_pb2
from mallee.rpc.node_pb2_grpc import NodeServiceStub

QUICK = 5.0  # seconds for a verb that moves no pages
MAKING = 20.0  # seconds for a guest to be made ready: a real one has a network and an image to get
LAST_PAGES = 60.0  # seconds for stage 3: what is left of the memory crosses


class NodeClient:
    """The `Peer` of a real node."""

    def __init__(self, channel: Channel) -> None:
        self._stub = NodeServiceStub(channel)

    async def prepare(self, subject: Subject, guest: bytes, source_node: str) -> Ticket:
        asked = node_pb2.PrepareRequest(subject=_message(subject), guest=guest, source_node=source_node)
        said = await self._stub.Prepare(asked, timeout=MAKING)
        return Ticket(said.address, said.ticket, said.landing)

    async def pre_copy(self, subject: Subject, route: Route, limits: Limits) -> AsyncIterator[Progress]:
        asked = node_pb2.PreCopyRequest(
            subject=_message(subject),
            destination_node=route.destination_node,
            address=route.ticket.address,
            ticket=route.ticket.ticket,
            destination_generation=route.destination_generation,
            landing=route.ticket.landing,
            destination_service=route.destination_service,
            downtime_budget_ms=limits.downtime_budget_ms,
            bandwidth_mbps=limits.bandwidth_mbps,
            max_rounds=limits.max_rounds,
            max_factor=limits.max_factor,
            auto_converge=limits.auto_converge,
        )
        call = self._stub.PreCopy(asked)
        try:
            async for said in call:
                yield _progress(said)
        finally:
            call.cancel()

    async def stop_and_copy(self, subject: Subject) -> HandedOver:
        asked = node_pb2.StopAndCopyRequest(subject=_message(subject))
        said = await self._stub.StopAndCopy(asked, timeout=LAST_PAGES)
        return HandedOver(said.pages_sent, said.bytes_sent, said.paused_ms, said.digest)

    async def verify(self, subject: Subject) -> str:
        said = await self._stub.Verify(node_pb2.VerifyRequest(subject=_message(subject)), timeout=QUICK)
        return said.digest if said.whole else ""

    async def activate(self, subject: Subject) -> None:
        await self._stub.Activate(node_pb2.ActivateRequest(subject=_message(subject)), timeout=QUICK)

    async def discard(self, subject: Subject) -> None:
        await self._stub.Discard(node_pb2.DiscardRequest(subject=_message(subject)), timeout=QUICK)

    async def abandon(self, subject: Subject) -> None:
        await self._stub.Abandon(node_pb2.AbandonRequest(subject=_message(subject)), timeout=QUICK)

    async def resume(self, subject: Subject) -> None:
        await self._stub.Resume(node_pb2.ResumeRequest(subject=_message(subject)), timeout=QUICK)

    async def finish(self, subject: Subject) -> None:
        await self._stub.Steer(node_pb2.SteerRequest(subject=_message(subject), finish=True), timeout=QUICK)

    async def capture(self, subject: Subject, goal: Goal) -> AsyncGenerator[Captured, None]:
        asked = node_pb2.CaptureRootRequest(subject=_message(subject), **goal._asdict())
        call = self._stub.CaptureRoot(asked)
        try:
            async for said in call:
                file = _file(said.file) if said.HasField("file") else None
                yield Captured(said.bytes_done, said.bytes_total, file)
        finally:
            call.cancel()

    async def console(self, node: str, instance_id: str) -> tuple[bytes, int]:
        asked = node_pb2.GetConsoleOutputRequest(node=node, instance_id=instance_id)
        said = await self._stub.GetConsoleOutput(asked, timeout=QUICK)
        return said.output, said.at_ms

    async def follow_console(self, node: str, instance_id: str) -> AsyncGenerator[bytes, None]:
        call = self._stub.FollowConsole(node_pb2.FollowConsoleRequest(node=node, instance_id=instance_id))
        try:
            async for said in call:
                yield said.output
        finally:
            call.cancel()

    async def screenshot(self, node: str, instance_id: str) -> tuple[bytes, str]:
        asked = node_pb2.GetConsoleScreenshotRequest(node=node, instance_id=instance_id)
        said = await self._stub.GetConsoleScreenshot(asked, timeout=QUICK)
        return said.picture, said.type


def _message(subject: Subject) -> node_pb2.Subject:
    return node_pb2.Subject(**subject._asdict())


def _file(said: common_pb2.ImageFile) -> ImageFile:
    return ImageFile(
        said.bucket, said.key, said.version_id, said.size, said.etag, said.format, said.virtual_bytes
    )


def _progress(said: node_pb2.PreCopyResponse) -> Progress:
    done = Round(
        said.number,
        said.pages_sent,
        said.bytes_sent,
        said.pages_dirtied,
        said.duration_ms,
        said.bandwidth_mbps,
        said.throttle_percent,
    )
    return Progress(
        done, said.memory_bytes, said.bytes_remaining, said.expected_downtime_ms, said.stop_reason
    )
