"""Contents: the bytes of objects, shared by their copies and counted.

A small content is kept in its row, a larger one in a blob of the same name outside the database.
The content of an object that was uploaded in parts is a list of the parts' contents, which then
belong to it. Names begin with the time in milliseconds, so new rows lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db import garbage
from mallee.walrus.db.metadata import metadata

contents = Table(
    "contents",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("refs", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),  # as the client sent it
    Column("stored", BigInteger, nullable=False),  # as it lies there
    Column("crcs", LargeBinary, nullable=False),  # CRC-32C of each MiB of what lies there, 4 bytes each
    Column("crypt", LargeBinary, nullable=False),  # how to decrypt it; empty for plain
    Column("manifest", LargeBinary),  # the parts' contents
    Column("inline", LargeBinary),
)


class ContentRow(NamedTuple):
    """A content; `inline` and `manifest` are None where the bytes are in a blob."""

    id: bytes
    refs: int
    size: int
    stored: int
    crcs: bytes
    crypt: bytes
    manifest: bytes | None
    inline: bytes | None


_GET = Prepared(select(contents).where(contents.c.id == bindparam("of")))
_ADD = Prepared(insert(contents))
_TAKE = Prepared(update(contents).where(contents.c.id == bindparam("of")).values(refs=contents.c.refs + 1))
_DROP = Prepared(update(contents).where(contents.c.id == bindparam("of")).values(refs=contents.c.refs - 1))
_DROP_INLINE = Prepared(
    delete(contents).where(
        contents.c.id == bindparam("of"), contents.c.refs == 1, contents.c.inline.is_not(None)
    )
)
_DELETE = Prepared(delete(contents).where(contents.c.id == bindparam("of")))
_UNUSED = Prepared(select(contents.c.id).where(contents.c.id == bindparam("of"), contents.c.refs == 0))
_PRESENT = Prepared(select(contents.c.id).where(contents.c.id.in_(bindparam("ids", expanding=True))))
_PAGE = Prepared(
    select(contents)
    .where(contents.c.id > bindparam("after"), contents.c.manifest.is_(None))
    .order_by(contents.c.id)
    .limit(bindparam("size"))
)


def find(tx: Tx, content: bytes) -> ContentRow | None:
    row = tx.execute(_GET, {"of": content}).first()
    return ContentRow(*row) if row else None


def add(tx: Tx, row: ContentRow) -> None:
    tx.execute(_ADD, row)


def share(tx: Tx, row: ContentRow) -> bool:
    """One more object has these bytes, even if they became garbage since `row` was read; False if they are gone."""
    if tx.execute(_TAKE, {"of": row.id}).rowcount:
        garbage.rescue(tx, row.id)
        return True
    if row.inline is None:
        return False
    add(tx, row._replace(refs=1))
    return True


def release(tx: Tx, content: bytes, now_ms: int) -> None:
    """One object fewer has these bytes; after the last they are garbage.

    A small content goes at once: who reads it has found it with its bytes.
    """
    of = {"of": content}
    if tx.execute(_DROP_INLINE, of).rowcount:
        return
    tx.execute(_DROP, of)
    if tx.execute(_UNUSED, of).first() is not None:
        garbage.add(tx, content, now_ms)


def remove(tx: Tx, ids: Sequence[bytes]) -> None:
    tx.execute(_DELETE, [{"of": content} for content in ids])


def present(tx: Tx, ids: Sequence[bytes]) -> set[bytes]:
    """Which of them there are."""
    return {bytes(row[0]) for row in tx.execute(_PRESENT, {"ids": list(ids)})} if ids else set()


def page(tx: Tx, after: bytes, size: int) -> list[ContentRow]:
    """Those that have bytes of their own, by name, from behind `after`."""
    return [ContentRow(*row) for row in tx.execute(_PAGE, {"after": after, "size": size})]
