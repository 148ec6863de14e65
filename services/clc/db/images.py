"""Images: whose they are, who may launch them, what they run on, which files of the object store they are.

A machine image (`ami-`) is a disk; a kernel (`aki-`) and a ramdisk (`ari-`) are what some disks need to
boot. What nobody searches for by an index is one JSON document.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)

from mallee.clc.db import settings
from mallee.clc.db.metadata import metadata
from mallee.clc.errors import InvalidAMIIDMalformed, InvalidAMIIDNotFound
from mallee.clc.resource_ids import is_id
from mallee.domain.guest import GuestImage
from mallee.kernel.db import Prepared, Tx

KERNEL, RAMDISK, MACHINE = "aki", "ari", "ami"
AVAILABLE, PENDING, FAILED, DISABLED = "available", "pending", "failed", "disabled"

images = Table(
    "images",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("owner_alias", String(32), nullable=False),  # `amazon` for the cloud's own; else empty
    Column("name", String(128), nullable=False),
    Column("description", String(255), nullable=False),
    Column("location", String(1024), nullable=False),
    Column("architecture", String(16), nullable=False),
    Column("virtualization_type", String(16), nullable=False),
    Column("root_device_name", String(64), nullable=False),
    Column("imds_support", String(8), nullable=False),
    Column("ena_support", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("public", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("details", LargeBinary, nullable=True),  # JSON of `ImageDetails`; null: nothing to say
    Index("ix_images_owner", "account_id", "id"),
    Index("ux_images_name", "account_id", "name", unique=True),
    Index("ix_images_public", "public", "id"),
)


permissions = Table(
    "image_permissions",
    metadata,
    Column("image_id", String(32), primary_key=True),
    Column("account_id", String(12), primary_key=True),  # who may launch it beside its owner
    Index("ix_image_permissions_account", "account_id", "image_id"),
)


class ImageDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """What no index needs.

    Attributes:
        files: what a guest boots from, pinned; None for an image that every node has by its location.
        kernel_id, ramdisk_id: the images whose files those are.
        root_gib: of a guest's root disk; 0 for as large as the image.
        reason_code, reason_message: why it failed.
        deprecated_ms: since or from when it should not be used; 0 for never.
        protection: `disabled`, `enabled-without-cooldown`, `enabled-with-cooldown`.
        protected_until_ms: a day after a protection with cooldown was lifted.
        source_image_id, source_instance_id: what it was made from.
    """

    files: GuestImage | None = None
    kernel_id: str = ""
    ramdisk_id: str = ""
    root_gib: int = 0
    reason_code: str = ""
    reason_message: str = ""
    deprecated_ms: int = 0
    protection: str = "disabled"
    protected_until_ms: int = 0
    source_image_id: str = ""
    source_instance_id: str = ""


class Image(NamedTuple):
    """An image; texts that were not given are empty. `details` is JSON of `ImageDetails`."""

    id: str
    account_id: str
    owner_alias: str
    name: str
    description: str
    location: str
    architecture: str = "x86_64"
    virtualization_type: str = "hvm"
    root_device_name: str = "/dev/sda1"
    imds_support: str = ""
    ena_support: bool = False
    state: str = "available"
    public: bool = False
    created_ms: int = 0
    details: bytes | None = None

    @property
    def kind(self) -> str:
        """`ami`, `aki` or `ari`."""
        return self.id.partition("-")[0]

    @property
    def more(self) -> ImageDetails:
        """The document."""
        return _decode(self.details) if self.details else _NO_DETAILS

    def with_more(self, **changes: object) -> Image:
        """The image with a changed document."""
        return self._replace(details=encode(msgspec.structs.replace(self.more, **changes)))


_NO_DETAILS = ImageDetails()
_decode = msgspec.json.Decoder(ImageDetails).decode
encode = msgspec.json.Encoder().encode

_shared = exists().where(
    permissions.c.image_id == images.c.id, permissions.c.account_id == bindparam("account")
)
_VISIBLE = or_(images.c.account_id == bindparam("account"), images.c.public, _shared)
_GET = Prepared(select(images).where(images.c.id == bindparam("id"), _VISIBLE))
_BY_IDS = Prepared(
    select(images).where(images.c.id.in_(bindparam("ids", expanding=True)), _VISIBLE).order_by(images.c.id)
)
_PAGE = Prepared(
    select(images)
    .where(images.c.id > bindparam("after"), _VISIBLE)
    .order_by(images.c.id)
    .limit(bindparam("size"))
)
_OWNED = Prepared(
    select(images)
    .where(images.c.account_id == bindparam("account"), images.c.id > bindparam("after"))
    .order_by(images.c.id)
    .limit(bindparam("size"))
)
_SAVE = Prepared(
    update(images)
    .where(images.c.id == bindparam("b_id"))
    .values(
        {name: bindparam(f"to_{name}") for name in ("description", "state", "public", "details", "location")}
    )
)
_PERMITTED = Prepared(
    select(permissions.c.account_id)
    .where(permissions.c.image_id == bindparam("image_id"))
    .order_by(permissions.c.account_id)
)
_SHARED_WITH = Prepared(
    select(permissions.c.image_id).where(permissions.c.account_id.in_(bindparam("accounts", expanding=True)))
)
_PERMIT = Prepared(insert(permissions))
_FORBID = Prepared(
    delete(permissions).where(
        permissions.c.image_id == bindparam("b_image"),
        permissions.c.account_id.in_(bindparam("accounts", expanding=True)),
    )
)
_FORBID_ALL = Prepared(delete(permissions).where(permissions.c.image_id == bindparam("b_image")))
_FORBID_ACCOUNT = Prepared(delete(permissions).where(permissions.c.account_id == bindparam("account")))
_FORBID_OWNED = Prepared(
    delete(permissions).where(
        permissions.c.image_id.in_(select(images.c.id).where(images.c.account_id == bindparam("account")))
    )
)
_ANY = Prepared(select(images).where(images.c.id == bindparam("id")))
_DROP = Prepared(delete(images).where(images.c.account_id == bindparam("account")))
_BY_NAME = Prepared(
    select(images.c.id).where(images.c.account_id == bindparam("account"), images.c.name == bindparam("name"))
)
_DELETE = Prepared(
    delete(images).where(images.c.id == bindparam("b_id"), images.c.account_id == bindparam("account"))
)


def check_id(image_id: str, *kinds: str) -> None:
    """Raises InvalidAMIIDMalformed for what cannot be the id of an image, of one of these kinds if any are named."""
    if not any(is_id(kind, image_id) for kind in kinds or (MACHINE, KERNEL, RAMDISK)):
        raise InvalidAMIIDMalformed(image_id)


def get(tx: Tx, account: str, image_id: str, *kinds: str) -> Image:
    """An image that the account owns or may launch, of one of these kinds if any are named.

    Raises:
        InvalidAMIIDMalformed, InvalidAMIIDNotFound
    """
    check_id(image_id, *kinds)
    row = tx.execute(_GET, {"id": image_id, "account": account}).first()
    if row is None:
        raise InvalidAMIIDNotFound(image_id)
    return Image(*row)


def by_ids(tx: Tx, account: str, ids: Collection[str]) -> list[Image]:
    """Those of `ids` that the account may see, ordered by id."""
    return [Image(*row) for row in tx.execute(_BY_IDS, {"ids": list(ids), "account": account})]


def page(tx: Tx, account: str, after: str = "", size: int = 1000) -> Sequence[Image]:
    """What the account may see, by id, from behind `after`."""
    rows = tx.execute(_PAGE, {"account": account, "after": after, "size": size})
    return [Image(*row) for row in rows]


def owned(tx: Tx, account: str, after: str = "", size: int = 1000) -> list[Image]:
    """The account's own images, by id, from behind `after`."""
    rows = tx.execute(_OWNED, {"account": account, "after": after, "size": size})
    return [Image(*row) for row in rows]


def named(tx: Tx, account: str, name: str) -> str | None:
    """The id of the account's image of that name."""
    found: str | None = tx.execute(_BY_NAME, {"account": account, "name": name}).scalar()
    return found


def add(tx: Tx, image: Image) -> None:
    """Keep a new image; its name is one of its kind in the account."""
    tx.execute(insert(images), image._asdict())


def anybodys(tx: Tx, image_id: str) -> Image | None:
    """An image, whoever's it is: for the cloud's own work on it."""
    row = tx.execute(_ANY, {"id": image_id}).first()
    return None if row is None else Image(*row)


def save(tx: Tx, image: Image) -> None:
    """Write back what of an image may change."""
    changed = {
        f"to_{name}": getattr(image, name)
        for name in ("description", "state", "public", "details", "location")
    }
    tx.execute(_SAVE, {"b_id": image.id, **changed})
    settings.count_one(tx, settings.GROUND)


def remove(tx: Tx, account: str, image_id: str) -> bool:
    """Forget an image of the account's own, and who might launch it; whether there was one."""
    removed = tx.execute(_DELETE, {"b_id": image_id, "account": account}).rowcount > 0
    if removed:
        forbid_all(tx, image_id)  # which counts it, too
    return removed


def drop_account(tx: Tx, account: str) -> None:
    """Forget the images of an account that is no more, and what it might launch; what runs goes on."""
    tx.execute(_FORBID_OWNED, {"account": account})
    tx.execute(_FORBID_ACCOUNT, {"account": account})
    tx.execute(_DROP, {"account": account})
    settings.count_one(tx, settings.GROUND)


# --- who may launch ---------------------------------------------------------------------------


def permitted(tx: Tx, image_id: str) -> list[str]:
    """The accounts that may launch an image beside its owner, in order."""
    return list(tx.execute(_PERMITTED, {"image_id": image_id}).scalars())


def shared_with(tx: Tx, accounts: Collection[str]) -> set[str]:
    """The images that any of these accounts may launch because somebody named it."""
    return set(tx.execute(_SHARED_WITH, {"accounts": list(accounts)}).scalars()) if accounts else set()


def permit(tx: Tx, image_id: str, accounts: Collection[str]) -> None:
    """Let these accounts launch it; those that may already go on."""
    new = set(accounts) - set(permitted(tx, image_id))
    if new:
        tx.execute(_PERMIT, [{"image_id": image_id, "account_id": each} for each in sorted(new)])


def forbid(tx: Tx, image_id: str, accounts: Collection[str]) -> None:
    """Take that from these accounts."""
    if accounts:
        tx.execute(_FORBID, {"b_image": image_id, "accounts": list(accounts)})
        settings.count_one(tx, settings.GROUND)


def forbid_all(tx: Tx, image_id: str) -> None:
    """Nobody but the owner."""
    tx.execute(_FORBID_ALL, {"b_image": image_id})
    settings.count_one(tx, settings.GROUND)
