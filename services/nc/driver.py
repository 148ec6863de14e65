"""The seam between a node controller and a hypervisor.

A guest is known by (instance, generation) and by nothing else. Every verb is idempotent: saying it
twice is saying it once, and an end that has come already is success. A driver keeps what it must know
beside its guests, so that after a restart of the node controller `inventory` is the truth.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mallee.domain.disk_image import Format
from mallee.domain.guards import Guards
from mallee.domain.guest import Cause, Guest, GuestKey, Moment, Phase, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.errors import Fault, Kind


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this host can do."""

    hypervisor: str
    cpu_model: str
    capacity: Resources
    migrates_live: bool = True
    guards: bool = False  # whether it enforces security groups


@dataclass(frozen=True, slots=True)
class Found:
    """A guest that the driver has.

    `migration_id` is set while it is a copy in transit, the paused source included; `reboots` is the
    highest number that `reboot` or `start` was told.
    """

    key: GuestKey
    guest: Guest
    phase: Phase
    cause: Cause | None = None
    migration_id: str = ""
    reboots: int = 0


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The end of stage 3: both copies are whole and suspended."""

    pages_sent: int
    bytes_sent: int
    paused_ms: float
    digest: str


@dataclass(frozen=True, slots=True)
class CaptureProgress:
    """How far the making of a captured disk is, in bytes of work."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CapturedDisk:
    """A root disk as it was at one moment, whole and alone; `pieces` are its file's `size` bytes."""

    format: Format
    virtual_bytes: int
    size: int
    pieces: Callable[[], AsyncIterator[bytes]]


class Wire(Protocol):
    """The way to the destination, opened by the node controller, closed by the driver's last word."""

    async def pages(self, round_number: int, numbers: bytes, contents: bytes) -> None:
        """Send pages: little-endian 32-bit numbers, and their contents in the same order."""

    async def close(self, cpu_state: bytes) -> str:
        """Send the CPU state, end the image, and return the destination's digest of it."""


class Driver(Protocol):
    """A hypervisor, as a node controller needs it."""

    async def capabilities(self) -> Capabilities: ...

    async def inventory(self) -> Sequence[Found]:
        """Every guest there is, whoever made it."""

    def changes(self) -> AsyncIterator[Found]:
        """Guests that changed by themselves: ended, crashed, powered off."""

    async def start(self, key: GuestKey, guest: Guest, *, reboots: int = 0) -> Sequence[Moment]:
        """Make and run the guest; returns when it runs, with what was done when.

        A failure leaves nothing. Cancelled, it leaves nothing or a running guest: destroy it.

        Args:
            key: a key that never ended here.
            guest: what to make.
            reboots: how many reboots this first boot has answered already.
        """

    async def shut_down(self, key: GuestKey, *, force: bool) -> None:
        """End the guest, asking it first unless forced; it stays in the inventory as stopped."""

    async def destroy(self, key: GuestKey) -> None:
        """End the guest and remove everything of it, a half-received copy included."""

    async def reboot(self, key: GuestKey, asked: int) -> None:
        """Reboot the running guest, unless it has had its `asked`-th reboot; the count is kept beside it."""

    async def describe(self, key: GuestKey, guest: Guest) -> None:
        """Put a later description of a guest in force: what `Guest.described_anew` takes from it.

        A restart of the node controller finds it.
        """

    async def guard(self, guards: Guards) -> None:
        """Enforce these security groups for all guests here, in place of what was enforced, in one step."""

    async def pause(self, key: GuestKey) -> None:
        """Stop the guest's CPUs; it keeps its memory."""

    async def resume(self, key: GuestKey) -> None:
        """Run a paused guest, at full speed; a received one only when its image is whole."""

    async def console(self, instance_id: str) -> bytes:
        """The last 64 KiB that the guest wrote."""

    def follow_console(self, instance_id: str) -> AsyncGenerator[bytes, None]:
        """What `console` gives, then what the guest writes, as it comes, while it is here."""

    async def screenshot(self, instance_id: str) -> bytes:
        """What the guest's screen shows, as a JPEG."""

    async def prepare(self, key: GuestKey, guest: Guest, migration_id: str, sender: str = "") -> str:
        """An empty paused guest for a migration to fill; again for the same migration: empty again.

        Args:
            key: of the copy.
            guest: to be made.
            migration_id: whose copy it is.
            sender: the node that may fill it.

        Returns:
            Where this hypervisor takes the pages itself, in its own words; '' when they come by the wire.
        """

    async def receive(
        self, key: GuestKey, round_number: int, numbers: bytes, contents: bytes, cpu_state: bytes
    ) -> str:
        """Put pages into a prepared guest. A CPU state makes the image whole: returns its digest, else ''.

        A whole image survives a restart of the node controller, half of one does not.
        """

    def pre_copy(
        self,
        key: GuestKey,
        migration_id: str,
        wire: Wire,
        limits: Limits,
        steer: Steering,
        landing: str = "",
        receiver: str = "",
    ) -> AsyncGenerator[Round | str, None]:
        """Stage 2: a Round per pass, and at last the reason why the copying stopped.

        `landing` is of `prepare`, and `receiver` the node controller that must answer there.

        Closed or failed before its reason, it ends the copying, and the guest runs on as if nothing
        had been; after its reason the wire stays open for `stop_and_copy`.
        """

    async def stop_and_copy(self, key: GuestKey, migration_id: str) -> HandedOver:
        """Stage 3: pause, send what is left and the CPU state over the wire of `pre_copy`.

        From here on the guest is paused with its migration's name, also after a failure and a
        restart, until `resume` or `destroy`. Said again after success: the same digest.
        """

    def capture(self, key: GuestKey, capture_id: str) -> AsyncGenerator[CaptureProgress | CapturedDisk, None]:
        """The guest's root disk, running or not; the guest goes on. The last word is the disk.

        The disk is there until this is closed, and then nothing is left of it, also after a death.

        Raises:
            Fault: INVALID `no-root-disk`; CONFLICT while a migration has the guest; NO_CAPACITY `storage-full`.
        """

    async def digest(self, key: GuestKey) -> str:
        """A digest of memory and CPU state of a paused guest; '' while an image is not whole."""


def no_root_disk(key: GuestKey) -> Fault:
    return Fault(
        Kind.INVALID,
        f"{key.instance_id} has no root disk.",
        why="It boots from a kernel and a ramdisk alone.",
        fix="Start it from an image with a disk.",
        code="no-root-disk",
    )


@dataclass(slots=True)
class Steering:
    """What an operator may change while stage 2 runs."""

    finish: bool = False
    bandwidth_mbps: float = 0.0
