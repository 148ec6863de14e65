"""An instance stands still while its disk is captured: shut down before, started again after, whatever happens."""

from __future__ import annotations

from typing import Any

from mallee.clc import orders, wishes
from mallee.clc.db import instances
from mallee.clc.db.instances import InstanceRow
from mallee.clc.instance import State
from mallee.clc.sagas.making_images import Making
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Step
from mallee.rpc import cluster_pb2 as pb

STOPS_WITHIN = 300.0  # seconds that a guest has to shut down
_LOOK = 1.0  # between two looks whether it has


class Halt(Step[Making]):
    """The guest shuts down, if it runs and is to."""

    name = "halt"

    async def do(self, ctx: Making, /) -> None:
        if not ctx.wish.restart:
            return
        clock = ctx.shop.clock
        until = clock.monotonic() + STOPS_WITHIN
        while not await _stopped(ctx):
            if clock.monotonic() > until or ctx.order.cancelled.is_set():
                raise Fault(
                    Kind.CONFLICT,
                    f"The instance {ctx.wish.instance_id} did not shut down.",
                    fix="Stop it, with force if need be, and make the image then; or ask for NoReboot.",
                    code="instance-not-stopped",
                )
            await clock.sleep(_LOOK)

    async def undo(self, ctx: Making, done: Any, /) -> None:  # noqa: ARG002 - the instance itself says how it is
        await _start_again(ctx)


class Resume(Step[Making]):
    """The guest that was shut down runs again. After the point of no return: tried until there is room."""

    name = "resume"

    async def do(self, ctx: Making, /) -> None:
        await _start_again(ctx)


async def living(ctx: Making) -> InstanceRow:
    """The instance as it is now. Raises Fault CONFLICT when the instance is no more, or ends."""
    rows = await ctx.shop.db.read(lambda tx: instances.find(tx, [ctx.wish.instance_id]))
    if not rows or rows[0].state in {State.SHUTTING_DOWN, State.TERMINATED}:
        raise Fault(
            Kind.CONFLICT,
            f"The instance {ctx.wish.instance_id} was terminated before its disk was captured.",
            code="instance-terminated",
        )
    return rows[0]


async def _stopped(ctx: Making) -> bool:
    """Whether it has stopped; it is asked to if nobody has yet."""
    row, shop = await living(ctx), ctx.shop
    if row.state in {State.PENDING, State.RUNNING}:
        now_ms = shop.now_ms()

        def work(tx: Tx) -> None:
            (now,) = instances.find(tx, [row.id])
            if now.state in {State.PENDING, State.RUNNING}:
                instances.save_state(tx, [wishes.stop(now, now_ms)])
                tx.on_commit(lambda: shop.clusters.hint({row.id: row.zone}))

        await shop.db.transact(work)
    return row.state == State.STOPPED


async def _start_again(ctx: Making) -> None:
    """Start it if it is stopped now: whoever started or ended it meanwhile knows better."""
    if not ctx.wish.restart:
        return
    shop = ctx.shop
    rows = await shop.db.read(lambda tx: instances.find(tx, [ctx.wish.instance_id]))
    if not rows or rows[0].state in {State.SHUTTING_DOWN, State.TERMINATED}:
        return
    row = rows[0]
    if row.state == State.STOPPING:
        raise Fault(Kind.UNAVAILABLE, f"{row.id} is still on its way down.", code="instance-stopping")
    if row.state != State.STOPPED:
        return
    placement, now_ms = await _claim(ctx, row), shop.now_ms()

    def work(tx: Tx) -> bool:
        now = next(iter(instances.find(tx, [row.id])), None)
        if now is not None and now.state == State.STOPPED:
            now = wishes.start(now, now_ms, placement.host_id, placement.generation)
            instances.save_state(tx, [now])
            tx.on_commit(lambda: shop.clusters.hint({row.id: row.zone}))
        # Two starts at the same time share one claim, and neither may give it back under the other.
        return now is not None and now.generation == placement.generation

    if not await shop.db.transact(work):
        await shop.clusters.at(row.zone).release([row.id])


async def _claim(ctx: Making, row: InstanceRow) -> pb.Placement:
    """Room for it, as StartInstances finds it. Raises Fault NO_CAPACITY."""
    ask = orders.room_for(row, instances.decode(row.details))
    outcome = await ctx.shop.clusters.at(row.zone).place(ask)
    if not outcome.placements:
        raise Fault(
            Kind.NO_CAPACITY,
            f"{row.id} cannot be started again.",
            why=outcome.refusal.message or outcome.refusal.code,
            code="no-capacity",
        )
    return outcome.placements[0]
