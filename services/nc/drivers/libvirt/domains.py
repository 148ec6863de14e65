"""The domains of one daemon as guests: found by key, read into the driver's words, removed whole."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import libvirt

from mallee.domain.guest import Cause, GuestKey, Phase
from mallee.kernel.errors import Fault, Kind
from mallee.nc.driver import Found
from mallee.nc.drivers.libvirt.connection import Daemon
from mallee.nc.drivers.libvirt.domain import (
    NAMESPACE,
    PREFIX,
    Identity,
    identity_document,
    identity_of,
    name_of,
)

T = TypeVar("T")
_GOING: Final = ".going"
CONSOLE_BYTES: Final = 64 * 1024
PANICKED: Final = Cause("guest-panicked", "The guest's kernel panicked; its console says why.")
DISK_FAILED: Final = Cause(
    "disk-failed", "The guest waits: what it wrote could not be written. The node's disk may be full."
)
_KILLED: Final = Cause(
    "hypervisor-killed",
    "QEMU ended under the guest. The host may have run out of memory: see its kernel log.",
)
_ENDED: Final = {libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: _KILLED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED: _KILLED}
# What is nothing to a guest that has ended, and is not worth the wait for a disk while a guest stands still.
_OF_A_PAUSED_GUEST: Final = {"outgoing", "handed_over"}
_SHUT_DOWN: Final = Cause("guest-shut-down", "The guest powered itself off.")


class Seen(NamedTuple):
    """A domain of ours, and how it stands."""

    domain: Any
    me: Identity
    phase: Phase


class Domains:
    """Our domains at one daemon, and the folders beside them.

    Args:
        daemon: the connection.
        cloud: whose guests are ours.
        folder: one folder a guest lies in it, with its console.
    """

    def __init__(self, daemon: Daemon, cloud: str, folder: Path) -> None:
        self.daemon = daemon
        self.cloud = cloud
        self._folder = folder

    def home(self, key: GuestKey) -> Path:
        return self._folder / name_of(key)

    def console_path(self, key: GuestKey) -> Path:
        return self.home(key) / "console.log"

    async def all(self) -> Sequence[Seen]:
        """Every domain of this cloud."""
        return await self.daemon.call(lambda c: [seen for d in c.listAllDomains() if (seen := self._seen(d))])

    async def get(self, key: GuestKey) -> Seen | None:
        return await self.daemon.call(lambda c: self._look(c, key))

    async def need(self, key: GuestKey) -> Seen:
        """The guest.

        Raises:
            Fault: STALE when another copy of the instance is here, NOT_FOUND when none is.
        """
        seen = await self.get(key)
        if seen is not None:
            return seen
        others = [each.me.key for each in await self.all() if each.me.key.instance_id == key.instance_id]
        raise Fault(
            Kind.STALE if others else Kind.NOT_FOUND,
            f"Generation {key.generation} of {key.instance_id} is not here.",
            why=f"Generation {max(others).generation} is."
            if others
            else "It was never here, or it has ended.",
            fix="Ask the cluster controller where the instance is.",
            code="stale-generation" if others else "no-such-guest",
        )

    async def on(self, key: GuestKey, work: Callable[[Any], T]) -> T:
        """Run `work(domain)` in a thread."""
        return await self.daemon.call(lambda c: work(c.lookupByName(name_of(key))))

    async def remember(self, seen: Seen, **changed: object) -> Identity:
        """Write down what changed about a guest, in what lives and in what is kept."""
        me = seen.me.change(**changed)
        passing = changed.keys() <= _OF_A_PAUSED_GUEST

        def write(domain: Any) -> None:
            flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            if domain.isPersistent() and not (flags and passing):
                flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
            kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
            domain.setMetadata(kind, identity_document(me), PREFIX, NAMESPACE, flags)

        await self.on(me.key, write)
        return me

    async def remove(self, key: GuestKey) -> None:
        """End a domain and forget it, its folder too. One that is not there is gone already."""
        await self.end(key)
        await asyncio.to_thread(_clear, self.home(key))
        await asyncio.to_thread(self._clear_orphans, key, {each.me.key for each in await self.all()})

    async def end(self, key: GuestKey) -> None:
        """End a domain and forget it; its folder stays."""

        def end(connection: Any) -> None:
            with _unless_gone():
                domain = connection.lookupByName(name_of(key))
                if domain.isActive():
                    _power_off(domain)
                if domain.isPersistent():
                    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)

        await self.daemon.call(end)

    async def forget(self, key: GuestKey) -> str:
        """Forget a domain that is off, and leave its folder; returns its document, '' when there was none."""

        def undefine(connection: Any) -> str:
            text = ""
            with _unless_gone():
                domain = connection.lookupByName(name_of(key))
                text = str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
            return text

        return await self.daemon.call(undefine)

    def earlier_homes(self, key: GuestKey) -> Sequence[GuestKey]:
        """Of this instance, the latest first; whether or not their domains are still there."""
        found = [_key_of(path) for path in self._folder.glob(f"{key.instance_id}.*")]
        return sorted((each for each in found if each and each.generation < key.generation), reverse=True)

    def _clear_orphans(self, key: GuestKey, there: Collection[GuestKey]) -> None:
        """What a death between two steps left of earlier lives: they are over when this one is."""
        for earlier in self.earlier_homes(key):
            if earlier not in there:
                _clear(self.home(earlier))

    async def sweep(self) -> None:
        """Finish what an earlier process was removing when it died."""
        for path in await asyncio.to_thread(lambda: list(self._folder.glob(f"*{_GOING}"))):
            await asyncio.to_thread(_clear, path)

    async def power_off(self, key: GuestKey) -> None:
        """Pull the plug."""
        await self.on(key, _power_off)

    async def make_home(self, key: GuestKey) -> None:
        await asyncio.to_thread(lambda: self._make_home(self.home(key)))

    def _make_home(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o711)  # QEMU, which is somebody else, opens its files by their names

    async def read_console(self, key: GuestKey) -> bytes:
        """The last of what the guest wrote, on this host and before it came here."""
        return await asyncio.to_thread(self._read_console, key)

    def _read_console(self, key: GuestKey) -> bytes:
        log = self.console_path(key)
        # `.0` is what the daemon moved away when the file became too long; `.before` came with the guest.
        parts = [_tail(path) for path in (log.with_suffix(".before"), log.with_name(log.name + ".0"), log)]
        return b"".join(parts)[-CONSOLE_BYTES:]

    async def keep_console(self, key: GuestKey, before: bytes) -> None:
        """What the guest wrote on the host that it came from."""
        await asyncio.to_thread(self.console_path(key).with_suffix(".before").write_bytes, before)

    def _look(self, connection: Any, key: GuestKey) -> Seen | None:
        name = name_of(key)
        here = [domain for domain in connection.listAllDomains() if domain.name() == name]
        return self._seen(here[0]) if here else None

    def _seen(self, domain: Any) -> Seen | None:
        """A domain without our metadata, or of another cloud, is none of our business."""
        try:
            me = identity_of(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE))
            phase, reason = _phase(domain, me), domain.state()[1]
        except (libvirt.libvirtError, ValueError):
            return None
        if me.cloud != self.cloud:
            return None
        if phase is Phase.STOPPED and me.wanted and me.cause is None:
            me = me.change(cause=_ENDED.get(reason, _SHUT_DOWN))
        if phase is Phase.PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            me = me.change(cause=DISK_FAILED)
        return Seen(domain, me, phase)


def found(seen: Seen) -> Found:
    """The guest as a node controller sees it."""
    me = seen.me
    in_transit = me.incoming or me.outgoing if seen.phase in {Phase.INCOMING, Phase.PAUSED} else ""
    cause = me.cause if seen.phase in {Phase.STOPPED, Phase.PAUSED} else None
    return Found(me.key, me.guest, seen.phase, cause, in_transit, me.reboots)


def _phase(domain: Any, me: Identity) -> Phase:
    state = domain.state()[0]
    if state == libvirt.VIR_DOMAIN_RUNNING:
        return Phase.RUNNING
    if state in {libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_PMSUSPENDED}:
        return Phase.INCOMING if me.incoming else Phase.PAUSED
    return Phase.STOPPED


def _power_off(domain: Any) -> None:
    try:
        domain.destroy()
    except libvirt.libvirtError:
        if domain.isActive():
            raise


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Swallow libvirt's word that there is no such domain, and nothing else."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def _key_of(home: Path) -> GuestKey | None:
    instance_id, _, generation = home.name.rpartition(".")
    return GuestKey(instance_id, int(generation)) if generation.isdecimal() else None


def _clear(home: Path) -> None:
    """Remove a folder. By another name first: half a folder must not look like a guest's."""
    going = home if home.suffix == _GOING else home.with_name(home.name + _GOING)
    with suppress(FileNotFoundError):
        if going != home:
            home.rename(going)
        shutil.rmtree(going)


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - CONSOLE_BYTES))
            return file.read()
    except FileNotFoundError:
        return b""
