"""The bytes of a request's body as they come, no slower than a client may send them.

Where the listener offers to read a large body past the parser (`mallee.intake`), or to give one that
is there already (`mallee.arrived`), it does; else they come by ASGI. Nothing is asked for, and so no
`100 Continue` is sent, before the first block is wanted: that is after the signature was verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mallee.aws.exchange import Disconnected, Receive, Scope
from mallee.kernel.clock import Clock
from mallee.walrus.errors import S3Error

WORTH_AN_INTAKE: Final = 256 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Patience:
    """How slow a client may be.

    Attributes:
        idle: seconds between two arrivals.
        grace: seconds at any speed; after them the whole body must have come at `rate` bytes per second.
    """

    idle: float = 20.0
    grace: float = 60.0
    rate: float = 1024.0


class Intake(Protocol):
    """A body read past the parser, as `mallee.intake` of the listener opens it."""

    @property
    def ended(self) -> bool:
        """Whether the block that was read last was the last."""

    async def read(self) -> memoryview | None:
        """The next block, valid until the next is asked for; None if the client went away."""

    def close(self) -> None:
        """Read no more."""


class Incoming:
    """One body, not decoded.

    Attributes:
        length: what Content-Length says; None without one.
        ended: all has come.
        begun: something has been asked for.
        came: bytes so far.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        clock: Clock,
        *,
        length: int | None,
        patience: Patience,
        waited_for: bool = False,
    ) -> None:
        self.length = length
        self.begun = False
        self.came = 0
        # Who waits for 100 gets it, though nothing is to come: botocore takes any other first line for the end of
        # the connection's use, and misreads the next answer on it.
        self.ended = length == 0 and not waited_for
        self._receive = receive
        self._clock = clock
        self._patience = patience
        extensions: dict[str, Any] = scope.get("extensions") or {}
        self._open_intake: Callable[[int], Intake] | None = extensions.get("mallee.intake")
        self._arrived: Callable[[], bytes | None] | None = extensions.get("mallee.arrived")
        self._intake: Intake | None = None

    def at_once(self) -> bytes | None:
        """All of it, if it came with its head, as small ones do; None if it is to be waited for."""
        if self.begun or self._arrived is None or (whole := self._arrived()) is None:
            return None
        self.begun = self.ended = True
        self.came = len(whole)
        return whole

    async def blocks(self) -> AsyncIterator[bytes | memoryview]:
        """What comes, in pieces of any size, each valid until the next is asked for.

        Raises:
            S3Error: RequestTimeout.
            Disconnected: the client went away.
        """
        if (whole := self.at_once()) is not None:
            if whole:
                yield whole
            return
        self.begun = True
        since = self._clock.monotonic()
        take = self._receive_block
        if self._open_intake is not None and self.length is not None and self.length >= WORTH_AN_INTAKE:
            self._intake = self._open_intake(self.length)
            take = self._take_in_block
        while not self.ended:
            try:
                async with asyncio.timeout(self._patience.idle):
                    block = await take()
            except TimeoutError as error:
                raise S3Error("RequestTimeout") from error
            self.came += len(block)
            elapsed = self._clock.monotonic() - since
            if elapsed > self._patience.grace and self.came < elapsed * self._patience.rate:
                raise S3Error("RequestTimeout")
            if len(block):
                yield block

    async def _receive_block(self) -> bytes | memoryview:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self.ended = not message.get("more_body", False)
        block: bytes = message.get("body", b"")
        return block

    async def _take_in_block(self) -> bytes | memoryview:
        assert self._intake is not None
        block = await self._intake.read()
        if block is None:
            raise Disconnected
        self.ended = self._intake.ended
        return block

    async def throw_away(self, limit: int) -> None:
        """Take what still comes, up to so many bytes or to the end."""
        while not self.ended and limit > 0:
            if self._intake is not None:
                taken = await self._intake.read()
                self.ended = taken is None or self._intake.ended
                limit -= len(taken or b"")
            else:
                message = await self._receive()
                self.ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
                limit -= len(message.get("body", b""))

    def close(self) -> None:
        """No more is read."""
        if self._intake is not None:
            self._intake.close()
