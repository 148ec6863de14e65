"""The zones' cluster controllers, one client each.

Down go placements, asked together when they are asked at the same time, and wishes in batches; up
comes one `Watch` stream. Nothing is remembered about messages: after a reconnect, and every ten
seconds for what stays unsettled, the wishes are told again from the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from mallee.aws.errors import InvalidParameterValue
from mallee.clc import host_ids, orders
from mallee.clc.audit import audited
from mallee.clc.audit.books import ZoneReport
from mallee.clc.db import guards, instances
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.reconcile import Reconciler
from mallee.kernel.rpc import Conversation
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub

BATCH = 1000  # wishes or asks in one call: well below the limit of a message, even with user data
RESEND_SECONDS = 10.0
GUARD_SECONDS = 1.0  # in which a change of security groups is on its way
GATHER_SECONDS = 0.1
PLACE_SECONDS = 3.0  # a client that asks four times has its answer in a few seconds
CONVERGE_SECONDS = 5.0
LIFE_SECONDS = 0.5  # between two looks whether a zone that hung is back
AUDIT_SECONDS = 60.0
BACK_OFF_SECONDS = (0.1, 0.2, 0.4, 0.8)
_USER_DATA_BATCH = 200  # 16 KiB each at most

_log = structlog.get_logger()


class Cluster(Protocol):
    """One zone's cluster controller, as the CLC sees it. Every failure is a `Fault`."""

    @property
    def zone(self) -> str: ...

    @property
    def state(self) -> pb.ZoneFact | None:
        """What the zone said last of itself; None while it cannot be reached."""

    async def place(self, ask: pb.Ask) -> pb.Outcome:
        """Claim capacity; the answer may be a refusal."""

    async def release(self, instance_ids: Sequence[str]) -> None:
        """Give claims back; if that cannot be said, they lapse."""

    def hint(self, instance_ids: Iterable[str]) -> None:
        """These have new wishes in the database. Losing a hint costs time, never work."""

    def tell(self, wishes: Sequence[pb.DesiredInstance]) -> None:
        """A hint by somebody who has the durable wishes at hand, so that nobody must read them."""

    def tell_all(self) -> None:
        """A hint that any unsettled instance may have a wish that nobody has told."""

    async def nodes(self, request: pb.ListNodesRequest) -> Sequence[pb.Node]: ...

    async def cordon(self, host_id: str, *, cordoned: bool) -> pb.Node: ...

    async def migrate(self, request: pb.MigrateRequest) -> pb.MigrateResponse: ...

    async def migrations(self, request: pb.ListMigrationsRequest) -> Sequence[pb.Migration]: ...

    async def steer(self, request: pb.SteerMigrationRequest) -> pb.Migration: ...

    async def console(self, instance_id: str) -> pb.GetConsoleOutputResponse: ...

    async def screenshot(self, instance_id: str) -> bytes:
        """What the guest's screen shows, as a JPEG."""

    async def capture(self, request: pb.CaptureRootRequest) -> common_pb2.ImageFile:
        """An instance's root disk as an object; the same capture id again is the same capture."""

    async def audit(self) -> ZoneReport:
        """What the zone holds, and what is wrong there by its own books."""


class Clusters:
    """All zones, by name."""

    def __init__(self, clusters: Iterable[Cluster]) -> None:
        self._by_zone: Mapping[str, Cluster] = {each.zone: each for each in clusters}

    @property
    def zones(self) -> list[str]:
        return sorted(self._by_zone)

    def __iter__(self) -> Any:
        return iter([self._by_zone[zone] for zone in self.zones])

    def at(self, zone: str) -> Cluster:
        """The cluster of a zone.

        Raises:
            InvalidParameterValue: there is no such zone.
        """
        cluster = self._by_zone.get(zone)
        if cluster is None:
            raise InvalidParameterValue(f"Invalid availability zone: [{zone}]")
        return cluster

    def roomiest(self) -> list[str]:
        """Zones by what they have free, most first; those that cannot be reached come last."""

        def room(zone: str) -> tuple[int, str]:
            state = self._by_zone[zone].state
            return (-state.free.memory_mib if state else 1, zone)

        return sorted(self._by_zone, key=room)

    def hint(self, zones_by_id: Mapping[str, str]) -> None:
        """Instances with new wishes, each with its zone; a zone that is gone hears nothing."""
        told: dict[str, list[str]] = {}
        for instance_id, zone in zones_by_id.items():
            told.setdefault(zone, []).append(instance_id)
        for zone, ids in told.items():
            if zone in self._by_zone:
                self._by_zone[zone].hint(ids)

    def tell_all(self) -> None:
        """Everything unsettled, to each zone."""
        for cluster in self:
            cluster.tell_all()

    def tell(self, zone: str, wishes: Sequence[pb.DesiredInstance]) -> None:
        """Durable wishes of one zone's instances."""
        if zone in self._by_zone:
            self._by_zone[zone].tell(wishes)


class Sink(Protocol):
    """Whoever acts upon facts."""

    async def take(self, facts: Sequence[pb.InstanceFact]) -> Sequence[str]:
        """Make the facts true in the database; which instances have new wishes by that."""

    async def news(self, facts: Sequence[pb.InstanceFact]) -> Sequence[pb.InstanceFact]:
        """Those among the facts of a whole picture that say anything new."""

    async def compare(self, zone: str, known: set[str]) -> None:
        """The cluster has said everything that it knows of."""


class _Asked(NamedTuple):
    ask: pb.Ask
    waiter: asyncio.Future[pb.Outcome]


class _End(NamedTuple):
    """The end of a snapshot in the queue of facts."""

    known: set[str]


class ClusterClient:
    """The client of one zone's cluster controller; `run` keeps it going."""

    def __init__(self, zone: str, channel: Any, *, db: Database, clock: Clock, sink: Sink) -> None:
        self.zone = zone
        self._state: pb.ZoneFact | None = None
        self._hung: asyncio.Task[None] | None = None  # listens for a sign of life
        self._taking: asyncio.Future[Sequence[str]] | None = None  # the facts that are being written
        self._stub: Any = ClusterServiceStub(channel)
        self._placer = Conversation[pb.PlaceInTurnRequest, pb.PlaceInTurnResponse](
            f"placing in {zone}", self._stub.PlaceInTurn
        )
        self._converger = Conversation[pb.ConvergeInTurnRequest, pb.ConvergeInTurnResponse](
            f"the wishes of {zone}", self._stub.ConvergeInTurn
        )
        self._db = db
        self._clock = clock
        self._sink = sink
        self._asked: list[_Asked] = []
        self._placing: asyncio.Task[None] | None = None
        self._hinted: dict[str, pb.DesiredInstance | None] = {}  # None: the database knows the wish
        self._whole_at = float("-inf")  # when everything unsettled was told last
        self._guarded: common_pb2.Guards | None = None  # what the zone was told last of security groups
        self._guarder = Reconciler(f"guards {zone}", self._guard, every=GUARD_SECONDS, clock=clock)
        self._teller = Reconciler(f"wishes {zone}", self._tell, every=RESEND_SECONDS, clock=clock)

    async def run(self) -> None:
        """Tell wishes and follow facts until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._teller.run())
                tasks.create_task(self._guarder.run())
                tasks.create_task(self._watch())
        finally:
            self._placer.hang_up()
            self._converger.hang_up()
            if self._hung is not None:
                self._hung.cancel()

    # --- placement ----------------------------------------------------------------------------

    @property
    def state(self) -> pb.ZoneFact | None:
        return None if self._hung else self._state

    async def place(self, ask: pb.Ask) -> pb.Outcome:
        if self._hung is not None:
            raise self._silence()
        if ask.host_id:
            asked = pb.Ask()
            asked.CopyFrom(ask)
            asked.host_id = host_ids.local(self.zone, ask.host_id)
            ask = asked
        waiter: asyncio.Future[pb.Outcome] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(ask, waiter))
        if self._placing is None:
            self._placing = asyncio.create_task(self._place())
        outcome = await waiter
        for placement in outcome.placements:
            placement.host_id = host_ids.public(self.zone, placement.host_id)
        return outcome

    async def _place(self) -> None:
        """One call at a time; whoever asks meanwhile goes into the next one together."""
        try:
            while self._asked:
                batch, self._asked = self._asked[:BATCH], self._asked[BATCH:]
                await self._place_together(batch)
        finally:
            self._placing = None
            for asked in self._asked:  # only if this task itself was ended
                asked.waiter.cancel()
            self._asked.clear()

    async def _place_together(self, batch: Sequence[_Asked]) -> None:
        """Ask, and let nobody wait for ever, whatever comes of it."""
        request = pb.PlaceInTurnRequest(asks=[asked.ask for asked in batch])
        try:
            outcomes = (await self._placer.ask(request, within=PLACE_SECONDS)).outcomes
            answers = list(zip(batch, outcomes, strict=True))
        except (Fault, ValueError) as error:
            late = isinstance(error, Fault) and error.code == "deadline"
            if late and self._hung is None:
                self._hung = asyncio.create_task(self._wait_for_life())
            for asked in (*batch, *(self._asked if late else ())):
                if not asked.waiter.done():
                    asked.waiter.set_exception(error)
            if late:
                self._asked.clear()
            return
        for asked, outcome in answers:
            if not asked.waiter.done():
                asked.waiter.set_result(outcome)
            elif outcome.placements:  # whoever asked has gone
                await self.release([each.instance_id for each in outcome.placements])

    async def _wait_for_life(self) -> None:
        """Whoever did not answer in time is asked for little until it answers: nobody else waits for it."""
        _log.warning("a zone does not answer", zone=self.zone)
        try:
            while True:
                try:
                    await self._stub.ListNodes(pb.ListNodesRequest(max_results=1))
                except Fault as fault:
                    if fault.kind is not Kind.UNAVAILABLE:
                        break
                    await self._clock.sleep(LIFE_SECONDS)
                else:
                    break
        finally:
            self._hung = None

    def _silence(self) -> Fault:
        return Fault(
            Kind.UNAVAILABLE,
            f"Zone {self.zone} does not answer.",
            why="Its cluster controller hangs, or the line to it is cut.",
            fix="Try again, or choose another zone.",
            code="zone-silent",
        )

    async def release(self, instance_ids: Sequence[str]) -> None:
        try:
            await self._stub.Release(pb.ReleaseRequest(instance_ids=instance_ids))
        except Fault as fault:
            _log.warning("claims were not released and will lapse", zone=self.zone, why=str(fault))

    # --- what is rare -------------------------------------------------------------------------

    async def nodes(self, request: pb.ListNodesRequest) -> Sequence[pb.Node]:
        asked = pb.ListNodesRequest()
        asked.CopyFrom(request)
        asked.host_ids[:] = host_ids.locals_of(self.zone, request.host_ids)
        if request.host_ids and not asked.host_ids:
            return ()
        asked.after_host_id = host_ids.local(self.zone, request.after_host_id)
        answer: pb.ListNodesResponse = await self._stub.ListNodes(asked)
        return [host_ids.publish_node(self.zone, node) for node in answer.nodes]

    async def cordon(self, host_id: str, *, cordoned: bool) -> pb.Node:
        request = pb.CordonNodeRequest(host_id=host_ids.local(self.zone, host_id), cordoned=cordoned)
        answer: pb.CordonNodeResponse = await self._stub.CordonNode(request)
        return host_ids.publish_node(self.zone, answer.node)

    async def migrate(self, request: pb.MigrateRequest) -> pb.MigrateResponse:
        asked = pb.MigrateRequest()
        asked.CopyFrom(request)
        asked.destination_host_ids[:] = [
            host_ids.local(self.zone, each) for each in request.destination_host_ids
        ]
        asked.excluded_host_ids[:] = host_ids.locals_of(self.zone, request.excluded_host_ids)
        return host_ids.publish_answer(self.zone, await self._stub.Migrate(asked))

    async def migrations(self, request: pb.ListMigrationsRequest) -> Sequence[pb.Migration]:
        answer: pb.ListMigrationsResponse = await self._stub.ListMigrations(request)
        return [host_ids.publish_migration(self.zone, each) for each in answer.migrations]

    async def steer(self, request: pb.SteerMigrationRequest) -> pb.Migration:
        answer: pb.SteerMigrationResponse = await self._stub.SteerMigration(request)
        return host_ids.publish_migration(self.zone, answer.migration)

    async def console(self, instance_id: str) -> pb.GetConsoleOutputResponse:
        request = pb.GetConsoleOutputRequest(instance_id=instance_id)
        answer: pb.GetConsoleOutputResponse = await self._stub.GetConsoleOutput(request)
        return answer

    async def screenshot(self, instance_id: str) -> bytes:
        request = pb.GetConsoleScreenshotRequest(instance_id=instance_id)
        answer: pb.GetConsoleScreenshotResponse = await self._stub.GetConsoleScreenshot(request)
        return answer.picture

    async def capture(self, request: pb.CaptureRootRequest) -> common_pb2.ImageFile:
        async for part in self._stub.CaptureRoot(request):
            if part.HasField("file"):
                file: common_pb2.ImageFile = part.file
                return file
        raise Fault(Kind.UNAVAILABLE, f"{self.zone} did not finish a capture.", code="capture-cut-off")

    async def audit(self) -> ZoneReport:
        report = ZoneReport(self.zone)
        async with asyncio.timeout(AUDIT_SECONDS):
            async for part in self._stub.Audit(pb.AuditRequest()):
                if audited.take(report, part):
                    return report
        raise Fault(Kind.UNAVAILABLE, f"{self.zone} did not finish its audit.", code="audit-cut-off")

    # --- wishes -------------------------------------------------------------------------------

    def hint(self, instance_ids: Iterable[str]) -> None:
        self._hinted.update(dict.fromkeys(instance_ids))
        self._teller.wake()

    def tell(self, wishes: Sequence[pb.DesiredInstance]) -> None:
        for wish in wishes:
            before = self._hinted.get(wish.instance_id, wish)
            if before is not None and before.revision <= wish.revision:  # else a later one waits already
                self._hinted[wish.instance_id] = wish
        self._teller.wake()

    def tell_all(self) -> None:
        self._whole_at = float("-inf")
        self._teller.wake()

    async def _tell(self) -> None:
        """Tell what was hinted; from time to time everything that is unsettled."""
        now = self._clock.monotonic()
        hinted, self._hinted = list(self._hinted.items()), {}
        whole = now - self._whole_at >= RESEND_SECONDS
        try:
            if whole:
                self._whole_at = now
                await self._tell_all()
            else:
                for start in range(0, len(hinted), BATCH):
                    some = hinted[start : start + BATCH]
                    unread = [instance_id for instance_id, wish in some if wish is None]
                    await self._converge(unread, [wish for _, wish in some if wish is not None])
                if hinted:  # who comes next waits a little, and goes together with those who come then
                    await self._clock.sleep(GATHER_SECONDS)
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise
            self._whole_at = float("-inf")
            _log.warning("wishes wait for their cluster controller", zone=self.zone, why=str(fault))

    async def _tell_all(self) -> None:
        after = ""
        while True:
            at = after
            ids = await self._db.read(lambda tx: instances.unsettled(tx, self.zone, at, BATCH))  # noqa: B023
            if not ids:
                return
            await self._converge(ids, [])
            after = ids[-1]

    async def _converge(self, ids: Sequence[str], wishes: list[pb.DesiredInstance]) -> None:
        if ids:
            wishes += await self._db.read(lambda tx: orders.desired(tx, ids))
        bulky = sum(len(each.guest) for each in wishes) > BATCH * 1024
        step = _USER_DATA_BATCH if bulky else BATCH
        for start in range(0, len(wishes), step):
            request = pb.ConvergeInTurnRequest(instances=wishes[start : start + step])
            await self._converger.ask(request, within=CONVERGE_SECONDS)

    async def _guard(self) -> None:
        """Tell a zone that enforces security groups what they are, whenever they are not what it was told."""
        if self._state is None or not self._state.guards:
            return
        wanted = await self._db.read(lambda tx: guards.of_zone(tx, self.zone))
        if wanted != self._guarded:
            await self._stub.Guard(pb.GuardRequest(guards=wanted))
            self._guarded = wanted

    # --- facts --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except* Fault as faults:
                why = "; ".join(str(each) for each in faults.exceptions)
                _log.warning("the watch of a zone ended", zone=self.zone, why=why)
            except* Exception:  # noqa: BLE001 - the stream begins again with everything; logged whole
                _log.exception("the watch of a zone failed", zone=self.zone)
            finally:
                self._state = self._guarded = None
            await self._clock.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
            failures += 1

    async def _follow(self) -> None:
        queue: asyncio.Queue[pb.InstanceFact | _End] = asyncio.Queue()
        if self._taking is not None:  # what the last stream brought counts before another is compared with it
            await asyncio.wait((self._taking,))
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(self._take(queue))
            await self._read(queue)
            taking.cancel()

    async def _read(self, queue: asyncio.Queue[pb.InstanceFact | _End]) -> None:
        epoch, sequence, known = "", 0, set[str]()
        async for message in self._stub.Watch(pb.WatchRequest()):
            if epoch and (message.epoch != epoch or message.sequence != sequence + 1):
                return  # something was missed: ask for everything again
            epoch, sequence = message.epoch, message.sequence
            if message.HasField("zone"):
                self._state = message.zone
            facts = message.facts
            for fact in facts:
                fact.host_id = host_ids.public(self.zone, fact.host_id)
            if message.snapshot:
                known.update(fact.instance_id for fact in facts)
                # After a restart of either side nearly all of it is known: no transaction is made of that.
                facts = await self._sink.news(facts)
            for fact in facts:
                queue.put_nowait(fact)
            if message.snapshot_end:
                queue.put_nowait(_End(known))
                known = set()

    async def _take(self, queue: asyncio.Queue[pb.InstanceFact | _End]) -> None:
        """All facts that have come since the last transaction go into the next one."""
        while True:
            facts: list[pb.InstanceFact] = []
            end: _End | None = None
            item = await queue.get()
            while True:
                if isinstance(item, _End):
                    end = item
                    break
                facts.append(item)
                if queue.empty() or len(facts) >= BATCH:
                    break
                item = queue.get_nowait()
            if facts:
                self._taking = asyncio.ensure_future(self._sink.take(facts))
                self._taking.add_done_callback(_heard)
                if renewed := await asyncio.shield(self._taking):
                    self.hint(renewed)
            if end is not None:
                await self._sink.compare(self.zone, end.known)
                self.tell_all()


def _heard(taking: asyncio.Future[Sequence[str]]) -> None:
    """If nobody waits for it any more, the next stream brings everything again."""
    if not taking.cancelled():
        taking.exception()
