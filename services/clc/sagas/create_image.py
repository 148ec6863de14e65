"""CreateImage: an instance's root disk becomes a file of the object store, and that an image.

An instance that runs is shut down first and started again after, unless the caller wants neither: a disk
that its guest has closed is whole, one that is taken while it is written is as after a power cut.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mallee.clc import orders, wishes
from mallee.clc.db import instances
from mallee.clc.db.instances import InstanceRow
from mallee.clc.instance import State
from mallee.clc.sagas.making_images import Announce, Making, Publish, Wish, Workshop, remove
from mallee.domain.guest import GuestImage, ImageFile
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Order, Saga, Step
from mallee.rpc import cluster_pb2 as pb

KIND = "create-image"
STOPS_WITHIN = 300.0  # seconds that a guest has to shut down
_LOOK = 1.0  # seconds between two looks whether it has


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


class Capture(Step[Making]):
    """The node that has the disk writes it into the store."""

    name = "capture"
    retries = 10  # some minutes: a node or controller that is being restarted is no reason to fail

    async def do(self, ctx: Making, /) -> GuestImage:
        wish, row = ctx.wish, await _row(ctx)
        await ctx.shop.store().make_bucket(wish.bucket, wish.account_id)
        request = pb.CaptureRootRequest(  # of whichever generation is there: a migration may end meanwhile
            instance_id=row.id,
            capture_id=ctx.order.id,
            bucket=wish.bucket,
            key=wish.key("root"),
            owner=wish.account_id,
        )
        file = await ctx.shop.clusters.at(row.zone).capture(request)
        assert (file.bucket, file.key) == (wish.bucket, wish.key("root")), "captured elsewhere"
        root = ImageFile(
            file.bucket, file.key, file.version_id, file.size, file.etag, file.format, file.virtual_bytes
        )
        booted = instances.decode(row.details).files
        return GuestImage(root, booted.kernel, booted.ramdisk) if booted else GuestImage(root)

    async def undo(self, ctx: Making, done: Any, /) -> None:  # noqa: ARG002 - whatever was written goes
        await remove(ctx, "root")


class Resume(Step[Making]):
    """The guest that was shut down runs again. After the point of no return: tried until there is room."""

    name = "resume"

    async def do(self, ctx: Making, /) -> None:
        await _start_again(ctx)


def saga(shop: Workshop) -> Saga[Making]:
    async def context(order: Order) -> Making:
        return Making(order, msgspec.convert(order.input, Wish), shop)

    return Saga(KIND, 1, (Announce(), Halt(), Capture(), Publish(), Resume()), context)


async def _row(ctx: Making) -> InstanceRow:
    """Raises Fault CONFLICT when the instance is no more, or ends."""
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
    row, shop = await _row(ctx), ctx.shop
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
    details = instances.decode(row.details)
    ask = pb.Ask(
        group_id=row.id,
        min_count=1,
        instance_ids=[row.id],
        resources=orders.resources(details),
        host_id=details.pinned_host,
    )
    outcome = await ctx.shop.clusters.at(row.zone).place(ask)
    if not outcome.placements:
        raise Fault(
            Kind.NO_CAPACITY,
            f"{row.id} cannot be started again.",
            why=outcome.refusal.message or outcome.refusal.code,
            code="no-capacity",
        )
    return outcome.placements[0]
