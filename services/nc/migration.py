"""A node's part in migrations: sessions of the source, sessions of the destination.

The cluster controller decides; here each verb is done once however often it is said, and refused
when it is of another life: a guest is (instance, generation), a migration is its id, and both leave
tombstones, so that what was sent long ago finds nothing to break. No session resumes a guest by
itself: not on a time-out, not on a lost line, not after a restart.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from mallee.domain.guest import Guest, GuestKey, Phase
from mallee.domain.migration import Limits, Round
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.nc.db.tombstones import Graveyard
from mallee.nc.driver import Driver, Found, HandedOver, Steering, Wire
from mallee.nc.guests import Guests


class OpenWire(Wire, Protocol):
    """A wire as its opener sees it."""

    async def check(self) -> None:
        """Raise what the other end has ended it with, if it has."""

    def hang_up(self) -> None: ...


@dataclass(slots=True)
class _Outgoing:
    key: GuestKey
    migration_id: str
    wire: OpenWire
    steer: Steering = field(default_factory=Steering)
    last: asyncio.Task[HandedOver] | None = None  # stage 3, once begun: it is done once, and asked for often


@dataclass(slots=True)
class _Incoming:
    key: GuestKey
    guest: Guest
    ticket: str
    sender: str = ""  # the node that fills it
    landing: str = ""
    stream: object = None  # of the sender that fills the copy now
    touched: bool = False


class Migrations:
    """The migrations that one node takes part in."""

    def __init__(
        self, node: str, driver: Driver, guests: Guests, graveyard: Graveyard, entropy: Entropy
    ) -> None:
        self._node = node
        self._driver = driver
        self._guests = guests
        self._graveyard = graveyard
        self._entropy = entropy
        self._outgoing: dict[str, _Outgoing] = {}
        self._incoming: dict[str, _Incoming] = {}
        self._under_way: dict[tuple[str, GuestKey, str], asyncio.Task[None]] = {}

    # The source.

    async def pre_copy(
        self,
        key: GuestKey,
        migration_id: str,
        open_wire: Callable[[], OpenWire],
        limits: Limits,
        landing: str = "",
        receiver: str = "",
    ) -> AsyncGenerator[Round | str, None]:
        """Stage 2. Said again, it begins anew; broken off, the guest runs on as if nothing had been.

        Raises:
            Fault: STALE; CONFLICT `instance-terminating` when the guest was ordered to end.
        """
        self._refuse_dead(key, migration_id)
        self._drop_outgoing(migration_id)
        out = _Outgoing(key, migration_id, open_wire())
        self._outgoing[migration_id] = out
        self._guests.hold(key, migration_id)
        complete = False
        try:
            async with aclosing(
                self._driver.pre_copy(key, migration_id, out.wire, limits, out.steer, landing, receiver)
            ) as words:
                async for word in words:
                    self._refuse_dead(key, migration_id)
                    await out.wire.check()
                    complete = isinstance(word, str)
                    yield word
        except Fault as fault:
            raise self._as_ending(key, fault) from fault
        finally:
            if not complete and self._outgoing.get(migration_id) is out:
                self._drop_outgoing(migration_id)

    async def stop_and_copy(self, key: GuestKey, migration_id: str) -> HandedOver:
        """Stage 3. Whoever asks again while it is done, or after, gets the same answer."""
        self._refuse_dead(key, migration_id)
        out = self._outgoing.get(migration_id)
        if out is None or out.key != key:
            # After a restart only the disk knows whether the copy was handed over.
            return await self._ending_told(key, self._driver.stop_and_copy(key, migration_id))
        if out.last is None:
            out.last = asyncio.ensure_future(self._finish(out))
        return await self._ending_told(key, _given(out.last))

    async def _finish(self, out: _Outgoing) -> HandedOver:
        self._guests.hand_over(out.key)
        try:
            return await self._driver.stop_and_copy(out.key, out.migration_id)
        finally:
            await self._guests.look()

    def steer(self, key: GuestKey, migration_id: str, *, finish: bool, bandwidth_mbps: float) -> None:
        """During stage 2: end the pre-copy now, or set the bandwidth."""
        self._refuse_dead(key, migration_id)
        out = self._outgoing.get(migration_id)
        if out is None or out.key != key:
            raise _nothing(migration_id, self._node)
        out.steer.finish = out.steer.finish or finish
        out.steer.bandwidth_mbps = bandwidth_mbps or out.steer.bandwidth_mbps

    async def resume(self, key: GuestKey, migration_id: str) -> None:
        """The way back of stages 2 and 3: the guest runs on here, and this migration is over here."""
        await self._once("resume", key, migration_id, self._resume)

    async def _resume(self, key: GuestKey, migration_id: str) -> None:
        found = await self._find(key)
        if found is not None and found.migration_id not in {"", migration_id}:
            raise _stale(f"{key.instance_id} is in the hands of another migration.")
        self._need_lease()
        await self._graveyard.call_off(self._node, migration_id)
        self._drop_outgoing(migration_id)
        # The copy of another generation, or one that ended meanwhile, has nothing to go back to.
        found = await self._find(key)
        if found is not None and found.migration_id == migration_id and not self._guests.is_ending(key):
            await self._driver.resume(key)
        elif found is not None and found.phase is Phase.RUNNING:
            await self._driver.resume(key)  # at full speed again
        await self._guests.look()
        self._guests.let_go(key)

    async def discard(self, key: GuestKey, migration_id: str) -> None:
        """Stage 5: the guest lives elsewhere now."""
        await self._once("discard", key, migration_id, self._discard)

    async def _discard(self, key: GuestKey, migration_id: str) -> None:
        self._drop_outgoing(migration_id)
        await self._guests.bury(key)
        await self._graveyard.call_off(self._node, migration_id)

    def _drop_outgoing(self, migration_id: str) -> None:
        out = self._outgoing.pop(migration_id, None)
        if out is None:
            return
        if out.last is not None:
            out.last.cancel()
        out.wire.hang_up()
        self._guests.let_go(out.key)

    # The destination.

    async def prepare(
        self, key: GuestKey, migration_id: str, guest: Guest, sender: str = ""
    ) -> tuple[str, str]:
        """Stage 1: room for the guest, the ticket with which its pages are let in, and where they land.

        Said again it changes nothing and gives the same ticket, so that a late doubling cannot empty
        a copy that is being filled.
        """
        self._refuse_dead(key, migration_id)
        self._need_lease()
        if migration_id not in self._incoming and await self.verify(key, migration_id):
            # The session went with its process, the copy did not: it may be the guest by now.
            raise _stale(f"The copy of {key.instance_id} is whole already.")
        session = self._incoming.get(migration_id)
        if session is not None and session.key == key:
            return session.ticket, session.landing
        session = _Incoming(key, guest, self._entropy.token(16).hex(), sender)
        self._incoming[migration_id] = session
        self._guests.hold(key, migration_id)
        try:
            session.landing = await self._driver.prepare(key, guest, migration_id, sender)
            self._refuse_dead(key, migration_id)
        except BaseException:
            await self._drop_copy(key, migration_id)
            raise
        await self._guests.look()
        return session.ticket, session.landing

    async def admit(self, key: GuestKey, migration_id: str, ticket: str) -> object:
        """Let a sender in; returns what it shows with its pages. A sender before it is out.

        Raises:
            Fault: FORBIDDEN for a wrong ticket; STALE, NOT_FOUND.
        """
        self._refuse_dead(key, migration_id)
        session = self._incoming.get(migration_id)
        if session is None or session.key != key:
            raise _nothing(migration_id, self._node)
        if not hmac.compare_digest(session.ticket.encode(), ticket.encode()):
            raise Fault(Kind.FORBIDDEN, "The ticket is not of this migration.", code="bad-ticket")
        session.stream = token = object()
        if session.touched:
            session.touched = False
            await self._driver.prepare(key, session.guest, migration_id, session.sender)
        return token

    async def receive(
        self,
        token: object,
        migration_id: str,
        round_number: int,
        numbers: bytes,
        contents: bytes,
        cpu_state: bytes,
    ) -> str:
        """Pages of an admitted sender; the digest once the image is whole."""
        session = self._incoming.get(migration_id)
        if session is None or session.stream is not token:
            raise _stale(f"Migration {migration_id} takes no pages of this sender any more.")
        session.touched = True
        return await self._driver.receive(session.key, round_number, numbers, contents, cpu_state)

    async def verify(self, key: GuestKey, migration_id: str) -> str:
        """Stage 4: the digest of a whole image, '' when it is not."""
        self._refuse_dead(key, migration_id)
        found = await self._find(key)
        if found is None or found.migration_id != migration_id:
            return ""
        return await self._driver.digest(key)

    async def activate(self, key: GuestKey, migration_id: str) -> None:
        """Stage 5: run. Only after the placement has moved here."""
        await self._once("activate", key, migration_id, self._activate)

    async def _activate(self, key: GuestKey, migration_id: str) -> None:
        self._refuse_dead(key, migration_id)
        self._need_lease()
        found = await self._find(key)
        if found is None:
            raise _nothing(migration_id, self._node)
        if found.migration_id not in {"", migration_id}:
            raise _stale(f"{key.instance_id} is in the hands of another migration.")
        if found.migration_id:
            await self._driver.resume(key)
        self._incoming.pop(migration_id, None)
        self._guests.let_go_when_named(key)
        await self._guests.look()

    async def abandon(self, key: GuestKey, migration_id: str) -> None:
        """The way back of stage 1: drop the copy; what comes late for this migration is refused."""
        await self._once("abandon", key, migration_id, self._abandon)

    async def _abandon(self, key: GuestKey, migration_id: str) -> None:
        found = await self._find(key)
        if found is not None and found.phase is not Phase.INCOMING:
            raise Fault(
                Kind.CONFLICT,
                f"{key.instance_id} is no copy that could be dropped.",
                why=f"It is {found.phase} here: this migration has been committed.",
                code="already-active",
            )
        await self._graveyard.call_off(self._node, migration_id)
        await self._drop_copy(key, migration_id)

    async def _drop_copy(self, key: GuestKey, migration_id: str) -> None:
        self._incoming.pop(migration_id, None)
        found = await self._find(key)
        if found is not None and found.phase is Phase.INCOMING and found.migration_id == migration_id:
            await self._driver.destroy(key)
        await self._guests.look()
        self._guests.let_go(key)

    # Both.

    def close(self) -> None:
        """The process goes: lines are cut, guests stay as they are."""
        for out in self._outgoing.values():
            if out.last is not None:
                out.last.cancel()
            out.wire.hang_up()
        self._outgoing.clear()
        for task in self._under_way.values():
            task.cancel()

    async def _once(
        self,
        verb: str,
        key: GuestKey,
        migration_id: str,
        work: Callable[[GuestKey, str], Awaitable[None]],
    ) -> None:
        """Do it, or wait for who does it already.

        It goes on when its asker's deadline has passed, and that it was done is kept for who asks next: what
        takes longer than a deadline would else be begun anew with each try, and nobody would ever hear its end.
        """
        name = (verb, key, migration_id)
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.ensure_future(work(key, migration_id))
            task.add_done_callback(lambda done: self._done(name, done))
        await asyncio.shield(task)
        self._over(name, task)

    def _done(self, name: tuple[str, GuestKey, str], task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:  # whoever asks again tries again
            self._over(name, task)

    def _over(self, name: tuple[str, GuestKey, str], task: asyncio.Task[None]) -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]

    async def _find(self, key: GuestKey) -> Found | None:
        return next((each for each in await self._driver.inventory() if each.key == key), None)

    async def _ending_told(self, key: GuestKey, answer: Awaitable[HandedOver]) -> HandedOver:
        try:
            return await answer
        except Fault as fault:
            raise self._as_ending(key, fault) from fault

    def _as_ending(self, key: GuestKey, fault: Fault) -> Fault:
        if not self._guests.is_ending(key):
            return fault
        return Fault(
            Kind.CONFLICT,
            f"{key.instance_id} does not migrate any further.",
            why="It was ordered to stop or to end.",
            fix="Unwind the migration.",
            code="instance-terminating",
        )

    def _refuse_dead(self, key: GuestKey, migration_id: str) -> None:
        if self._graveyard.is_dead(self._node, migration_id):
            raise _stale(f"Migration {migration_id} is over on {self._node}.")
        if key.generation <= self._graveyard.ended(self._node, key.instance_id):
            raise _stale(f"Generation {key.generation} of {key.instance_id} has ended on {self._node}.")

    def _need_lease(self) -> None:
        if not self._guests.holds_lease:
            raise Fault(
                Kind.UNAVAILABLE,
                f"{self._node} may run no guest now.",
                why="Its lease has lapsed.",
                fix="Try again when it has renewed it.",
                code="no-lease",
            )


async def _given(last: asyncio.Task[HandedOver]) -> HandedOver:
    """What stage 3 gives. Who waits is not cancelled with it, and must be told something."""
    await asyncio.wait((last,))
    if last.cancelled():
        raise _stale("The handing over was called off.")
    return last.result()


def _stale(what: str) -> Fault:
    return Fault(Kind.STALE, what, fix="Ask the cluster controller where the instance is.", code="stale")


def _nothing(migration_id: str, node: str) -> Fault:
    return Fault(Kind.NOT_FOUND, f"{node} knows no migration {migration_id}.", code="no-such-migration")
