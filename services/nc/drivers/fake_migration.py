"""The two ends of a pretend guest's live migration: real rounds, real pages over a real wire.

Only the time that a page of 4 KiB would take is pretended: a page is its 32-bit version here, and
the sender waits as long as the whole page would need at the allowed bandwidth.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from mallee.domain.guest import Guest, GuestKey, Phase
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.nc.db.fakes import FakeRow
from mallee.nc.driver import HandedOver, Steering, Wire
from mallee.nc.drivers import pre_copy
from mallee.nc.drivers.fake_guests import FakeGuests, conflict, pages_of
from mallee.nc.drivers.fake_memory import Memory, to_little_endian
from mallee.nc.drivers.fake_workload import Workload, profile
from mallee.nc.drivers.pre_copy import PAGE_BYTES, RateRule, StopRule

MADE_UP_SECONDS = 0.02


def _full_speed(limits: Limits) -> RateRule:
    return pre_copy.steady(limits.bandwidth_mbps)


@dataclass(frozen=True, slots=True)
class CopyRules:
    """How a node copies. `bandwidth_mbps` is its line, shared by what leaves it at the same time."""

    bandwidth_mbps: float = 10_000.0
    chunk_pages: int = 4096
    instant: bool = False  # time is reckoned, not waited for
    stop: Callable[[Limits], StopRule] = pre_copy.within
    rate: Callable[[Limits], RateRule] = _full_speed
    workload: Callable[[Guest], Workload] = lambda guest: profile(guest.tags, pages_of(guest))


class _State(msgspec.Struct, array_like=True):
    """A pretend guest's CPU state."""

    reboots: int
    boots: tuple[int, ...]


@dataclass(slots=True)
class _Outgoing:
    migration_id: str
    wire: Wire
    memory: Memory
    workload: Workload
    limits: Limits
    steer: Steering
    began: float  # on the sender's clock
    worked: float = 0.0  # seconds since `began` up to which the guest's writes are in memory
    reckoned: float = 0.0  # seconds that instant transfers would have taken
    due: float = 0.0  # when, on the sender's clock, what this round has sent would be through
    throttle: int = 0
    rounds: list[Round] = field(default_factory=list)


class Sender:
    """The source: stages 2 and 3."""

    def __init__(self, guests: FakeGuests, clock: Clock, entropy: Entropy, rules: CopyRules) -> None:
        self._guests = guests
        self._clock = clock
        self._entropy = entropy
        self._rules = rules
        self._outgoing: dict[GuestKey, _Outgoing] = {}

    def forget(self, key: GuestKey) -> None:
        """The guest runs on, or is gone; whoever still copies it finds out after his next await."""
        self._outgoing.pop(key, None)

    async def pre_copy(
        self, key: GuestKey, migration_id: str, wire: Wire, limits: Limits, steer: Steering
    ) -> AsyncGenerator[Round | str, None]:
        row = self._running(key)
        memory = Memory.of(f"{key.instance_id}/{key.generation}", pages_of(row.guest))
        workload = self._rules.workload(row.guest)
        out = _Outgoing(migration_id, wire, memory, workload, limits, steer, self._clock.monotonic())
        self._outgoing[key] = out  # a copying of the same guest that still runs ends itself now
        handed_on = False
        try:
            async with aclosing(self._passes(key, out)) as passes:
                async for word in passes:
                    handed_on = isinstance(word, str)
                    yield word
        finally:
            if not handed_on and self._outgoing.get(key) is out:
                self.forget(key)

    async def _passes(self, key: GuestKey, out: _Outgoing) -> AsyncGenerator[Round | str, None]:
        total = len(out.memory.versions)
        stop, rate = self._rules.stop(out.limits), self._rules.rate(out.limits)
        pending: Sequence[int] = range(total)
        while True:
            latest = await self._pass(key, out, pending, rate(out.rounds))
            out.rounds.append(latest)
            if out.limits.auto_converge:
                out.throttle = pre_copy.throttle_after(out.rounds)
            yield latest
            self._running(key, out)
            reason = pre_copy.FORCED if out.steer.finish else stop(total, out.rounds)
            if reason:
                yield reason
                return
            self._work(out)
            pending = out.memory.take_dirty()

    async def _pass(self, key: GuestKey, out: _Outgoing, pending: Sequence[int], wished: float) -> Round:
        number, began, sent = len(out.rounds) + 1, self._now(out), 0
        mbps, out.due = wished, self._clock.monotonic()
        for first in range(0, len(pending), self._rules.chunk_pages):
            self._work(out)
            pages = out.memory.still_clean(pending[first : first + self._rules.chunk_pages])
            mbps = self._allowed(out, wished)
            await self._send(out, number, pages, mbps)
            self._running(key, out)
            sent += len(pages)
        self._work(out)
        seconds = self._now(out) - began
        if sent >= self._rules.chunk_pages and seconds > 0:
            mbps = sent * PAGE_BYTES * 8 / seconds / 1e6
        left = out.memory.dirty_pages()
        return Round(number, sent, sent * PAGE_BYTES, left, seconds * 1e3, mbps, out.throttle)

    async def stop_and_copy(self, key: GuestKey, migration_id: str) -> HandedOver:
        row = self._guests.need(key)
        if row.phase is Phase.PAUSED and row.migration_id == migration_id and row.digest:
            return HandedOver(0, 0, 0.0, row.digest)
        out = self._outgoing.get(key)
        if out is None or out.migration_id != migration_id:
            raise conflict(
                f"Nothing of {key.instance_id} is on its way.",
                "No pre-copy of it stands open.",
                "no-pre-copy",
            )
        self._running(key, out)  # it may have ended since its last page crossed
        stopped = self._now(out)
        self._work(out)
        # The guest has stopped. That it is durably so can be waited for while the pages cross, but
        # no answer leaves before it is.
        durable = asyncio.ensure_future(
            self._guests.change(key, phase=Phase.PAUSED, migration_id=migration_id, digest="")
        )
        try:
            sent = await self._send_rest(out)
            state = msgspec.msgpack.encode(_State(row.reboots, row.boots))
            await out.wire.close(state)
        finally:
            await durable
        self._still_mine(key, out)
        digest = out.memory.digest(state)
        await self._guests.change(key, digest=digest)
        self.forget(key)
        paused_ms = (self._now(out) - stopped) * 1e3
        return HandedOver(sent, sent * PAGE_BYTES + len(state), paused_ms, digest)

    async def _send_rest(self, out: _Outgoing) -> int:
        rest, out.due = out.memory.take_dirty(), self._clock.monotonic()
        for first in range(0, len(rest), self._rules.chunk_pages):
            pages = out.memory.still_clean(rest[first : first + self._rules.chunk_pages])
            await self._send(out, len(out.rounds) + 1, pages, self._allowed(out, out.limits.bandwidth_mbps))
        return len(rest)

    async def _send(self, out: _Outgoing, number: int, pages: array[int], mbps: float) -> None:
        if not pages:
            return
        began = self._clock.monotonic()
        await out.wire.pages(number, to_little_endian(pages), out.memory.contents(pages))
        seconds = pre_copy.transfer_seconds(len(pages), mbps)
        if self._rules.instant:
            out.reckoned += seconds
            return
        # Paced against a plan, not page by page: a timer that wakes late is made up for, up to a point.
        out.due = max(out.due, began - MADE_UP_SECONDS) + seconds
        if (left := out.due - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    def _allowed(self, out: _Outgoing, wished: float) -> float:
        share = self._rules.bandwidth_mbps / max(1, len(self._outgoing))
        return min(out.steer.bandwidth_mbps or wished, share)

    def _work(self, out: _Outgoing) -> None:
        """Let the guest do what it did since the last look."""
        now = self._now(out)
        effort = out.workload.effort(out.worked, now) * (100 - out.throttle) / 100
        out.worked = now
        out.memory.work(out.workload, effort, self._entropy)

    def _now(self, out: _Outgoing) -> float:
        return out.reckoned if self._rules.instant else self._clock.monotonic() - out.began

    def _running(self, key: GuestKey, out: _Outgoing | None = None) -> FakeRow:
        row = self._guests.need(key)
        if row.phase is not Phase.RUNNING:
            raise conflict(
                f"{key.instance_id} is {row.phase}.", "Only a running guest is pre-copied.", "not-running"
            )
        if out is not None:
            self._still_mine(key, out)
        return row

    def _still_mine(self, key: GuestKey, out: _Outgoing) -> None:
        if self._outgoing.get(key) is not out:
            raise conflict(
                f"The copying of {key.instance_id} was ended.",
                "It was called off or begun anew.",
                "copying-ended",
            )


class Receiver:
    """The destination: an empty guest, and whatever is put into it."""

    def __init__(self, guests: FakeGuests) -> None:
        self._guests = guests
        self._memories: dict[GuestKey, Memory] = {}

    def forget(self, key: GuestKey) -> None:
        self._memories.pop(key, None)

    async def prepare(self, key: GuestKey, guest: Guest, migration_id: str) -> None:
        row = self._guests.get(key)
        if row is not None and (row.phase is not Phase.INCOMING or row.migration_id != migration_id):
            raise conflict(f"{key.instance_id} is here already.", f"It is {row.phase}.", "already-here")
        self._memories[key] = Memory.empty(pages_of(guest))
        await self._guests.put(key, FakeRow(Phase.INCOMING, guest, migration_id=migration_id))

    async def receive(
        self, key: GuestKey, numbers: bytes, contents: bytes, cpu_state: bytes, *, lie: bool
    ) -> str:
        row, memory = self._guests.need(key), self._memories.get(key)
        if row.phase is not Phase.INCOMING or row.digest or memory is None:
            raise conflict(f"{key.instance_id} takes no pages.", f"It is {row.phase}.", "not-incoming")
        try:
            memory.put(numbers, contents)
            state = msgspec.msgpack.decode(cpu_state, type=_State) if cpu_state else None
        except (ValueError, msgspec.MsgspecError) as error:
            raise Fault(
                Kind.INVALID, "What was sent is no guest.", why=str(error), code="bad-pages"
            ) from error
        if state is None:
            return ""
        digest = memory.digest(cpu_state + (b"!" if lie else b""))
        await self._guests.change(key, digest=digest, reboots=state.reboots, boots=state.boots)
        self.forget(key)
        return digest
