"""Questions and answers on one stream that stays open: half of what a unary call costs, on both sides.

For whoever asks the same service all the time. One question is under way at a time, so an answer needs
no name. A fault of the handler ends the stream and comes out of `ask` as it would of a unary call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from grpc import aio

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.client import Stream
from mallee.kernel.rpc.seam import UNARY_DEADLINE

Q = TypeVar("Q")
A = TypeVar("A")


class Conversation(Generic[Q, A]):
    """A stream for questions that may be asked twice.

    Args:
        name: for faults, e.g. `placing in az1`.
        open_stream: a stub's method that streams both ways, one answer for each question.
    """

    def __init__(self, name: str, open_stream: Callable[[], Stream]) -> None:
        self._name = name
        self._open_stream = open_stream
        self._stream: Stream | None = None
        self._turn = asyncio.Lock()

    async def ask(self, question: Q, *, within: float = UNARY_DEADLINE) -> A:
        """The answer, `within` so many seconds of the caller's turn.

        A stream that was open already may have broken while nobody asked; then the question is asked once
        more on a new one.

        Raises:
            Fault: as a unary call's; UNAVAILABLE `deadline` when there was no answer in time.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(within):
                    return await self._ask(question)
            except TimeoutError:
                raise Fault(
                    Kind.UNAVAILABLE,
                    f"There was no answer for {self._name}.",
                    why=f"{within:g} seconds have passed.",
                    fix="Try again; the service may have done the work all the same.",
                    code="deadline",
                ) from None

    async def _ask(self, question: Q) -> A:
        kept = self._stream
        if kept is not None and not kept.done():
            try:
                return await self._exchange(kept, question)
            except Fault as fault:
                if fault.kind is not Kind.UNAVAILABLE:
                    raise
        self._stream = self._open_stream()
        return await self._exchange(self._stream, question)

    async def _exchange(self, stream: Stream, question: Q) -> A:
        answered = False
        try:
            await stream.write(question)
            answer: Any = await stream.read()
            answered = answer is not aio.EOF
        finally:
            if not answered:  # an answer that comes later would be taken for the next question's
                self._stream = None
                stream.cancel()
        if not answered:
            raise Fault(
                Kind.UNAVAILABLE, f"The stream for {self._name} ended.", fix="Try again.", code="ended"
            )
        reply: A = answer
        return reply

    def hang_up(self) -> None:
        """End the stream; the next question opens another."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
