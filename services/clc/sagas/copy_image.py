"""CopyImage: the files of an image once more, in a bucket of the new owner's; then the image is available."""

from __future__ import annotations

from typing import Any

import msgspec

from mallee.clc.sagas.making_images import Announce, Making, Publish, Wish, Workshop, remove
from mallee.domain.guest import GuestImage
from mallee.kernel.saga import Order, Saga, Step

KIND = "copy-image"
_PARTS = ("root", "kernel", "ramdisk")


class CopyFiles(Step[Making]):
    """The bytes are shared in the object store where they can be, so a copy costs the same whatever its size."""

    name = "copy"
    retries = 10  # some minutes: a store that is being restarted is no reason to fail

    async def do(self, ctx: Making, /) -> GuestImage | None:
        wish, source = ctx.wish, ctx.wish.source
        if source is None:
            return None  # every node has it by its location
        store = ctx.shop.store()
        await store.make_bucket(wish.bucket, wish.account_id)
        made = {}
        for part in _PARTS:
            file = getattr(source, part)
            if file is not None:
                made[part] = await store.copy(file, wish.bucket, wish.key(part), wish.account_id)
        return GuestImage(**made)

    async def undo(self, ctx: Making, done: Any, /) -> None:  # noqa: ARG002 - whatever was made goes
        """The bucket stays: it is the account's, and other images of it may be there."""
        if ctx.wish.source is not None:
            await remove(ctx, *(part for part in _PARTS if getattr(ctx.wish.source, part) is not None))


def saga(shop: Workshop) -> Saga[Making]:
    async def context(order: Order) -> Making:
        return Making(order, msgspec.convert(order.input, Wish), shop)

    return Saga(KIND, 1, (Announce(), CopyFiles(), Publish()), context)
