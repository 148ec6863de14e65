"""What the sagas that make images share: their context, the record that they begin and end with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from mallee.clc.clusters import Clusters
from mallee.clc.db import images, sagas
from mallee.clc.db.images import AVAILABLE, FAILED, PENDING, Image
from mallee.clc.s3.objects import ObjectStore
from mallee.domain.disk_image import IMAGES_OF
from mallee.domain.guest import GuestImage
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import Order, Step

_FAULTS_OF_OURS = {Kind.INTERNAL, Kind.UNAVAILABLE, Kind.NO_CAPACITY}


class Wish(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a saga is told.

    Attributes:
        image_id: of the image to be, whose record is `pending`.
        account_id: its owner.
        source: the files to copy; None where there is none, or where an instance is captured.
        instance_id: to capture.
        restart: whether the instance runs and is to be shut down for the capture.
    """

    image_id: str
    account_id: str
    source: GuestImage | None = None
    instance_id: str = ""
    restart: bool = False

    @property
    def bucket(self) -> str:
        """Where the files go: a bucket of the owner's, who may do with them as with all that is theirs."""
        return f"{IMAGES_OF}{self.account_id}"

    def key(self, part: str) -> str:
        """Of one file: `root`, `kernel` or `ramdisk`."""
        return f"{self.image_id}/{part}"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What steps work with, whatever they make."""

    db: Database
    clusters: Clusters
    clock: Clock
    objects: ObjectStore | None

    def store(self) -> ObjectStore:
        """Raises Fault INVALID in a cloud without one."""
        if self.objects is None:
            raise Fault(Kind.INVALID, "This cloud has no object store.", code="no-object-store")
        return self.objects

    def now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Making:
    """One image that is being made."""

    order: Order
    wish: Wish
    shop: Workshop

    @property
    def files(self) -> GuestImage | None:
        """What the steps have made so far."""
        for name in ("copy", "capture"):
            if self.order.done.get(name) is not None:
                return msgspec.convert(self.order.done[name], GuestImage)
        return None


class Announce(Step[Making]):
    """The record stands already, in the transaction of the request; its end as a failure is this step's undo."""

    name = "announce"

    async def do(self, ctx: Making, /) -> None:
        """Nothing more."""

    async def undo(self, ctx: Making, done: Any, /) -> None:  # noqa: ARG002 - the contract's shape
        """Say that it failed, and why; a record that was taken away meanwhile stays away."""

        def work(tx: Tx) -> None:
            image = images.anybodys(tx, ctx.wish.image_id)
            if image is not None and image.state == PENDING:
                images.save(tx, _failed(image, sagas.error_of(tx, ctx.order.id)))

        await ctx.shop.db.transact(work)


class Publish(Step[Making]):
    """The image becomes available with its files. Final: from here it may be launched."""

    name = "publish"
    final = True

    async def do(self, ctx: Making, /) -> None:
        files = ctx.files

        def work(tx: Tx) -> None:
            image = images.anybodys(tx, ctx.wish.image_id)
            if image is None:
                raise Fault(
                    Kind.CONFLICT,
                    f"The image {ctx.wish.image_id} was deregistered while it was made.",
                    code="image-deregistered",
                )
            if image.state == PENDING:
                images.save(tx, image.with_more(files=files)._replace(state=AVAILABLE))

        await ctx.shop.db.transact(work)


async def remove(ctx: Making, *parts: str) -> None:
    """Take files back; those that are not there are fine."""
    store = ctx.shop.store()
    for part in parts:
        await store.delete(ctx.wish.bucket, ctx.wish.key(part))


def _failed(image: Image, error: dict[str, Any]) -> Image:
    """The record of a failure, with EC2's StateReason. What is our own bug is not told to users."""
    kind = Kind(error.get("kind", Kind.INTERNAL))
    side = "Server" if kind in _FAULTS_OF_OURS else "Client"
    code = "InternalError" if kind is Kind.INTERNAL else _camel(error.get("code", ""))
    parts = [] if kind is Kind.INTERNAL else [error.get(name, "") for name in ("what", "why", "fix")]
    message = " ".join(part for part in parts if part) or "An internal error."
    said = f"{side}.{code}"
    return image.with_more(reason_code=said, reason_message=f"{said}: {message}"[:512])._replace(state=FAILED)


def _camel(code: str) -> str:
    """`disk-full` as AWS writes codes, `DiskFull`; one that is so already stays."""
    return "".join(part[:1].upper() + part[1:] for part in code.split("-"))
