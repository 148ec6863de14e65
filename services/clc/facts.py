"""Facts from the zones close what wishes opened.

A batch of facts is one transaction: states, causes, and in the same transaction the release of
what an ended instance held. A fact that answers an older wish is only news about where the guest is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from mallee.clc import wishes
from mallee.clc.db import instances, interfaces
from mallee.clc.db.instances import Glance, InstanceRow
from mallee.clc.instance import GUEST_SHUTDOWN, Operation, Reason, State
from mallee.domain.guest import Power
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2

_log = structlog.get_logger()
_PAGE = 1000

_SHUT_DOWN = {"", "guest-shut-down"}  # the causes of a guest that powered itself off
_CAUSES = {"no-capacity": "Server.InsufficientInstanceCapacity"}


def absorb(row: InstanceRow, fact: pb.InstanceFact, now_ms: int) -> InstanceRow:
    """The row as this fact leaves it; the same row if it says nothing new."""
    if fact.revision > row.revision:
        # Only a database that was put back to an earlier day knows less than its cluster.
        return row._replace(revision=fact.revision + 1, unsettled=True)
    seen = _seen(row, fact)
    if fact.revision < row.revision:
        return seen
    return _CLOSE[Power(row.power)](seen, fact, now_ms)


def _seen(row: InstanceRow, fact: pb.InstanceFact) -> InstanceRow:
    """Where the guest is and whether its node can be reached; news of an older placement is none."""
    if fact.generation < row.generation:
        return row
    news = (
        fact.host_id or row.host_id,
        fact.generation,
        fact.reachable,
        max(fact.reboots, row.reboots_done),
        fact.migration_id,
    )
    if news == (row.host_id, row.generation, row.reachable, row.reboots_done, row.migration_id):
        return row
    host_id, generation, reachable, reboots_done, migration_id = news
    return row._replace(
        host_id=host_id,
        generation=generation,
        reachable=reachable,
        reboots_done=reboots_done,
        migration_id=migration_id,
        version=row.version + 1,
    )


def _close_running(row: InstanceRow, fact: pb.InstanceFact, now_ms: int) -> InstanceRow:
    match fact.phase:
        case common_pb2.PHASE_RUNNING:
            row = wishes.enter(row, State.RUNNING, now_ms)
            open_still = _still_open(row, fact)
            if Operation.DESCRIBE in {row.operation, open_still} and row.operation != open_still:
                row = row._replace(version=row.version + 1)  # it is shown whether options are applied
            return row._replace(unsettled=open_still is not Operation.NONE, operation=open_still.value)
        case common_pb2.PHASE_FAILED:
            return _failed(row, _reason(fact), now_ms)
        # While a start is under way the old phase is still reported; only a cause tells an end from that.
        case common_pb2.PHASE_STOPPED if row.state == State.RUNNING or fact.cause.code:
            return _ended_by_itself(row, fact, now_ms)
        case common_pb2.PHASE_TERMINATED if row.state == State.RUNNING:
            return wishes.terminate(row, now_ms, _reason(fact))
    return row


def _still_open(row: InstanceRow, fact: pb.InstanceFact) -> Operation:
    """What a guest that runs has not done yet."""
    if row.reboots_done < row.reboots:
        return Operation.REBOOT
    if row.unsettled and fact.description < instances.decode(row.details).description:
        return Operation.DESCRIBE
    return Operation.NONE


def _failed(row: InstanceRow, reason: Reason, now_ms: int) -> InstanceRow:
    """The guest could not be made to run, or broke; the cluster is told to clear what is left of it."""
    if row.state == State.RUNNING:
        return wishes.stop(row, now_ms, force=True, reason=reason)
    launching = row.operation == Operation.LAUNCH
    state, power = (State.TERMINATED, Power.TERMINATED) if launching else (State.STOPPED, Power.STOPPED)
    return wishes.because(
        wishes.wish(wishes.enter(row, state, now_ms), power, Operation.NONE), reason, now_ms
    )


def _ended_by_itself(row: InstanceRow, fact: pb.InstanceFact, now_ms: int) -> InstanceRow:
    # A guest that broke, or whose host took it away, has not asked to be ended for good.
    if fact.cause.code not in _SHUT_DOWN:
        return wishes.stop(row, now_ms, reason=_reason(fact))
    if instances.decode(row.details).shutdown_behavior == "terminate":
        return wishes.terminate(row, now_ms, GUEST_SHUTDOWN)
    return wishes.stop(row, now_ms, reason=GUEST_SHUTDOWN)


def _close_stopped(row: InstanceRow, fact: pb.InstanceFact, now_ms: int) -> InstanceRow:
    if fact.phase in {common_pb2.PHASE_STOPPED, common_pb2.PHASE_TERMINATED, common_pb2.PHASE_FAILED}:
        row = wishes.enter(row, State.STOPPED, now_ms)
        return row._replace(unsettled=False, operation=Operation.NONE.value, force=False)
    return row


def _close_terminated(row: InstanceRow, fact: pb.InstanceFact, now_ms: int) -> InstanceRow:
    if fact.phase == common_pb2.PHASE_TERMINATED:
        row = wishes.enter(row, State.TERMINATED, now_ms)
        return row._replace(unsettled=False, operation=Operation.NONE.value)
    return row


_CLOSE: dict[Power, Callable[[InstanceRow, pb.InstanceFact, int], InstanceRow]] = {
    Power.RUNNING: _close_running,
    Power.STOPPED: _close_stopped,
    Power.TERMINATED: _close_terminated,
}


_AT_REST = frozenset(
    {
        (Power.RUNNING, State.RUNNING, common_pb2.PHASE_RUNNING),
        (Power.STOPPED, State.STOPPED, common_pb2.PHASE_STOPPED),
        (Power.TERMINATED, State.TERMINATED, common_pb2.PHASE_TERMINATED),
    }
)


def _reason(fact: pb.InstanceFact) -> Reason:
    """EC2's words for a cause."""
    code = _CAUSES.get(fact.cause.code, fact.cause.code)
    if not code.startswith(("Server.", "Client.")):
        code = "Server.InternalError"
    return Reason(code, f"{code}: {fact.cause.message or 'Internal error on launch'}")


class Facts:
    """Takes facts into the database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def take(self, facts: Sequence[pb.InstanceFact]) -> Sequence[str]:
        """Make the facts true; which instances have new wishes by that."""
        newest = {fact.instance_id: fact for fact in facts}
        now_ms = int(self._clock.now().timestamp() * 1000)
        return await self._db.transact(lambda tx: apply(tx, newest, now_ms))

    async def news(self, facts: Sequence[pb.InstanceFact]) -> Sequence[pb.InstanceFact]:
        """The facts that say anything new."""
        ids = [fact.instance_id for fact in facts]
        known = {row.id: row for row in await self._db.read(lambda tx: instances.glance(tx, ids))}
        return [fact for fact in facts if not _is_known(known.get(fact.instance_id), fact)]

    async def compare(self, zone: str, known: set[str]) -> None:
        """What should live in the zone and is unknown there is wished for again."""
        lost: list[str] = []
        after = ""
        while ids := await self._db.read(partial(instances.living, zone=zone, after=after, limit=_PAGE)):
            lost += [each for each in ids if each not in known]
            after = ids[-1]
        if lost:
            _log.warning("instances are unknown in their zone", zone=zone, count=len(lost))
            await self._db.transact(lambda tx: instances.unsettle(tx, lost))


def apply(tx: Tx, facts: dict[str, pb.InstanceFact], now_ms: int) -> list[str]:
    """One batch in one transaction; the answer is as of `Facts.take`."""
    changed: list[InstanceRow] = []
    renewed: list[str] = []
    over: list[str] = []
    moved = False
    for row in instances.find(tx, list(facts)):
        after = absorb(row, facts[row.id], now_ms)
        if after is row or after == row:
            continue
        changed.append(after)
        moved = moved or after.host_id != row.host_id
        if after.revision != row.revision:
            renewed.append(row.id)
        if after.is_over and not row.is_over:
            over.append(row.id)
    instances.save_state(tx, changed, moved=moved)
    if over:
        interfaces.release(tx, over)
        instances.bare(tx, over)
    return renewed


def _is_known(row: Glance | None, fact: pb.InstanceFact) -> bool:
    """Whether the fact confirms a settled row, so that `absorb` would leave it as it is."""
    return (
        row is not None
        and not row.unsettled
        and fact.revision == row.revision
        and fact.generation == row.generation
        and fact.host_id in {"", row.host_id}
        and fact.reachable == row.reachable
        and fact.reboots <= row.reboots_done
        and fact.migration_id == row.migration_id
        and (row.power, row.state, fact.phase) in _AT_REST
    )
