"""The open lines of the nodes: facts and renewals come up, orders and grants go down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from mallee.cc import words
from mallee.cc.config import CcConfig
from mallee.cc.nodes import Line, Nodes, covers
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import peer
from mallee.rpc.attendance_pb2 import AttendRequest, AttendResponse, Grant, Orders, Welcome
from mallee.rpc.attendance_pb2_grpc import AttendanceServiceServicer

ORDERS_A_MESSAGE = 2_000


class AttendanceEdge(AttendanceServiceServicer):
    """Serves `Attend`. A line that cannot be trusted to be complete is cut: the node says everything anew."""

    def __init__(self, nodes: Nodes, config: CcConfig) -> None:
        self._nodes = nodes
        self._config = config

    async def Attend(  # noqa: N802 - the name is the contract's
        self, request_iterator: AsyncIterator[AttendRequest], context: Any
    ) -> AsyncIterator[AttendResponse]:
        first = await anext(aiter(request_iterator), None)
        if first is None or not first.HasField("hello"):
            raise Fault(Kind.INVALID, "A node must say hello first.", code="no-hello")
        caller = peer(context)
        if not covers(caller.name, first.hello.node):
            raise Fault(
                Kind.FORBIDDEN,
                f"{caller} may not attend as {first.hello.node}.",
                why="A certificate speaks for the node of its own name and for those named below it.",
                fix=f"Call the node {caller.name}, or {caller.name}.<something>.",
                code="not-your-name",
            )
        renewal = first.renewal.sequence if first.HasField("renewal") else None
        line = await self._nodes.attend(words.hello(first.hello, caller.name), renewal)
        listening = asyncio.create_task(self._listen(line, request_iterator))
        adopting = asyncio.create_task(self._nodes.adopt(line))
        try:
            yield AttendResponse(
                welcome=Welcome(
                    host_id=f"h-{line.number}",
                    lease_seconds=self._config.lease_seconds,
                    renew_seconds=self._config.renew_seconds,
                )
            )
            async for message in _speak(line):
                yield message
            if listening.done():
                listening.result()
        finally:
            self._nodes.leave(line)
            listening.cancel()
            adopting.cancel()
            await asyncio.wait((listening, adopting))

    async def _listen(self, line: Line, requests: AsyncIterator[AttendRequest]) -> None:
        try:
            async for request in requests:
                if request.HasField("renewal"):
                    self._nodes.renew(line, request.renewal.sequence)
                if request.facts:
                    await self._nodes.learn(line, [words.guest_fact(fact) for fact in request.facts])
                if request.inventory_end:
                    self._nodes.compare(line)
        finally:
            line.close()


async def _speak(line: Line) -> AsyncIterator[AttendResponse]:
    """What waits on the line, as it comes, until the line is closed."""
    while True:
        await line.woken.wait()
        if line.closed:
            return
        now = line.take()
        granted = Grant(sequence=now.grant) if now.grant is not None else None
        made = [words.order_message(order) for order in now.orders]
        if now.guards is not None:  # first: a guest that is made next is guarded from its beginning
            yield AttendResponse(guards=words.guards_message(now.guards))
        if now.whole:
            # All of them in one message: what is not named in it is unknown to the node.
            yield AttendResponse(grant=granted, orders=Orders(whole=True, orders=made))
        else:
            yield AttendResponse(
                grant=granted,
                orders=Orders(orders=made[:ORDERS_A_MESSAGE]) if made else None,
                say_inventory=now.say_inventory,
            )
            for start in range(ORDERS_A_MESSAGE, len(made), ORDERS_A_MESSAGE):
                yield AttendResponse(orders=Orders(orders=made[start : start + ORDERS_A_MESSAGE]))
