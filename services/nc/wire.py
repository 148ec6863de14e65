"""The way of pages from one node to another: a stream to the destination's page sink."""

from __future__ import annotations

import asyncio

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Channel
from mallee.rpc.node_pb2 import ReceiveRequest, ReceiveResponse, Subject
from mallee.rpc.node_pb2_grpc import PageSinkServiceStub


class RpcWire:
    """Implements `mallee.nc.driver.Wire` over one `Receive` call; `hang_up` ends it before its time."""

    def __init__(self, channel: Channel, destination: Subject, ticket: str) -> None:
        self._stream = PageSinkServiceStub(channel).Receive()
        self._opening: ReceiveRequest | None = ReceiveRequest(subject=destination, ticket=ticket)
        self._round = 0
        # Asked for from the start: a refusal must be heard while there is still something to send.
        self._answer = asyncio.ensure_future(self._answered())
        self._answer.add_done_callback(_heard)

    async def pages(self, round_number: int, numbers: bytes, contents: bytes) -> None:
        self._round = round_number
        await self._write(ReceiveRequest(round=round_number, page_numbers=numbers, page_contents=contents))

    async def close(self, cpu_state: bytes) -> str:
        await self._write(ReceiveRequest(round=self._round + 1, cpu_state=cpu_state))
        await self._stream.done_writing()
        await asyncio.wait((self._answer,))
        await self.check()
        return self._answer.result().digest

    def hang_up(self) -> None:
        self._answer.cancel()
        self._stream.cancel()

    async def check(self) -> None:
        if self._answer.cancelled():
            raise _hung_up()
        if self._answer.done():
            await self._answer

    async def _write(self, message: ReceiveRequest) -> None:
        await self.check()
        try:
            if self._opening is not None:
                opening, self._opening = self._opening, None
                await self._stream.write(opening)
                await self._stream.wait_for_connection()  # which comes once the ticket is accepted
            await self._stream.write(message)
        except Fault as fault:
            if fault.code == "ended":  # the destination has said why, as its answer
                await asyncio.wait((self._answer,))
                await self.check()
            raise

    async def _answered(self) -> ReceiveResponse:
        return await self._stream


def _hung_up() -> Fault:
    """Not a CancelledError: it would end whoever sends without a word, as if his own caller had hung up."""
    return Fault(
        Kind.CONFLICT,
        "The sending of this guest was ended.",
        why="It was called off or begun anew.",
        code="copying-ended",
    )


def _heard(answer: asyncio.Task[ReceiveResponse]) -> None:
    """The failure of a wire that nobody writes to any more is nobody's news."""
    if not answer.cancelled():
        answer.exception()
