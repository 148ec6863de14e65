"""Machine images as records: whose they are, who may launch them, what they run on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    String,
    Table,
    bindparam,
    delete,
    insert,
    or_,
    select,
)

from mallee.clc.db.metadata import metadata
from mallee.clc.errors import InvalidAMIIDMalformed, InvalidAMIIDNotFound
from mallee.clc.resource_ids import is_id
from mallee.kernel.db import Prepared, Tx

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
    Index("ix_images_owner", "account_id", "id"),
    Index("ux_images_name", "account_id", "name", unique=True),
    Index("ix_images_public", "public", "id"),
)


class Image(NamedTuple):
    """An image; texts that were not given are empty."""

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


_VISIBLE = or_(images.c.account_id == bindparam("account"), images.c.public)
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
_DROP = Prepared(delete(images).where(images.c.account_id == bindparam("account")))
_BY_NAME = Prepared(
    select(images.c.id).where(images.c.account_id == bindparam("account"), images.c.name == bindparam("name"))
)
_DELETE = Prepared(
    delete(images).where(images.c.id == bindparam("b_id"), images.c.account_id == bindparam("account"))
)


def check_id(image_id: str) -> None:
    """Raises InvalidAMIIDMalformed for what cannot be an image's id."""
    if not is_id("ami", image_id):
        raise InvalidAMIIDMalformed(image_id)


def get(tx: Tx, account: str, image_id: str) -> Image:
    """An image that the account owns or may launch.

    Raises:
        InvalidAMIIDMalformed, InvalidAMIIDNotFound
    """
    check_id(image_id)
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


def remove(tx: Tx, account: str, image_id: str) -> bool:
    """Forget an image of the account's own; whether there was one."""
    return tx.execute(_DELETE, {"b_id": image_id, "account": account}).rowcount > 0


def drop_account(tx: Tx, account: str) -> None:
    """Forget the images of an account that is no more; what runs goes on."""
    tx.execute(_DROP, {"account": account})
