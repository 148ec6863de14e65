"""The libvirt hypervisor; implements `mallee.nc.driver.Driver`.

What a restart must find is in the domains themselves, so there is no table beside them that could
disagree. Domains that are not of this cloud are neither listed nor touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import libvirt

from mallee.domain.guards import Guards
from mallee.domain.guest import Guest, GuestKey, Moment, Phase, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import Clock
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.driver import (
    Capabilities,
    CapturedDisk,
    CaptureProgress,
    Found,
    HandedOver,
    Steering,
    Wire,
)
from mallee.nc.drivers.libvirt import screen
from mallee.nc.drivers.libvirt.capture import Capturing
from mallee.nc.drivers.libvirt.confidence import Confidence
from mallee.nc.drivers.libvirt.connection import Daemon
from mallee.nc.drivers.libvirt.disks import Disks
from mallee.nc.drivers.libvirt.domain import Identity, Shape, machine_of
from mallee.nc.drivers.libvirt.domains import DISK_FAILED, PANICKED, Domains, Seen, found
from mallee.nc.drivers.libvirt.host import warn_if_shut_out
from mallee.nc.drivers.libvirt.landing import Way
from mallee.nc.drivers.libvirt.making import Making
from mallee.nc.drivers.libvirt.migration import Destination, News, Source
from mallee.nc.drivers.libvirt.network import Network
from mallee.nc.images.cache import free_bytes

_AT_ITS_DISK: Final = (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR)
_DISK_BREATH: Final = 1.0  # seconds before a guest that stopped at its disk is let go on
_OVERHEAD_MIB: Final = 512  # of the host's memory, for itself


@dataclass(frozen=True, slots=True)
class Host:
    """Where and how a node makes real guests.

    Args:
        uri: of its libvirt daemon.
        shape: of its guests.
        address: where other hosts reach it during a migration.
        folder: for what stands beside the guests, on this host.
        vcpus: what guests may have together; 0 for as many as the host has processors.
        patience: seconds that a guest has to shut down by itself.
    """

    uri: str
    shape: Shape
    address: str
    folder: Path
    vcpus: int = 0
    patience: float = 30.0


class LibvirtDriver:
    """Real guests on one host.

    Args:
        host: where and how.
        cloud: whose guests are ours.
        disks: what guests boot from on this host.
        network: where guests are plugged in.
        clock: for what is shown and for waiting.
        confidence: by which its QEMUs and other nodes' know each other; None to send memory in the clear.
    """

    def __init__(
        self,
        host: Host,
        cloud: str,
        disks: Disks,
        network: Network,
        *,
        clock: Clock,
        confidence: Confidence | None = None,
    ) -> None:
        self._host = host
        self._network = network
        self._clock = clock
        self._news = News()
        self._ended: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._daemon = Daemon(host.uri, self._on_lifecycle, self._on_monitor)
        self._domains = Domains(self._daemon, cloud, host.folder)
        self._source = Source(self._domains, self._news, clock, confidence)
        self._making = Making(self._domains, host.shape, disks, network)
        self._capturing = Capturing(self._domains, disks.tool, clock)
        self._destination = Destination(self._domains, self._news, self._making, host.address, confidence)

    async def open(self) -> None:
        """Connect; half a copy is dropped, copying that nobody follows ends, and what came here is kept."""
        await self._daemon.open()
        await self._domains.sweep()
        await self._daemon.call(lambda c: warn_if_shut_out(str(c.getCapabilities()), self._host.folder))
        for seen in await self._domains.all():
            await self._capturing.sweep(seen.me.key)
            if seen.me.incoming and not seen.me.whole:
                await self._making.unmake(seen.me.key)
                continue
            # What this process answers for, its metadata and its address, is lost when the process ends.
            await self._making.adopt(seen.me)
            if seen.phase in {Phase.RUNNING, Phase.PAUSED} and not seen.me.incoming and not seen.me.outgoing:
                await self._source.end_copying(seen.me.key)
            if not seen.me.incoming and not await self._domains.on(seen.me.key, lambda d: d.isPersistent()):
                await self._destination.keep(seen)

    async def close(self) -> None:
        """The node controller goes; the guests stay."""
        await self._daemon.close()

    async def capabilities(self) -> Capabilities:
        _, mib, cpus = await self._daemon.call(lambda c: c.getInfo()[:3])
        capacity = Resources(self._host.vcpus or cpus, max(0, mib - _OVERHEAD_MIB))
        shape = self._host.shape
        # A guest moves to where it finds the same board too: `q35` is another one with every QEMU.
        known = (None, "x86_64", shape.machine, shape.accelerator)
        board = await self._daemon.call(lambda c: machine_of(c.getDomainCapabilities(*known)))
        model = f"{shape.cpu_model} on {board}"
        return Capabilities(shape.accelerator, model, capacity, guards=self._network.guards)

    async def inventory(self) -> Sequence[Found]:
        return [found(seen) for seen in await self._domains.all()]

    async def changes(self) -> AsyncIterator[Found]:
        while True:
            name, detail = await self._ended.get()
            for seen in await self._domains.all():
                if (
                    seen.domain.name() == name
                    and (changed := await self._by_itself(seen, detail)) is not None
                ):
                    yield changed

    async def _by_itself(self, seen: Seen, detail: int) -> Found | None:
        """What the guest has come to, if nobody told it to."""
        if seen.phase is Phase.PAUSED and seen.me.cause is not None:
            return found(seen)
        if seen.phase is not Phase.STOPPED or not seen.me.wanted:
            return None
        if detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED:
            # Written down: of a guest that is off only the event says that it was the guest's own fault.
            seen = seen._replace(me=await self._domains.remember(seen, cause=PANICKED))
        return found(seen)

    async def start(self, key: GuestKey, guest: Guest, *, reboots: int = 0) -> Sequence[Moment]:
        await self._need_room(guest)
        seen = await self._domains.get(key)
        if seen is not None and seen.phase is Phase.RUNNING:
            return ()
        if seen is not None and seen.phase is not Phase.STOPPED:
            raise _conflict(f"{key.instance_id} cannot be started.", f"It is {seen.phase}.", "not-startable")
        async with self._capturing.at_rest(key.instance_id):
            inherited = await self._making.inherit(key)
            try:
                return await self._start(key, guest, reboots)
            except BaseException:
                if inherited is not None:
                    await self._making.give_back(key, inherited)
                elif seen is None:
                    await self._making.unmake(key)
                raise

    async def _start(self, key: GuestKey, guest: Guest, reboots: int) -> Sequence[Moment]:
        me = Identity(cloud=self._domains.cloud, key=key, guest=guest, reboots=reboots)
        text = await self._making.document(me)
        moments = [self._moment("image")]
        await self._daemon.call(lambda c: c.defineXML(text))
        moments.append(self._moment("customise"))
        await self._domains.on(key, lambda domain: domain.create())
        moments.append(self._moment("boot"))
        seen = await self._domains.need(key)
        if seen.phase is Phase.STOPPED:
            # It has run and ended already: told again, for who listens only when a start is over.
            self._ended.put_nowait((seen.domain.name(), libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN))
        elif seen.phase is not Phase.RUNNING:
            raise _conflict(f"{key.instance_id} did not start.", f"It is {seen.phase}.", "not-started")
        moments.append(self._moment("verify"))
        return moments

    async def shut_down(self, key: GuestKey, *, force: bool) -> None:
        seen = await self._domains.get(key)
        if seen is None or (seen.phase is Phase.STOPPED and not seen.me.wanted):
            return
        # Said before it is done: a guest that is off and was not told so has ended by itself.
        me = await self._domains.remember(seen, wanted=False, outgoing="", handed_over="", cause=None)
        self._source.forget(key)
        if seen.phase is not Phase.STOPPED:
            if not force and seen.phase is Phase.RUNNING:
                await self._ask_to_end(key)
            await self._domains.power_off(me.key)

    async def _ask_to_end(self, key: GuestKey) -> None:
        """The power button, and time to obey."""
        await self._domains.on(key, lambda d: d.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))
        until = self._clock.monotonic() + self._host.patience
        while (left := until - self._clock.monotonic()) > 0:
            await self._news.wait(f"{key.instance_id}.{key.generation}", min(left, 1.0))
            now = await self._domains.get(key)
            if now is None or now.phase is Phase.STOPPED:
                return

    async def destroy(self, key: GuestKey) -> None:
        self._source.forget(key)
        await self._making.unmake(key)

    async def reboot(self, key: GuestKey, asked: int) -> None:
        seen = await self._domains.need(key)
        if seen.me.reboots >= asked:
            return
        if seen.phase is not Phase.RUNNING:
            raise _conflict(f"{key.instance_id} cannot reboot.", f"It is {seen.phase}.", "not-running")
        await self._domains.on(key, lambda domain: domain.reset(0))
        # Counted after it: a crash in between reboots once more, and never too little.
        await self._domains.remember(seen, reboots=asked)

    async def describe(self, key: GuestKey, guest: Guest) -> None:
        seen = await self._domains.need(key)
        anew = seen.me.guest.described_anew(guest)
        await self._domains.remember(seen, guest=anew)
        await self._network.describe(key, anew)

    async def guard(self, guards: Guards) -> None:
        await self._network.guard(guards)

    async def pause(self, key: GuestKey) -> None:
        seen = await self._domains.need(key)
        if seen.phase is Phase.RUNNING:
            await self._domains.on(key, lambda domain: domain.suspend())

    async def resume(self, key: GuestKey) -> None:
        seen = await self._domains.need(key)
        if seen.me.cause == DISK_FAILED:
            await self._await_room(key)
        match seen.phase:
            case Phase.RUNNING | Phase.PAUSED:
                await self._source.run_on(seen)
            case Phase.INCOMING:
                await self._destination.run(seen)
            case _:
                raise _conflict(f"{key.instance_id} cannot run on.", f"It is {seen.phase}.", "not-paused")

    async def console(self, instance_id: str) -> bytes:
        return await self._domains.read_console(await self._latest(instance_id))

    async def follow_console(self, instance_id: str) -> AsyncGenerator[bytes, None]:
        key = await self._latest(instance_id)
        async with aclosing(screen.follow_console(self._domains, key, self._clock)) as written:
            async for some in written:
                yield some

    async def screenshot(self, instance_id: str) -> bytes:
        return await screen.screenshot(self._domains, await self._latest(instance_id))

    async def _latest(self, instance_id: str) -> GuestKey:
        keys = [seen.me.key for seen in await self._domains.all() if seen.me.key.instance_id == instance_id]
        if not keys:
            raise Fault(Kind.NOT_FOUND, f"No guest of {instance_id} is here.", code="no-such-guest")
        return max(keys)

    async def prepare(self, key: GuestKey, guest: Guest, migration_id: str, sender: str = "") -> str:
        await self._need_room(guest)
        return await self._destination.prepare(key, guest, migration_id, sender)

    async def receive(
        self, key: GuestKey, round_number: int, numbers: bytes, contents: bytes, cpu_state: bytes
    ) -> str:
        _ = round_number
        if numbers or contents or not cpu_state:
            raise Fault(
                Kind.INVALID,
                "A real guest's pages do not come this way.",
                why="QEMU sends them to QEMU.",
                code="bad-pages",
            )
        return await self._destination.receive(key, cpu_state)

    async def pre_copy(
        self,
        key: GuestKey,
        migration_id: str,
        wire: Wire,
        limits: Limits,
        steer: Steering,
        landing: str = "",
        receiver: str = "",
    ) -> AsyncGenerator[Round | str, None]:
        way = Way(wire, landing, receiver)
        async with aclosing(self._source.pre_copy(key, migration_id, way, limits, steer)) as words:
            async for word in words:
                yield word

    async def stop_and_copy(self, key: GuestKey, migration_id: str) -> HandedOver:
        return await self._source.stop_and_copy(key, migration_id)

    async def capture(
        self, key: GuestKey, capture_id: str
    ) -> AsyncGenerator[CaptureProgress | CapturedDisk, None]:
        async with aclosing(self._capturing.capture(key, capture_id)) as words:
            async for word in words:
                yield word

    async def digest(self, key: GuestKey) -> str:
        me = (await self._domains.need(key)).me
        return me.whole or me.handed_over

    async def _await_room(self, key: GuestKey) -> None:
        """A guest that stopped at its disk would stop there again. Raises Fault NO_CAPACITY `storage-full`."""
        await self._clock.sleep(_DISK_BREATH)
        if free_bytes(self._domains.home(key)) <= 0:
            raise Fault(
                Kind.NO_CAPACITY,
                f"{key.instance_id} cannot go on.",
                why="The node's disk is full.",
                fix="Make room on it: the guest then goes on by itself.",
                code=STORAGE_FULL,
            )

    async def _need_room(self, guest: Guest) -> None:
        has, wants = (await self.capabilities()).capacity, guest.resources
        if wants.vcpus > has.vcpus or wants.memory_mib > has.memory_mib:
            raise Fault(
                Kind.NO_CAPACITY,
                f"{guest.instance_id} is larger than its host.",
                why=f"It wants {wants.vcpus} vCPUs and {wants.memory_mib} MiB; there are "
                f"{has.vcpus} and {has.memory_mib}.",
                fix="Choose a smaller instance type.",
                code="larger-than-host",
            )

    def _on_lifecycle(self, name: str, event: int, detail: int) -> None:
        self._news.tell(name)
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED or (event, detail) == _AT_ITS_DISK:
            self._ended.put_nowait((name, detail))

    def _on_monitor(self, name: str, event: str, details: str) -> None:
        _ = event, details  # whoever is woken asks how it stands
        self._news.tell(name)

    def _moment(self, name: str) -> Moment:
        return Moment(name, int(self._clock.now().timestamp() * 1000))


def _conflict(what: str, why: str, code: str) -> Fault:
    return Fault(Kind.CONFLICT, what, why=why, fix="Look at the guest's state and ask again.", code=code)
