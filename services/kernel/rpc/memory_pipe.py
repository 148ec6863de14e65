"""One direction of a simulated call: frames in order, each with a fate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any

import grpc

from mallee.kernel.clock import Clock
from mallee.kernel.rpc.identity import Identity

_WINDOW = 32  # frames that may wait unread before a writer waits, like HTTP/2's flow control


@dataclass(frozen=True, slots=True)
class Message:
    """What a fault hook is told. `number` counts from 0 in each direction of a call."""

    source: Identity
    target: Identity
    method: str
    answer: bool  # from the server to the client
    number: int
    size: int  # bytes; 0 for the ends of a stream


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message.

    Args:
        delay: seconds on the way; later messages of its direction wait behind it.
        lost: nothing more of this call crosses in this direction, as when a network is cut.
        copies: how often it arrives.
    """

    delay: float = 0.0
    lost: bool = False
    copies: int = 1


Faults = Callable[[Message], Fate]
ARRIVES = Fate()


class Mark(Enum):
    """Frames of the client that carry nothing."""

    HALF_CLOSED = "no more requests"
    HANG_UP = "cancelled"


@dataclass(frozen=True, slots=True)
class Ended:
    """The status that ends a call."""

    code: grpc.StatusCode
    details: str = ""
    trailer: tuple[tuple[str, Any], ...] = ()


Frame = bytes | Mark | Ended


class Pipe:
    """Frames from one side to the other.

    Args:
        clock: delays are of its time.
        fate: decides over the frame of that number and size.
        spawn: runs a task for as long as the call lives.
        lost: called once, when the first frame is lost.
    """

    def __init__(
        self,
        clock: Clock,
        fate: Callable[[int, int], Fate],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        lost: Callable[[], None],
    ) -> None:
        self.arrive: Callable[[Frame], None] = self._keep
        self._clock = clock
        self._fate = fate
        self._spawn = spawn
        self._on_lost = lost
        self._frames: deque[Frame] = deque()
        self._late: deque[tuple[float, Frame]] = deque()
        self._changed = asyncio.Event()
        self._count = 0
        self._cut = False
        self._over: Ended | None = None

    async def send(self, frame: Frame) -> None:
        """Put a frame on its way; waits while too many are unread."""
        while len(self._frames) >= _WINDOW and self._over is None:
            self._changed.clear()
            await self._changed.wait()
        self.post(frame)

    def post(self, frame: Frame) -> None:
        """As `send`, for what does not wait: the ends of a call."""
        if self._cut or self._over is not None:
            return
        fate = self._fate(self._count, len(frame) if isinstance(frame, bytes) else 0)
        self._count += 1
        if fate.lost:
            self._cut = True
            self._on_lost()
            return
        for _ in range(fate.copies if isinstance(frame, bytes) else 1):
            self._carry(frame, fate.delay)

    async def receive(self) -> Frame:
        """The next frame; the end again and again."""
        while not self._frames:
            if self._over is not None:
                return self._over
            self._changed.clear()
            await self._changed.wait()
        frame = self._frames.popleft()
        self._changed.set()
        if isinstance(frame, Ended):
            self._over = frame
        return frame

    def fail(self, ended: Ended) -> None:
        """End it now: what is on the way or unread is gone."""
        if self._over is None:
            self._over = ended
            self._frames.clear()
            self._late.clear()
            self._changed.set()

    def _carry(self, frame: Frame, delay: float) -> None:
        if not delay and not self._late:
            self.arrive(frame)
            return
        self._late.append((self._clock.monotonic() + delay, frame))
        if len(self._late) == 1:
            self._spawn(self._deliver_late())

    async def _deliver_late(self) -> None:
        while self._late:
            due, frame = self._late[0]
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
            if self._late and self._late[0][1] is frame:  # `fail` may have emptied it meanwhile
                self._late.popleft()
                self.arrive(frame)

    def _keep(self, frame: Frame) -> None:
        if self._over is None:
            self._frames.append(frame)
            self._changed.set()
