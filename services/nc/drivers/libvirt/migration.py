"""The two ends of a real live migration: QEMU sends to QEMU, and stops where the commit stands.

Stage 2 runs with a downtime limit so small that QEMU goes on with its passes until we have seen
enough; stage 3 lifts the limit, and QEMU pauses the guest, sends the rest and completes. The guest
at the destination is whole and paused then, the one at the source paused, and either can go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import libvirt
import msgspec

from mallee.domain.guest import Guest, GuestKey, Phase
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.nc.driver import HandedOver, Steering, Wire
from mallee.nc.drivers import pre_copy
from mallee.nc.drivers.libvirt import mirror, monitor
from mallee.nc.drivers.libvirt.confidence import Confidence
from mallee.nc.drivers.libvirt.domain import Identity
from mallee.nc.drivers.libvirt.domains import Domains, Seen
from mallee.nc.drivers.libvirt.landing import Crossing, Landing, Way
from mallee.nc.drivers.libvirt.making import Making

_GLANCE_SECONDS: Final = 0.2  # between looks at what an operator steers
_SMALLEST_LIMIT_MS: Final = 1
_NO_LIMIT_MS: Final = 2_000_000  # QEMU's own most
_COMPLETION_SECONDS: Final = 30.0
_ANNOUNCED: Final = {"initial": 20, "max": 500, "rounds": 5, "step": 100}  # milliseconds
_SWITCHING: Final = {"pre-switchover", "device"}
_OVER: Final = {"completed", "failed", "cancelled", ""}


@dataclass(slots=True)
class _Outgoing:
    migration_id: str
    wire: Wire
    steer: Steering
    rounds: list[Round] = field(default_factory=list)
    sent: tuple[int, int] = (0, 0)  # pages and bytes when the last round ended
    began: float = 0.0  # of the round, monotonic
    bandwidth_mbps: float = 0.0
    switched: bool = False  # QEMU has paused the guest and goes on by itself


class News:
    """Who waits for something to happen to a domain is woken by QEMU's events."""

    def __init__(self) -> None:
        self._happened: dict[str, asyncio.Event] = {}

    def tell(self, name: str) -> None:
        if (event := self._happened.get(name)) is not None:
            event.set()

    async def wait(self, name: str, at_most: float) -> None:
        """Return when something has happened since the last wait, or after so many seconds."""
        event = self._happened.setdefault(name, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await event.wait()
        event.clear()

    def forget(self, name: str) -> None:
        self._happened.pop(name, None)


class Source:
    """Stages 2 and 3."""

    def __init__(
        self, domains: Domains, news: News, clock: Clock, confidence: Confidence | None = None
    ) -> None:
        self._domains = domains
        self._confidence = confidence
        self._news = news
        self._clock = clock
        self._outgoing: dict[GuestKey, _Outgoing] = {}

    async def pre_copy(
        self,
        key: GuestKey,
        migration_id: str,
        way: Way,
        limits: Limits,
        steer: Steering,
    ) -> AsyncGenerator[Round | str, None]:
        landing = self._landing(way)
        await self.end_copying(key)  # of an earlier try, which may have the guest held for its switch
        seen = await self._domains.need(key)
        if seen.phase is not Phase.RUNNING:
            raise _conflict(
                f"{key.instance_id} is {seen.phase}.", "Only a running guest is pre-copied.", "not-running"
            )
        out = self._outgoing[key] = _Outgoing(migration_id, way.wire, steer, began=self._clock.monotonic())
        complete = False
        try:
            await self._domains.on(key, lambda d: self._reach(d, landing, way.receiver, limits))
            await self._mirrored(key, out, landing)
            out.began = self._clock.monotonic()
            await self._domains.on(key, lambda d: _begin(d, landing, limits))
            async for word in self._passes(key, out, limits, seen.me.guest):
                complete = isinstance(word, str)
                yield word
        finally:
            if not complete and self._outgoing.get(key) is out:
                self._outgoing.pop(key)
                await self.end_copying(key)

    def _landing(self, way: Way) -> Landing:
        try:
            landing = msgspec.json.decode(way.landing, type=Landing)
        except msgspec.MsgspecError as error:
            raise Fault(
                Kind.INVALID, "Where the copy waits was not understood.", why=str(error), code="bad-landing"
            ) from error
        if landing.tls is not (self._confidence is not None):
            raise _conflict(
                "The two nodes do not agree on how guests cross.",
                "The destination takes them only encrypted."
                if landing.tls
                else "The destination takes them in the clear, and this node sends none so.",
                "encryption-mismatch",
            )
        return landing

    def _reach(self, domain: Any, landing: Landing, receiver: str, limits: Limits) -> None:
        if bool(mirror.disk_of(domain)) is not bool(landing.disk_port):
            raise _conflict(
                "The two nodes do not agree on what the guest has.",
                "Its disk is at one of them only.",
                "storage-mismatch",
            )
        if landing.qemu < (mine := monitor.version(domain)):
            raise _conflict(
                "The destination's QEMU is older than the guest's.",
                f"It is {landing.qemu[0]}.{landing.qemu[1]}, the guest's {mine[0]}.{mine[1]}; guests move to newer ones.",
                "older-hypervisor",
            )
        tls = {} if self._confidence is None else self._confidence.reach(domain, receiver)
        if landing.disk_port:
            speed = _bytes_a_second(limits.bandwidth_mbps)
            mirror.begin(domain, landing.host, landing.disk_port, speed, **tls)

    async def _mirrored(self, key: GuestKey, out: _Outgoing, landing: Landing) -> None:
        """Wait until the disk, if there is one, only follows what the guest writes: memory is the faster of the two."""
        while landing.disk_port and not await self._domains.on(key, mirror.is_through):
            await self._news.wait(_name(key), _GLANCE_SECONDS)
            self._still_mine(key, out)

    async def _passes(
        self, key: GuestKey, out: _Outgoing, limits: Limits, guest: Guest
    ) -> AsyncGenerator[Round | str, None]:
        total = guest.resources.memory_mib * 256
        stop = pre_copy.keen(limits)
        while True:
            await self._news.wait(_name(key), _GLANCE_SECONDS)
            await self._steer(key, out, limits)
            now = await self._domains.on(key, _look)
            self._still_mine(key, out)
            if now["status"] in _OVER:
                raise _conflict(
                    f"The copying of {key.instance_id} ended.",
                    str(now.get("error-desc") or f"QEMU says that it is {now['status'] or 'not there'}."),
                    "copying-ended",
                )
            switching = now["status"] in _SWITCHING
            if switching:
                # So little was left that QEMU did not ask us: the guest stands still, and not for long.
                out.switched = True
            # `dirty-sync-count` is the number of the pass that runs now: one more has ended.
            if now.get("ram", {}).get("dirty-sync-count", 0) - 1 > len(out.rounds) or switching:
                yield self._round(out, now)
                reason = pre_copy.FORCED if out.steer.finish else stop(total, out.rounds)
                if reason := reason or (pre_copy.FITS if switching else ""):
                    yield reason
                    return
            elif out.steer.finish:
                yield self._round(out, now)
                yield pre_copy.FORCED
                return

    def _round(self, out: _Outgoing, now: monitor.Json) -> Round:
        ram, at = now["ram"], self._clock.monotonic()
        pages, sent = ram["normal"] + ram["duplicate"], ram["transferred"]
        seconds = max(at - out.began, 1e-6)
        done = Round(
            len(out.rounds) + 1,
            max(0, pages - out.sent[0]),
            max(0, sent - out.sent[1]),
            ram["remaining"] // ram["page-size"],
            seconds * 1e3,
            # QEMU's own figure is of the last 100 ms; ours is of the whole pass.
            max(0.001, (sent - out.sent[1]) * 8 / seconds / 1e6),
            int(now.get("cpu-throttle-percentage", 0)),
        )
        out.sent, out.began = (pages, sent), at
        out.rounds.append(done)
        return done

    async def _steer(self, key: GuestKey, out: _Outgoing, limits: Limits) -> None:
        wanted = out.steer.bandwidth_mbps or limits.bandwidth_mbps
        if wanted != out.bandwidth_mbps:
            await self._domains.on(
                key, lambda d: monitor.set_parameters(d, max_bandwidth=_bytes_a_second(wanted))
            )
            out.bandwidth_mbps = wanted

    async def stop_and_copy(self, key: GuestKey, migration_id: str) -> HandedOver:
        seen = await self._domains.need(key)
        if seen.phase is Phase.PAUSED and seen.me.outgoing == migration_id and seen.me.handed_over:
            return HandedOver(0, 0, 0.0, seen.me.handed_over)
        out = self._outgoing.get(key)
        if out is None or out.migration_id != migration_id:
            raise _conflict(
                f"Nothing of {key.instance_id} is on its way.",
                "No pre-copy of it stands open.",
                "no-pre-copy",
            )
        me = await self._hold(seen, out)
        ended = await self._let_it_finish(key)
        stopped = self._clock.monotonic()
        self._still_mine(key, out)
        state = Crossing(
            migration_id,
            key.generation,
            ended["ram"]["transferred"],
            me.reboots,
            await self._domains.read_console(key),
        )
        said = msgspec.msgpack.encode(state)
        digest = _digest(said)
        await out.wire.close(said)
        self._still_mine(key, out)
        await self._domains.remember(Seen(seen.domain, me, Phase.PAUSED), handed_over=digest)
        self._outgoing.pop(key, None)
        paused_ms = ended.get("downtime", 0) + (self._clock.monotonic() - stopped) * 1e3
        pages = ended["ram"]["normal"] + ended["ram"]["duplicate"]
        return HandedOver(
            max(0, pages - out.sent[0]), max(0, ended["ram"]["transferred"] - out.sent[1]), paused_ms, digest
        )

    async def _hold(self, seen: Seen, out: _Outgoing) -> Identity:
        """Let QEMU pause the guest; whatever happens from here on, nobody else wakes it: that is said before."""
        me = await self._domains.remember(seen, outgoing=out.migration_id, handed_over="")
        if not out.switched:
            await self._domains.on(me.key, _let_switch)
        return me

    async def _let_it_finish(self, key: GuestKey) -> monitor.Json:
        async with asyncio.timeout(_COMPLETION_SECONDS):
            while True:
                now = await self._domains.on(key, _go_on)
                if now["status"] == "completed":
                    return now
                if now["status"] in _OVER:
                    raise _conflict(
                        f"The last pages of {key.instance_id} did not cross.",
                        str(now.get("error-desc", now["status"])),
                        "copying-ended",
                    )
                await self._news.wait(_name(key), _GLANCE_SECONDS)

    async def run_on(self, seen: Seen) -> None:
        """The way back: end the copying, forget it, run."""
        key = seen.me.key
        self._outgoing.pop(key, None)
        await self._cancel(key)
        if seen.me.outgoing:
            # Forgotten first: a guest that is paused for nobody is woken by whoever finds it so.
            await self._domains.remember(seen, outgoing="", handed_over="")
        await self._domains.on(key, _resume)

    def forget(self, key: GuestKey) -> None:
        self._outgoing.pop(key, None)
        self._news.forget(_name(key))

    async def end_copying(self, key: GuestKey) -> None:
        """End a copying that is under way; the guest runs on if it was QEMU that held it for the switch."""
        await self._cancel(key)
        with suppress(Fault):
            await self._domains.on(key, _run_if_switched)

    async def _cancel(self, key: GuestKey) -> None:
        with suppress(Fault):  # it may be gone, and its copying with it
            while not await self._domains.on(key, mirror.dropped):
                await self._news.wait(_name(key), _GLANCE_SECONDS)
            now = await self._domains.on(key, monitor.migration)
            while now["status"] not in _OVER:
                await self._domains.on(key, lambda domain: monitor.execute(domain, "migrate_cancel"))
                await self._news.wait(_name(key), _GLANCE_SECONDS)
                now = await self._domains.on(key, monitor.migration)

    def _still_mine(self, key: GuestKey, out: _Outgoing) -> None:
        if self._outgoing.get(key) is not out:
            raise _conflict(
                f"The copying of {key.instance_id} was ended.",
                "It was called off or begun anew.",
                "copying-ended",
            )


class Destination:
    """Stages 1, 4 and 5.

    Args:
        making: what makes guests here.
        address: where other hosts reach this one's QEMUs.
        confidence: by which senders prove themselves.
    """

    def __init__(
        self,
        domains: Domains,
        news: News,
        making: Making,
        address: str,
        confidence: Confidence | None = None,
    ) -> None:
        self._domains = domains
        self._news = news
        self._making = making
        self._address = address
        self._confidence = confidence

    async def prepare(self, key: GuestKey, guest: Guest, migration_id: str, sender: str) -> str:
        """A paused QEMU that waits to be filled; returns where it does."""
        seen = await self._domains.get(key)
        if seen is not None and (seen.phase is not Phase.INCOMING or seen.me.incoming != migration_id):
            raise _conflict(f"{key.instance_id} is here already.", f"It is {seen.phase}.", "already-here")
        await self._making.unmake(key)
        me = Identity(cloud=self._domains.cloud, key=key, guest=guest, incoming=migration_id)
        try:
            text = await self._making.document(me, incoming=True)
            return await self._domains.daemon.call(lambda c: self._listen(c, text, sender))
        except BaseException:
            await self._making.unmake(key)
            raise

    def _listen(self, connection: Any, text: str, sender: str) -> str:
        domain = connection.createXML(text, libvirt.VIR_DOMAIN_START_PAUSED)
        monitor.set_capabilities(domain, events=True, late_block_activate=True)
        tls = {} if self._confidence is None else self._confidence.listen(domain, sender)
        disk_port = mirror.export(domain, self._address, **tls)
        monitor.execute(domain, "migrate-incoming", {"uri": f"tcp:{self._address}:0"})
        [where] = monitor.migration(domain)["socket-address"]
        encrypted = self._confidence is not None
        landing = Landing(self._address, int(where["port"]), encrypted, disk_port, monitor.version(domain))
        return msgspec.json.encode(landing).decode()

    async def receive(self, key: GuestKey, state: bytes) -> str:
        """The source has sent all: wait until QEMU has taken all, and remember that it is whole."""
        seen = await self._domains.need(key)
        if seen.phase is not Phase.INCOMING or seen.me.whole:
            raise _conflict(f"{key.instance_id} takes no state.", f"It is {seen.phase}.", "not-incoming")
        try:
            said = msgspec.msgpack.decode(state, type=Crossing)
        except msgspec.MsgspecError as error:
            raise Fault(
                Kind.INVALID, "What was sent is no guest.", why=str(error), code="bad-state"
            ) from error
        if said.migration_id != seen.me.incoming or said.generation >= key.generation:
            raise Fault(Kind.INVALID, "What was sent is another guest.", code="bad-state")
        async with asyncio.timeout(_COMPLETION_SECONDS):
            while (now := await self._domains.on(key, monitor.migration))["status"] != "completed":
                if now["status"] == "failed":
                    raise _conflict(
                        "QEMU took no whole image.", str(now.get("error-desc", "")), "image-broken"
                    )
                await self._news.wait(_name(key), _GLANCE_SECONDS)
        digest = _digest(state)
        await asyncio.gather(
            self._domains.on(key, mirror.end_export),
            self._domains.keep_console(key, said.console),
            self._domains.remember(seen, whole=digest, reboots=said.reboots),
        )
        return digest

    async def run(self, seen: Seen) -> None:
        """Let a whole copy be the guest; from here on it is kept across restarts of the daemon."""
        key = seen.me.key
        if not seen.me.whole:
            raise _conflict(
                f"{key.instance_id} cannot run on.",
                "It is incoming, and its image is not whole.",
                "not-whole",
            )
        me = await self._domains.remember(seen, incoming="", whole="")
        await self._domains.on(key, _wake)
        await self.keep(Seen(seen.domain, me, Phase.RUNNING))

    async def keep(self, seen: Seen) -> None:
        """Define what only runs, as a guest that boots by itself the next time."""
        text = await self._making.document(seen.me)
        await self._domains.daemon.call(lambda c: c.defineXML(text))


def _begin(domain: Any, landing: Landing, limits: Limits) -> None:
    monitor.set_capabilities(
        domain, events=True, pause_before_switchover=True, auto_converge=limits.auto_converge
    )
    monitor.set_parameters(
        domain, downtime_limit=_SMALLEST_LIMIT_MS, max_bandwidth=_bytes_a_second(limits.bandwidth_mbps)
    )
    monitor.execute(domain, "migrate", {"uri": landing.uri})


def _let_switch(domain: Any) -> None:
    monitor.set_parameters(domain, downtime_limit=_NO_LIMIT_MS)


def _look(domain: Any) -> monitor.Json:
    """How the passes stand; where QEMU has come to their end by itself, it goes on."""
    now = monitor.migration(domain)
    if now["status"] == "pre-switchover":
        _go_on(domain)
    return now


def _go_on(domain: Any) -> monitor.Json:
    """How it stands; where QEMU holds before the switch, it goes on once the disk is whole there."""
    now = monitor.migration(domain)
    if now["status"] == "pre-switchover" and mirror.finished(domain):
        monitor.execute(domain, "migrate-continue", {"state": "pre-switchover"})
        now = monitor.migration(domain)
    return now


def _resume(domain: Any) -> None:
    if monitor.is_paused(domain):
        domain.resume()


def _wake(domain: Any) -> None:
    _resume(domain)
    # QEMU has announced the guest's address when its memory was whole, and nobody may have listened: it was not
    # the guest yet. A guest that can is asked to say itself where it is, by gratuitous ARP.
    monitor.execute(domain, "announce-self", _ANNOUNCED)


def _run_if_switched(domain: Any) -> None:
    """One that its node controller has paused stands still for another reason, and goes on doing so."""
    if monitor.execute(domain, "query-status")["status"] == "postmigrate":
        domain.resume()


def _bytes_a_second(mbps: float) -> int:
    return max(1, int(mbps * 1e6 / 8))


def _digest(state: bytes) -> str:
    return sha256(state).hexdigest()


def _name(key: GuestKey) -> str:
    return f"{key.instance_id}.{key.generation}"


def _conflict(what: str, why: str, code: str) -> Fault:
    return Fault(Kind.CONFLICT, what, why=why, fix="Look at the guest's state and ask again.", code=code)
