"""CreateImage: an instance's root disk becomes a file of the object store, and that an image.

An instance that runs is shut down first and started again after, unless the caller wants neither: a disk
that its guest has closed is whole, one that is taken while it is written is as after a power cut.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mallee.clc.db import instances
from mallee.clc.sagas.making_images import Announce, Making, Publish, Wish, Workshop, remove
from mallee.clc.sagas.standing_still import Halt, Resume, living
from mallee.domain.guest import GuestImage, ImageFile
from mallee.kernel.saga import Order, Saga, Step
from mallee.rpc import cluster_pb2 as pb

KIND = "create-image"


class Capture(Step[Making]):
    """The node that has the disk writes it into the store."""

    name = "capture"
    retries = 10  # some minutes: a node or controller that is being restarted is no reason to fail

    async def do(self, ctx: Making, /) -> GuestImage:
        wish, row = ctx.wish, await living(ctx)
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


def saga(shop: Workshop) -> Saga[Making]:
    async def context(order: Order) -> Making:
        return Making(order, msgspec.convert(order.input, Wish), shop)

    return Saga(KIND, 1, (Announce(), Halt(), Capture(), Publish(), Resume()), context)
