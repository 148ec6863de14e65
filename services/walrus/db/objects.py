"""Objects: what is visible under each key in one table, everything older in another.

`objects` has a row for each key that GET finds, so a listing reads nothing that it does not show.
`versions` has what versioning keeps beside it: older versions and delete markers. A key's row in
`objects` is newer than all its rows in `versions`; without one, the newest of those is a marker.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    text,
    update,
)

from mallee.kernel.db import Prepared, Tx
from mallee.walrus.db.buckets import BucketRow, buckets
from mallee.walrus.db.contents import ContentRow, contents
from mallee.walrus.db.metadata import metadata


class ObjectRow(NamedTuple):
    """A version as it is kept.

    Args:
        rank: orders the versions of a key; the newest has the lowest.
        checksum: algorithm and type, for listings.
        content: name of the bytes; empty for a delete marker.
        details: what only HEAD and GET ask for.
        lock_until_ms: end of retention, 0 for none.
    """

    bucket: int
    key: bytes
    rank: int
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner: str
    storage_class: str
    checksum: str
    content: bytes
    details: bytes
    acl: bytes
    tags: bytes
    lock_mode: str
    lock_until_ms: int
    legal_hold: bool


def _columns(*, rank_in_key: bool) -> list[Column[Any]]:
    return [
        Column("bucket", Integer, primary_key=True, autoincrement=False),
        Column("key", LargeBinary, primary_key=True),
        Column("rank", BigInteger, primary_key=rank_in_key, autoincrement=False, nullable=False),
        Column("version_id", String(32), nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("etag", String(80), nullable=False),
        Column("modified_ms", BigInteger, nullable=False),
        Column("owner", String(64), nullable=False),
        Column("storage_class", String(32), nullable=False),
        Column("checksum", String(64), nullable=False),
        Column("content", LargeBinary, nullable=False),
        Column("details", LargeBinary, nullable=False),
        Column("acl", LargeBinary, nullable=False),
        Column("tags", LargeBinary, nullable=False),
        Column("lock_mode", String(10), nullable=False),
        Column("lock_until_ms", BigInteger, nullable=False),
        Column("legal_hold", Boolean, nullable=False),
    ]


objects = Table("objects", metadata, *_columns(rank_in_key=False), sqlite_with_rowid=False)
versions = Table(
    "versions",
    metadata,
    *_columns(rank_in_key=True),
    Index("ux_versions_id", "bucket", "key", "version_id", unique=True),
    sqlite_with_rowid=False,
)

_NAMES = ObjectRow._fields
_AT = (objects.c.bucket == bindparam("at"), objects.c.key == bindparam("of"))
_AT_VERSIONS = (versions.c.bucket == bindparam("at"), versions.c.key == bindparam("of"))
_VERSION = (*_AT_VERSIONS, versions.c.version_id == bindparam("id"))

_CURRENT = Prepared(select(objects).where(*_AT))
_FOUND = Prepared(
    select(objects, *[column.label(f"c_{column.name}") for column in contents.c])
    .join(contents, contents.c.id == objects.c.content)
    .where(*_AT)
)
_AT_HOME = Prepared(
    select(buckets, *[column.label(f"o_{column.name}") for column in objects.c])
    .outerjoin(objects, and_(objects.c.bucket == buckets.c.number, objects.c.key == bindparam("of")))
    .where(buckets.c.name == bindparam("name"))
)
_NEWEST = Prepared(select(versions).where(*_AT_VERSIONS).order_by(versions.c.rank).limit(1))
_BY_ID = Prepared(select(versions).where(*_VERSION))
_UPSERT = Prepared(
    text(
        f"INSERT INTO objects ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)}) "  # noqa: S608 - names of our own columns
        f"ON CONFLICT (bucket, key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[2:])}"
    )
)
_ADD = Prepared(insert(versions))
_RETIRE = Prepared(insert(versions).from_select(list(_NAMES), select(objects).where(*_AT)))
_PROMOTE = Prepared(insert(objects).from_select(list(_NAMES), select(versions).where(*_VERSION)))
_DELETE = Prepared(delete(objects).where(*_AT))
_DELETE_VERSION = Prepared(delete(versions).where(*_VERSION))
_ANY = Prepared(select(literal_column("1")).select_from(objects).where(_AT[0]).limit(1))
_ANY_VERSION = Prepared(select(literal_column("1")).select_from(versions).where(_AT_VERSIONS[0]).limit(1))
_OWN = {
    name: (
        Prepared(
            update(objects)
            .where(*_AT, objects.c.version_id == bindparam("id"))
            .values(**{name: bindparam("value")})
        ),
        Prepared(update(versions).where(*_VERSION).values(**{name: bindparam("value")})),
    )
    for name in ("acl", "tags")
}
_LOCK_VALUES: dict[str, Any] = {
    name: bindparam(f"b_{name}") for name in ("lock_mode", "lock_until_ms", "legal_hold")
}
_LOCK = (
    Prepared(update(objects).where(*_AT, objects.c.version_id == bindparam("id")).values(_LOCK_VALUES)),
    Prepared(update(versions).where(*_VERSION).values(_LOCK_VALUES)),
)


def current(tx: Tx, bucket: int, key: bytes) -> ObjectRow | None:
    """What GET finds."""
    row = tx.execute(_CURRENT, {"at": bucket, "of": key}).first()
    return ObjectRow(*row) if row else None


def at_home(tx: Tx, bucket: str, key: bytes) -> tuple[BucketRow, ObjectRow | None] | None:
    """A bucket by its name, and in it what `current` finds; None without such a bucket."""
    row = tx.execute(_AT_HOME, {"name": bucket, "of": key}).first()
    if row is None:
        return None
    there = row[len(BucketRow._fields) :]
    return BucketRow(*row[: len(BucketRow._fields)]), ObjectRow(*there) if there[0] is not None else None


def found(tx: Tx, bucket: int, key: bytes) -> tuple[ObjectRow, ContentRow] | None:
    """As `current`, and where its bytes are: all that a GET needs."""
    row = tx.execute(_FOUND, {"at": bucket, "of": key}).first()
    return (ObjectRow(*row[: len(_NAMES)]), ContentRow(*row[len(_NAMES) :])) if row else None


def newest_kept(tx: Tx, bucket: int, key: bytes) -> ObjectRow | None:
    """The newest of `versions`."""
    row = tx.execute(_NEWEST, {"at": bucket, "of": key}).first()
    return ObjectRow(*row) if row else None


def kept(tx: Tx, bucket: int, key: bytes, version_id: str) -> ObjectRow | None:
    """One of `versions`."""
    row = tx.execute(_BY_ID, {"at": bucket, "of": key, "id": version_id}).first()
    return ObjectRow(*row) if row else None


def put(tx: Tx, row: ObjectRow) -> None:
    """Be the key's visible version, in place of the one that was."""
    tx.execute(_UPSERT, row)


def add_kept(tx: Tx, row: ObjectRow) -> None:
    tx.execute(_ADD, row)


def retire(tx: Tx, bucket: int, key: bytes) -> None:
    """Keep the visible version as an older one."""
    at = {"at": bucket, "of": key}
    tx.execute(_RETIRE, at)
    tx.execute(_DELETE, at)


def promote(tx: Tx, row: ObjectRow) -> None:
    """Make one of `versions` the visible one; there is none."""
    at = {"at": row.bucket, "of": row.key, "id": row.version_id}
    tx.execute(_PROMOTE, at)
    tx.execute(_DELETE_VERSION, at)


def remove(tx: Tx, bucket: int, key: bytes) -> None:
    tx.execute(_DELETE, {"at": bucket, "of": key})


def remove_kept(tx: Tx, bucket: int, key: bytes, version_id: str) -> None:
    tx.execute(_DELETE_VERSION, {"at": bucket, "of": key, "id": version_id})


def any_of(tx: Tx, bucket: int) -> bool:
    """Whether the bucket has a version or a marker."""
    at = {"at": bucket}
    return tx.execute(_ANY, at).first() is not None or tx.execute(_ANY_VERSION, at).first() is not None


def set_own(tx: Tx, row: ObjectRow, name: str, value: bytes) -> None:
    """Change a version's `acl` or `tags`, wherever it is."""
    for statement in _OWN[name]:
        tx.execute(statement, {"at": row.bucket, "of": row.key, "id": row.version_id, "value": value})


def set_lock(tx: Tx, row: ObjectRow, mode: str, until_ms: int, *, legal_hold: bool) -> None:
    values = {"b_lock_mode": mode, "b_lock_until_ms": until_ms, "b_legal_hold": legal_hold}
    for statement in _LOCK:
        tx.execute(statement, {"at": row.bucket, "of": row.key, "id": row.version_id, **values})
