"""One node's guests on their way to what they should be.

Orders say what should be; the driver's inventory is what is; facts are what changed. Each instance
has one task at a time, and the latest order wins: terminate and stop do not wait for a start. An
instance that nobody named is paused and reported, never destroyed on the word of an empty list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from mallee.domain.guest import Cause, GuestKey, Moment, Phase, Power
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault
from mallee.nc.db.tombstones import Graveyard
from mallee.nc.driver import Driver, Found
from mallee.nc.plan import Copy, Outlook, Step, Verb, interrupts, next_step
from mallee.nc.words import NOTHING, Fact, Order, description_of, guest_of

FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0  # seconds between tries of a step that must succeed in the end
UNKNOWN = Cause("unknown-guest", "The cluster controller does not know this guest; it is paused.")
LOST = Cause("guest-lost", "The guest is gone from the node, and nobody had ended it.")
_WHILE = {Verb.START: Phase.PROVISIONING, Verb.SHUT_DOWN: Phase.STOPPING}
_log = structlog.get_logger()


@dataclass(slots=True)
class _Instance:
    instance_id: str
    order: Order | None = None
    copies: dict[int, Copy] = field(default_factory=dict)
    failed: tuple[int, Cause] | None = None  # the generation that could not be made to run
    task: asyncio.Task[None] | None = None
    step: Step | None = None
    failing: Step | None = None  # what is tried again after a nap
    nap: asyncio.Future[None] | None = None
    changes: int = 0  # raised with every change: who awaited compares before he writes


class Guests:
    """The convergence of one node.

    Args:
        node: its name.
        driver: its hypervisor.
        graveyard: what may not come back.
        clock: paces retries.
        held: whether the node may run what it finds until its lease is first decided.
    """

    def __init__(
        self, node: str, driver: Driver, graveyard: Graveyard, clock: Clock, *, held: bool = True
    ) -> None:
        self.node = node
        self.news = asyncio.Event()  # there are facts to take
        self._driver = driver
        self._graveyard = graveyard
        self._clock = clock
        self._outlook = Outlook(held=held, confirmed=False)
        self._instances: dict[str, _Instance] = {}
        self._migrating: dict[GuestKey, str] = {}  # '' for one that arrived and waits to be named
        self._handed_over: set[GuestKey] = set()  # of those that migrate
        self._facts: dict[GuestKey, Fact] = {}
        self._closed = False

    # What comes from the cluster controller.

    def take_orders(self, orders: Iterable[Order], *, whole: bool) -> None:
        """Put orders in force; `whole` also unsays every order that is not among them."""
        named = set()
        for order in orders:
            named.add(order.key.instance_id)
            self._take(order, whole=whole)
        if not whole:
            return
        for key in [key for key, migration_id in self._migrating.items() if not migration_id]:
            del self._migrating[key]
        self._outlook = replace(self._outlook, confirmed=True)
        for one in list(self._instances.values()):
            if one.instance_id not in named:
                one.order = None
                for generation in one.copies:
                    self._tell(one, generation)
            self._wake(one)

    def _take(self, order: Order, *, whole: bool) -> None:
        instance_id, generation = order.key
        if generation <= self._graveyard.ended(self.node, instance_id):
            dying = self._instances.get(instance_id)
            if dying is not None and generation in dying.copies:
                # Told when it is really gone. An order for a newer copy, which waits for that, stands.
                if dying.order is None or dying.order.key.generation <= generation:
                    dying.order = order
            else:
                self._say(Fact(order.key, order.revision, Phase.TERMINATED))
            return
        one = self._instances.setdefault(instance_id, _Instance(instance_id))
        was = one.order
        if was is not None and (was.key.generation, was.revision) > (generation, order.revision):
            _log.debug("stale order", node=self.node, instance=instance_id, generation=generation)
            return
        if one.failed is not None and one.failed[0] != generation:
            one.failed = None
        if order.guest and ((was is not None and was.key == order.key) or generation in one.copies):
            order = replace(order, description=description_of(order.guest))
        one.order = order
        if not self._migrating.get(order.key, "moving"):
            del self._migrating[order.key]
        # All orders come as the answer to the inventory: who runs as he should was said to run in it.
        if not (whole and one.step is None and _is_as_ordered(one.copies.get(generation), order)) and (
            # Said again it gets no answer: the controller says an end again for each fact, and would for ever.
            whole or was is None or replace(was, guest=b"") != replace(order, guest=b"")
        ):
            self._tell(one, generation)
        if one.step is not None and interrupts(order, one.step):
            self._restart(one)
        else:
            self._wake(one)

    def lapse(self) -> None:
        """The lease is lost: every guest stops, at once, and waits to be named again."""
        # A paused guest is not pre-copied any further, and whoever asked for that may never be heard of again.
        for key in [key for key in self._migrating if self._is_pre_copied(key)]:
            del self._migrating[key]
        self._look_ahead(held=False, confirmed=False)
        for one in self._instances.values():
            # A guest that is asked to end by itself may take a minute for it, and runs meanwhile.
            if one.step is not None and one.step.verb not in {Verb.PAUSE, Verb.DESTROY}:
                self._restart(one)

    def _is_pre_copied(self, key: GuestKey) -> bool:
        """Whether a migration holds this guest and has not stopped it: nothing of it is handed over yet."""
        one = self._instances.get(key.instance_id)
        copy = one.copies.get(key.generation) if one else None
        runs = copy is not None and copy.phase is Phase.RUNNING and not copy.migration_id
        return runs and key not in self._handed_over

    def renew(self) -> None:
        """The lease is held. What the cluster controller has named since a lapse may run on."""
        if not self._outlook.held:
            self._look_ahead(held=True)

    @property
    def holds_lease(self) -> bool:
        return self._outlook.held

    def _look_ahead(self, **changed: bool) -> None:
        self._outlook = replace(self._outlook, **changed)
        for one in list(self._instances.values()):
            self._wake(one)

    # What a migration asks.

    def hold(self, key: GuestKey, migration_id: str) -> None:
        """Leave this guest to a migration, but for orders that end it."""
        self._migrating[key] = migration_id
        self._handed_over.discard(key)

    def hand_over(self, key: GuestKey) -> None:
        """A guest that is held is about to be stopped, and its last pages leave: nothing but its migration wakes it."""
        self._handed_over.add(key)

    def let_go_when_named(self, key: GuestKey) -> None:
        """A guest has arrived; the order that names it may still be on its way, by another line."""
        one = self._instances.get(key.instance_id)
        if one is not None and one.order is not None and one.order.key == key:
            self.let_go(key)
        else:
            self._migrating[key] = ""

    def let_go(self, key: GuestKey) -> None:
        self._migrating.pop(key, None)
        self._handed_over.discard(key)
        if (one := self._instances.get(key.instance_id)) is not None:
            self._wake(one)

    def is_ending(self, key: GuestKey) -> bool:
        """Whether this guest was ordered to stop or end, so that nothing else is worth its while."""
        if key.generation <= self._graveyard.ended(self.node, key.instance_id):
            return True
        one = self._instances.get(key.instance_id)
        order = one.order if one else None
        if order is None or order.key.generation < key.generation:
            return False
        return order.key.generation > key.generation or order.power is not Power.RUNNING

    async def bury(self, key: GuestKey) -> None:
        """End this copy for good, on the word of a migration that has moved on."""
        await self._destroy(self._instances.setdefault(key.instance_id, _Instance(key.instance_id)), key)

    # What the host says.

    async def look(self) -> None:
        """Read the inventory: adopt what is new, notice what is gone."""
        before = {one.instance_id: one.changes for one in self._instances.values()}
        inventory: dict[str, dict[int, Found]] = {}
        for found in await self._driver.inventory():
            inventory.setdefault(found.key.instance_id, {})[found.key.generation] = found
        for instance_id in dict.fromkeys((*before, *inventory)):  # in an order, as every run must repeat
            one = self._instances.setdefault(instance_id, _Instance(instance_id))
            # Whatever happened to it while the inventory was read is newer than the inventory.
            if one.step is not None:
                # What it has become meanwhile is asked again after the step.
                one.changes += one.step.verb is not Verb.START
            elif one.changes == before.get(instance_id, 0):
                self._adopt(one, inventory.get(instance_id, {}))

    async def watch(self) -> None:
        """Follow what guests do by themselves, until cancelled."""
        async for found in self._driver.changes():
            one = self._instances.get(found.key.instance_id)
            if one is not None and one.step is None and found.key.generation in one.copies:
                self._set(one, found.key.generation, self._copy(found))
                self._wake(one)

    def _adopt(self, one: _Instance, here: dict[int, Found]) -> None:
        for generation in one.copies.keys() - here.keys():
            lost = one.copies.pop(generation)
            one.changes += 1
            if lost.phase in {Phase.RUNNING, Phase.PAUSED}:
                one.failed = (generation, LOST)
            self._tell(one, generation)
        for generation, found in here.items():
            copy = self._copy(found)
            old = one.copies.get(generation)
            if old is None or replace(old, moments=()) != copy:
                self._set(one, generation, replace(copy, moments=old.moments if old else ()))
        self._wake(one)

    # What goes up.

    def inventory(self, size: int) -> Iterator[Sequence[Fact]]:
        """Everything that is here, `size` guests at a time, each as it is when its part is taken.

        What appears or goes while the parts are taken is news.
        """
        ids = list(self._instances)
        for first in range(0, len(ids), size):
            found = (self._instances.get(each) for each in ids[first : first + size])
            yield [
                self._fact(one, generation) for one in found if one is not None for generation in one.copies
            ]

    def facts(self) -> Sequence[Fact]:
        """Everything that is here now."""
        return next(self.inventory(max(1, len(self._instances))), [])

    def take_news(self) -> Sequence[Fact]:
        """What changed since it was last taken; of each guest the latest alone."""
        taken, self._facts = list(self._facts.values()), {}
        self.news.clear()
        return taken

    def _fact(self, one: _Instance, generation: int) -> Fact:
        key = GuestKey(one.instance_id, generation)
        ours = one.order is not None and one.order.key.generation == generation
        revision = one.order.revision if one.order is not None and ours else 0
        copy = one.copies.get(generation)
        if one.step is not None and one.step.generation == generation and one.step.verb in _WHILE:
            size = copy.resources if copy else NOTHING
            return Fact(key, revision, _WHILE[one.step.verb], resources=size)
        if copy is None:
            return self._absence(one, key, revision)
        nobodys = one.order is None and self._outlook.confirmed and key not in self._migrating
        cause = UNKNOWN if nobodys and copy.phase is Phase.PAUSED and not copy.migration_id else copy.cause
        return Fact(
            key, revision, copy.phase, cause, copy.moments, copy.reboots, copy.resources, copy.description
        )

    def _absence(self, one: _Instance, key: GuestKey, revision: int) -> Fact:
        if key.generation <= self._graveyard.ended(self.node, one.instance_id):
            return Fact(key, revision, Phase.TERMINATED)
        if one.failed is not None and one.failed[0] == key.generation:
            return Fact(key, revision, Phase.FAILED, one.failed[1])
        stopped = one.order is not None and one.order.power is Power.STOPPED
        return Fact(key, revision, Phase.STOPPED if stopped else Phase.PROVISIONING)

    def _tell(self, one: _Instance, generation: int) -> None:
        self._say(self._fact(one, generation))

    def _say(self, fact: Fact) -> None:
        self._facts.pop(fact.key, None)  # the order of facts is the order of their last change
        self._facts[fact.key] = fact
        self.news.set()

    def _set(self, one: _Instance, generation: int, copy: Copy | None) -> None:
        one.changes += 1
        if copy is None:
            one.copies.pop(generation, None)
        else:
            one.copies[generation] = copy
        self._tell(one, generation)

    # The way there.

    def _next(self, one: _Instance) -> Step | None:
        ended = self._graveyard.ended(self.node, one.instance_id)
        migrating = [key.generation for key in self._migrating if key.instance_id == one.instance_id]
        step = next_step(one.order, one.copies, ended, migrating, self._outlook)
        if step is not None and step.verb is Verb.START and one.failed is not None:
            return None
        return step

    def _wake(self, one: _Instance) -> None:
        if one.nap is not None and self._next(one) != one.failing:
            one.nap.cancel()
        if one.task is not None or self._closed:
            return
        if self._next(one) is not None:
            one.task = asyncio.ensure_future(self._converge(one))
        elif one.order is None and not one.copies:
            self._instances.pop(one.instance_id, None)

    def _restart(self, one: _Instance) -> None:
        """Drop the step in progress; its successor begins when it has really ended."""
        stopped = one.task
        assert stopped is not None
        one.step = None  # once is enough: a second order finds the successor waiting
        stopped.cancel()
        one.task = asyncio.ensure_future(self._converge(one, after=stopped))

    async def _converge(self, one: _Instance, after: asyncio.Task[None] | None = None) -> None:
        me = asyncio.current_task()
        if after is not None:
            await asyncio.wait((after,))
            # A start that was cut off leaves nothing or a guest: only the driver can say which.
            await self._settle(one)
            if one.order is not None:
                self._tell(one, one.order.key.generation)
        retry = FIRST_RETRY
        try:
            while (step := self._next(one)) is not None:
                retry = retry if step == one.failing else FIRST_RETRY
                one.failing = None
                if not await self._perform(one, step):
                    one.failing = step
                    await self._rest(one, retry)
                    retry = min(2 * retry, LONGEST_RETRY)
        finally:
            one.failing = None
            if one.task is me:
                one.task = None
        self._wake(one)

    async def _rest(self, one: _Instance, seconds: float) -> None:
        """Between two tries of a step. Another step that is due meanwhile does not wait: a lapse waits for nobody."""
        one.nap = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((one.nap,))
        finally:
            one.nap.cancel()
            one.nap = None

    async def _settle(self, one: _Instance) -> None:
        """Ask the driver what has become of one instance."""
        inventory = await self._driver.inventory()
        here = {each.key.generation: each for each in inventory if each.key.instance_id == one.instance_id}
        for generation in one.copies.keys() | here.keys():
            old, found = one.copies.get(generation), here.get(generation)
            now = self._copy(found) if found else None
            self._set(one, generation, replace(now, moments=old.moments) if now and old else now)

    async def _perform(self, one: _Instance, step: Step) -> bool:
        """Take one step; False when it must be tried again later."""
        key = GuestKey(one.instance_id, step.generation)
        one.step = step
        before = one.changes
        try:
            if step.verb in _WHILE:
                self._tell(one, step.generation)
            copy = await self._act(one, key, step.verb)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the instance shows it
            one.step = None
            return self._stumble(one, key, step.verb, error)
        finally:
            one.step = None
        if step.verb is Verb.DESTROY:
            return True
        if one.changes == before:
            self._set(one, step.generation, copy)
        else:  # a migration or the guest itself came between: what we meant to write is history
            await self._settle(one)
        return True

    async def _act(self, one: _Instance, key: GuestKey, verb: Verb) -> Copy | None:
        copy = one.copies.get(key.generation)
        order = one.order
        changed: dict[str, Any] = {}
        match verb:
            case Verb.START:
                return await self._start(one, key)
            case Verb.DESTROY:
                await self._destroy(one, key)
                return None
            case Verb.SHUT_DOWN:
                await self._driver.shut_down(key, force=order is not None and order.force)
                changed = {"phase": Phase.STOPPED, "migration_id": "", "cause": None}
            case Verb.PAUSE:
                await self._driver.pause(key)
                changed = {"phase": Phase.PAUSED}
            case Verb.RESUME:
                await self._driver.resume(key)
                changed = {"phase": Phase.RUNNING, "cause": None}
            case Verb.REBOOT:
                changed = {"reboots": order.reboots if order else 0}
                await self._driver.reboot(key, changed["reboots"])
            case Verb.DESCRIBE:
                changed = {"description": await self._describe(one, key)}
        return copy and replace(copy, **changed)

    async def _start(self, one: _Instance, key: GuestKey) -> Copy:
        order = one.order
        assert order is not None
        guest = guest_of(order.guest)
        moments: Sequence[Moment] = await self._driver.start(key, guest, reboots=order.reboots)
        self._lighten(one, order)
        return Copy(
            Phase.RUNNING,
            guest.resources,
            order.reboots,
            moments=tuple(moments),
            description=guest.description,
            root_disk=guest.has_root_disk,
        )

    async def _describe(self, one: _Instance, key: GuestKey) -> int:
        order = one.order
        assert order is not None
        guest = guest_of(order.guest)
        await self._driver.describe(key, guest)
        self._lighten(one, order)
        return guest.description

    @staticmethod
    def _lighten(one: _Instance, order: Order) -> None:
        """The driver has the description now; ten thousand of them are heavy."""
        if one.order is order:
            one.order = replace(order, guest=b"")

    async def _destroy(self, one: _Instance, key: GuestKey) -> None:
        # The stone first: a crash between the two must not leave a guest that looks wanted.
        await self._graveyard.end(self.node, *key)
        await self._driver.destroy(key)
        self._migrating.pop(key, None)
        self._set(one, key.generation, None)
        if one.order is not None and one.order.key == key:
            one.order = None

    def _stumble(self, one: _Instance, key: GuestKey, verb: Verb, error: Exception) -> bool:
        if not isinstance(error, Fault):
            _log.exception("step failed", node=self.node, step=verb, instance=one.instance_id, exc_info=error)
        else:
            _log.warning("step failed", node=self.node, step=verb, instance=one.instance_id, cause=str(error))
        if verb is not Verb.START:
            return False
        code = error.code if isinstance(error, Fault) else "internal"
        one.failed = (key.generation, Cause(code, str(error)))
        one.changes += 1
        self._tell(one, key.generation)
        return True

    def _copy(self, found: Found) -> Copy:
        """A guest as the inventory has it.

        One that is paused for a migration that was called off here is paused for nobody: the word that ended
        it may have outlived the word that it runs again, when a disk failed between the two.
        """
        of = found.migration_id
        over = found.phase is Phase.PAUSED and of and self._graveyard.is_dead(self.node, of)
        return Copy(
            found.phase,
            found.guest.resources,
            found.reboots,
            found.cause,
            "" if over else found.migration_id,
            description=found.guest.description,
            root_disk=found.guest.has_root_disk,
        )

    async def close(self) -> None:
        """Stop working; the guests stay as they are."""
        self._closed = True
        tasks = [one.task for one in self._instances.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _is_as_ordered(copy: Copy | None, order: Order) -> bool:
    if copy is None or copy.phase is not Phase.RUNNING or order.power is not Power.RUNNING:
        return False
    same = copy.reboots >= order.reboots and copy.description >= order.description
    return copy.cause is None and same
