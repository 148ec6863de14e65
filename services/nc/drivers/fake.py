"""The fake hypervisor: no root, no dependency, and as faithful as a pretence can be.

Starting takes time in named steps, guests end by themselves, migrations dirty and copy pages, and
everything is on disk, so that a restarted node controller finds its guests as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from mallee.domain.guards import Guards
from mallee.domain.guest import Cause, Guest, GuestKey, Moment, Phase, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.nc.db.fakes import FakeRow, FakeStore
from mallee.nc.driver import (
    Capabilities,
    CapturedDisk,
    CaptureProgress,
    Found,
    HandedOver,
    Steering,
    Wire,
)
from mallee.nc.drivers.fake_console import BLANK_SCREEN, console
from mallee.nc.drivers.fake_disk import DISK_BYTES, captured
from mallee.nc.drivers.fake_guests import FakeGuests, conflict, found
from mallee.nc.drivers.fake_knobs import Knobs, ends_after
from mallee.nc.drivers.fake_migration import CopyRules, Receiver, Sender

STEPS = (("image", 0.4), ("customise", 0.1), ("boot", 0.4), ("verify", 0.1))  # and their share of the start
STOP_SHARE = 0.25  # of the time of a start, for a guest that is asked to shut down
CONSOLE_LOOK = 0.25  # seconds between two looks at a console that somebody follows
KEPT_BOOTS = 40  # more of them than that fill the console's ring


@dataclass(frozen=True, slots=True)
class FakeHost:
    """What a pretend host is like."""

    cpu_model: str = "mallee-fake-v1"
    capacity: Resources = field(default=Resources(128, 524_288))
    start_seconds: float = 1.0
    copying: CopyRules = field(default_factory=CopyRules)


class FakeDriver:
    """A pretend hypervisor for one node; implements `mallee.nc.driver.Driver`."""

    def __init__(
        self,
        node: str,
        store: FakeStore,
        rows: Mapping[GuestKey, FakeRow],
        *,
        clock: Clock,
        entropy: Entropy,
        host: FakeHost,
        knobs: Knobs,
    ) -> None:
        self.knobs = knobs
        self._clock = clock
        self._host = host
        self._guests = FakeGuests(node, store, rows)
        self._sender = Sender(self._guests, clock, entropy, host.copying)
        self._receiver = Receiver(self._guests)
        self._starting: set[GuestKey] = set()
        self._ending: dict[GuestKey, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Take over the guests that lived on while nobody looked."""
        await self._guests.clear_left_over()
        for key, row in self._guests.rows.items():
            self._live(key, row)

    async def close(self) -> None:
        """The node controller goes; the guests stay."""
        for task in self._ending.values():
            task.cancel()
        self._ending.clear()

    async def capabilities(self) -> Capabilities:
        return Capabilities("fake", self._host.cpu_model, self._host.capacity)

    async def inventory(self) -> Sequence[Found]:
        return [found(key, row) for key, row in self._guests.rows.items()]

    async def changes(self) -> AsyncIterator[Found]:
        while True:
            yield await self._guests.unasked.get()

    async def start(self, key: GuestKey, guest: Guest, *, reboots: int = 0) -> Sequence[Moment]:
        row = self._guests.get(key)
        if row is not None and row.phase is Phase.RUNNING:
            return ()
        if row is not None and row.phase is not Phase.STOPPED:
            raise conflict(f"{key.instance_id} cannot be started.", f"It is {row.phase}.", "not-startable")
        self._need_room(guest)
        self._starting.add(key)
        try:
            await self.knobs.meet("start", guest.tags, self._clock)
            moments = [await self._step(key, name, share) for name, share in STEPS]
        finally:
            lost = key not in self._starting
            self._starting.discard(key)
        if lost:
            raise conflict(f"{key.instance_id} was not started.", "It was ended meanwhile.", "ended")
        boots = (*(row.boots if row else ()), moments[-1].at_ms)[-KEPT_BOOTS:]
        started = await self._guests.put(key, FakeRow(Phase.RUNNING, guest, reboots, boots))
        self._live(key, started)
        return moments

    async def _step(self, key: GuestKey, name: str, share: float) -> Moment:
        self.knobs.step(f"start:{name}")
        if self._host.start_seconds > 0 and key in self._starting:
            await self._clock.sleep(self._host.start_seconds * share)
        return Moment(name, self._now_ms())

    async def shut_down(self, key: GuestKey, *, force: bool) -> None:
        self._starting.discard(key)
        row = self._guests.get(key)
        if row is None or row.phase is Phase.STOPPED:
            return
        await self.knobs.meet("shut_down", row.guest.tags, self._clock)
        if not force and self._host.start_seconds > 0:
            await self._clock.sleep(self._host.start_seconds * STOP_SHARE)
        if (row := self._guests.get(key)) is None or row.phase is Phase.STOPPED:
            return
        self._forget(key)
        await self._guests.change(key, phase=Phase.STOPPED, migration_id="", digest="", cause=None)

    async def destroy(self, key: GuestKey) -> None:
        self._starting.discard(key)
        row = self._guests.get(key)
        if row is None:
            return
        await self.knobs.meet("destroy", row.guest.tags, self._clock)
        self._forget(key)
        await self._guests.remove(key)

    async def reboot(self, key: GuestKey, asked: int) -> None:
        row = self._guests.need(key)
        if row.reboots >= asked:
            return
        await self.knobs.meet("reboot", row.guest.tags, self._clock)
        row = self._guests.need(key)
        if row.phase is not Phase.RUNNING:
            raise conflict(f"{key.instance_id} cannot reboot.", f"It is {row.phase}.", "not-running")
        boots = (*row.boots, self._now_ms())[-KEPT_BOOTS:]
        await self._guests.change(key, reboots=asked, boots=boots)

    async def describe(self, key: GuestKey, guest: Guest) -> None:
        row = self._guests.need(key)
        await self.knobs.meet("describe", row.guest.tags, self._clock)
        await self._guests.change(key, guest=self._guests.need(key).guest.described_anew(guest))

    async def guard(self, guards: Guards) -> None:
        """Pretend guests are in no network."""

    async def pause(self, key: GuestKey) -> None:
        await self.knobs.meet("pause", self._guests.need(key).guest.tags, self._clock)
        if self._guests.need(key).phase is Phase.RUNNING or key in self._guests.unwritten:
            await self._guests.pause(key)

    async def resume(self, key: GuestKey) -> None:
        await self.knobs.meet("resume", self._guests.need(key).guest.tags, self._clock)
        row = self._guests.need(key)
        if row.phase is Phase.RUNNING:
            self._sender.forget(key)
            return
        if row.phase not in {Phase.PAUSED, Phase.INCOMING} or (
            row.phase is Phase.INCOMING and not row.digest
        ):
            raise conflict(
                f"{key.instance_id} cannot run on.",
                f"It is {row.phase}"
                + (", and its image is not whole." if row.phase is Phase.INCOMING else "."),
                "not-whole" if row.phase is Phase.INCOMING else "not-paused",
            )
        self._sender.forget(key)
        self._live(key, await self._guests.change(key, phase=Phase.RUNNING, migration_id="", digest=""))

    async def console(self, instance_id: str) -> bytes:
        row = self._guests.latest(instance_id)
        if row is None:
            raise Fault(Kind.NOT_FOUND, f"No guest of {instance_id} is here.", code="no-such-guest")
        return console(row.guest, row.boots, "reboot: Power down" if row.phase is Phase.STOPPED else "")

    async def follow_console(self, instance_id: str) -> AsyncGenerator[bytes, None]:
        said = b""
        while self._guests.latest(instance_id) is not None or not said:
            now = await self.console(instance_id)
            if now != said:
                yield now.removeprefix(said)
                said = now
            await self._clock.sleep(CONSOLE_LOOK)

    async def screenshot(self, instance_id: str) -> bytes:
        await self.console(instance_id)  # which says whether it is here
        return BLANK_SCREEN

    async def prepare(
        self,
        key: GuestKey,
        guest: Guest,
        migration_id: str,
        sender: str = "",  # noqa: ARG002 - its ticket says who may
    ) -> str:
        self._need_room(guest)
        await self.knobs.meet("prepare", guest.tags, self._clock)
        await self._receiver.prepare(key, guest, migration_id)
        return ""

    async def receive(
        self, key: GuestKey, round_number: int, numbers: bytes, contents: bytes, cpu_state: bytes
    ) -> str:
        tags = self._guests.need(key).guest.tags
        await self.knobs.meet("receive", tags, self._clock)
        self.knobs.step(f"receive:{round_number}" + (":whole" if cpu_state else ""))
        return await self._receiver.receive(key, numbers, contents, cpu_state, lie=self.knobs.lies(tags))

    async def pre_copy(
        self,
        key: GuestKey,
        migration_id: str,
        wire: Wire,
        limits: Limits,
        steer: Steering,
        landing: str = "",  # noqa: ARG002 - pretend pages come by the wire
        receiver: str = "",  # noqa: ARG002 - which knows whom it reaches
    ) -> AsyncGenerator[Round | str, None]:
        await self.knobs.meet("pre_copy", self._guests.need(key).guest.tags, self._clock)
        async with aclosing(self._sender.pre_copy(key, migration_id, wire, limits, steer)) as words:
            async for word in words:
                self.knobs.step(f"pre_copy:{word.number}" if isinstance(word, Round) else "pre_copy:end")
                yield word

    async def stop_and_copy(self, key: GuestKey, migration_id: str) -> HandedOver:
        await self.knobs.meet("stop_and_copy", self._guests.need(key).guest.tags, self._clock)
        return await self._sender.stop_and_copy(key, migration_id)

    async def capture(
        self, key: GuestKey, capture_id: str
    ) -> AsyncGenerator[CaptureProgress | CapturedDisk, None]:
        row = self._guests.need(key)
        await self.knobs.meet("capture", row.guest.tags, self._clock)
        if row.migration_id:
            raise conflict(f"{key.instance_id} is being moved.", f"By {row.migration_id}.", "in-transit")
        self.knobs.step(f"capture:{capture_id}")
        yield CaptureProgress(0, DISK_BYTES)
        yield captured(row.guest)

    async def digest(self, key: GuestKey) -> str:
        return self._guests.need(key).digest

    async def end(self, key: GuestKey, cause: Cause) -> None:
        """For tests: the guest powers itself off or crashes."""
        await self._guests.end(key, cause)

    async def lose(self, key: GuestKey) -> None:
        """For tests: the guest vanishes, and nobody is told."""
        self._forget(key)
        await self._guests.remove(key)

    def _need_room(self, guest: Guest) -> None:
        """Who shares the host is decided above; that a guest alone is too large for it is plain here."""
        has, wants = self._host.capacity, guest.resources
        if wants.vcpus > has.vcpus or wants.memory_mib > has.memory_mib:
            raise Fault(
                Kind.NO_CAPACITY,
                f"{guest.instance_id} is larger than its host.",
                why=f"It wants {wants.vcpus} vCPUs and {wants.memory_mib} MiB; there are "
                f"{has.vcpus} and {has.memory_mib}.",
                fix="Choose a smaller instance type.",
                code="larger-than-host",
            )

    def _live(self, key: GuestKey, row: FakeRow) -> None:
        seconds = ends_after(row.guest.tags)
        if seconds and row.phase is Phase.RUNNING and key not in self._ending:
            self._ending[key] = asyncio.ensure_future(self._power_off(key, seconds))

    async def _power_off(self, key: GuestKey, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._ending.pop(key, None)
        await self._guests.end(key, Cause("guest-shut-down", "The guest powered itself off."))

    def _forget(self, key: GuestKey) -> None:
        self._sender.forget(key)
        self._receiver.forget(key)
        if (task := self._ending.pop(key, None)) is not None:
            task.cancel()

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)
