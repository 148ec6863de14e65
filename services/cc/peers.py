"""What the controller asks of a node's own server: the verbs of a migration, and the console."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mallee.domain.guest import ImageFile
from mallee.domain.migration import Limits, Round


class Subject(NamedTuple):
    """Which copy of which guest, on which node, for which migration."""

    node: str
    instance_id: str
    generation: int
    migration_id: str


class Ticket(NamedTuple):
    """Where the source may send its pages, once; `landing` is for the two hypervisors alone."""

    address: str
    ticket: str
    landing: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A round of the pre-copy; the last one says why there will be no more."""

    round: Round
    memory_bytes: int
    bytes_remaining: int
    expected_downtime_ms: float
    stop_reason: str = ""


class HandedOver(NamedTuple):
    """The source's answer at the end of stage 3."""

    pages_sent: int
    bytes_sent: int
    paused_ms: float
    digest: str


@dataclass(frozen=True, slots=True)
class Route:
    """From the source to the copy that is to become the guest."""

    destination_node: str
    destination_generation: int
    ticket: Ticket
    destination_service: str = ""  # whose certificate must answer at the ticket's address


class Goal(NamedTuple):
    """Where a captured disk goes. `owner` is an account."""

    capture_id: str
    bucket: str
    key: str
    owner: str


class Captured(NamedTuple):
    """How far a capture is, in bytes; `file` is there when it is done."""

    done: int
    total: int
    file: ImageFile | None = None


class Peer(Protocol):
    """A node's server. Every verb may be said twice, and refuses with STALE what is not of this copy."""

    async def prepare(self, subject: Subject, guest: bytes, source_node: str) -> Ticket: ...

    def pre_copy(self, subject: Subject, route: Route, limits: Limits) -> AsyncIterator[Progress]: ...

    async def stop_and_copy(self, subject: Subject) -> HandedOver: ...

    async def verify(self, subject: Subject) -> str:
        """The digest of the copy, '' while it is not whole."""

    async def activate(self, subject: Subject) -> None: ...

    async def discard(self, subject: Subject) -> None: ...

    async def abandon(self, subject: Subject) -> None: ...

    async def resume(self, subject: Subject) -> None: ...

    async def finish(self, subject: Subject) -> None:
        """End the pre-copy now."""

    def capture(self, subject: Subject, goal: Goal) -> AsyncGenerator[Captured, None]:
        """Write the root disk as an object; the last word has it."""

    async def console(self, node: str, instance_id: str) -> tuple[bytes, int]:
        """The last 64 KiB that the guest wrote, and when that was, in milliseconds since 1970."""

    def follow_console(self, node: str, instance_id: str) -> AsyncGenerator[bytes, None]:
        """The same, then what it writes, while it is there."""

    async def screenshot(self, node: str, instance_id: str) -> tuple[bytes, str]:
        """What the guest's screen shows, and of which type the picture is."""
