"""What putting and deleting mean in a bucket without, with and with suspended versioning.

Source: "How S3 Versioning works", "Working with delete markers" and "Managing objects in a
versioning-suspended bucket" of the Amazon S3 User Guide. Every function runs inside a transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, objects, usage
from mallee.walrus.db.buckets import BucketRow
from mallee.walrus.db.objects import ObjectRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store.documents import ALWAYS, NULL, Conditions, Deleted
from mallee.walrus.store.rows import milliseconds

_RANK_DIGITS = 12


class Change(NamedTuple):
    """A change of one bucket: when it is made, and chance for a version's id."""

    tx: Tx
    bucket: BucketRow
    now_ms: int
    token: bytes  # 10 bytes


def is_version_id(text: str) -> bool:
    return text == NULL or (len(text) == 32 and all(digit in "0123456789abcdef" for digit in text))


def rank_in(version_id: str) -> int:
    """Where among a key's versions this one is, whether it is still there or not."""
    return -int(version_id[:_RANK_DIGITS], 16)


def put(change: Change, row: ObjectRow, current: ObjectRow | None) -> ObjectRow:
    """Make `row` the newest version of its key, in the place of `current`; as it is kept."""
    tx, bucket = change.tx, change.bucket
    rank = _next_rank(change, row.key, current)
    freed = 0
    if bucket.versioning == "Enabled":
        version_id = _new_id(change, rank)
        if current is not None:
            objects.retire(tx, bucket.number, row.key)
    else:
        version_id = NULL
        freed = _make_room_for_null(change, row.key, current, replacing=True)
    kept = row._replace(bucket=bucket.number, rank=rank, version_id=version_id)
    objects.put(tx, kept)
    usage.change(tx, bucket.number, row.key, objects=1 - bool(freed), size=row.size - max(0, freed - 1))
    return kept


def delete(change: Change, key: bytes, owner: str, conditions: Conditions = ALWAYS) -> Deleted:
    """Delete without naming a version. Raises S3Error PreconditionFailed."""
    tx, bucket = change.tx, change.bucket
    current = objects.current(tx, bucket.number, key)
    require(conditions, current)
    if not bucket.versioning:
        if current is not None:
            _remove(change, current, visible=True)
        return Deleted()
    rank = _next_rank(change, key, current)
    if bucket.versioning == "Enabled":
        version_id = _new_id(change, rank)
        if current is not None:
            objects.retire(tx, bucket.number, key)
    else:
        version_id = NULL
        freed = _make_room_for_null(change, key, current, replacing=False)
        usage.change(tx, bucket.number, key, objects=-bool(freed), size=-max(0, freed - 1))
    objects.add_kept(tx, _marker(change, key, rank, version_id, owner))
    return Deleted(version_id, delete_marker=True)


def delete_version(
    change: Change, key: bytes, version_id: str, conditions: Conditions = ALWAYS, *, bypass_governance: bool
) -> Deleted:
    """Delete one version for ever; one that is not there is deleted already.

    Raises:
        S3Error: AccessDenied (it is locked), PreconditionFailed.
    """
    row, visible = locate(change.tx, change.bucket.number, key, version_id)
    require(conditions, row)
    if row is None:
        return Deleted(version_id)
    if is_locked(row, change.now_ms, bypass_governance=bypass_governance):
        raise S3Error("AccessDenied", "Access Denied because object protected by object lock.")
    _remove(change, row, visible=visible)
    _surface(change, key)
    return Deleted(version_id, delete_marker=not row.content)


def locate(tx: Tx, bucket: int, key: bytes, version_id: str) -> tuple[ObjectRow | None, bool]:
    """A version, and whether it is the visible one."""
    current = objects.current(tx, bucket, key)
    if current is not None and current.version_id == version_id:
        return current, True
    return objects.kept(tx, bucket, key, version_id), False


def is_locked(row: ObjectRow, now_ms: int, *, bypass_governance: bool) -> bool:
    """Whether retention or a legal hold keeps it."""
    if row.legal_hold:
        return True
    held = bool(row.lock_mode) and row.lock_until_ms > now_ms
    return held and not (bypass_governance and row.lock_mode == "GOVERNANCE")


def require(conditions: Conditions, row: ObjectRow | None) -> None:
    """What DeleteObject's conditions want. Raises S3Error PreconditionFailed."""
    if not conditions:
        return
    if conditions.if_match is not None and not _matches(conditions.if_match, row):
        raise S3Error("PreconditionFailed", Condition="If-Match")
    if conditions.size is not None and (row is None or row.size != conditions.size):
        raise S3Error("PreconditionFailed", Condition="x-amz-if-match-size")
    if conditions.modified is not None and (
        row is None or row.modified_ms // 1000 != milliseconds(conditions.modified) // 1000
    ):
        raise S3Error("PreconditionFailed", Condition="x-amz-if-match-last-modified-time")


def admit(conditions: Conditions, current: ObjectRow | None, *, held: bool = False) -> None:
    """What the conditions of a write want of what is there.

    `held`: they held when the writer began, so what breaks them now is a concurrent change.

    Raises:
        S3Error: PreconditionFailed, NoSuchKey, ConditionalRequestConflict.
    """
    if conditions.if_none_match is not None and _matches(conditions.if_none_match, current):
        raise S3Error(_refusal(held=held), Condition="If-None-Match")
    if conditions.if_match is not None and not _matches(conditions.if_match, current):
        if current is None and not held:
            raise S3Error("NoSuchKey")
        raise S3Error(_refusal(held=held), Condition="If-Match")


def _refusal(*, held: bool) -> str:
    return "ConditionalRequestConflict" if held else "PreconditionFailed"


def _matches(etag: str, row: ObjectRow | None) -> bool:
    return row is not None and etag in {"*", row.etag}


def _next_rank(change: Change, key: bytes, current: ObjectRow | None) -> int:
    if current is not None:
        return current.rank - 1
    if not change.bucket.versioning:
        return -1
    newest = objects.newest_kept(change.tx, change.bucket.number, key)
    return newest.rank - 1 if newest else -1


def _new_id(change: Change, rank: int) -> str:
    return f"{-rank:0{_RANK_DIGITS}x}{change.token.hex()}"


def _make_room_for_null(change: Change, key: bytes, current: ObjectRow | None, *, replacing: bool) -> int:
    """Take the null version away wherever it is, keep another visible one as an older one.

    Args:
        change: the transaction.
        key: whose.
        current: its visible version.
        replacing: the visible row is about to be replaced, so it need not be removed.

    Returns:
        One more than the bytes that were freed; 0 if no bytes were there.
    """
    tx, bucket = change.tx, change.bucket.number
    if current is not None and current.version_id == NULL:
        contents.release(tx, current.content, change.now_ms)
        if not replacing:
            objects.remove(tx, bucket, key)
        return current.size + 1
    if current is not None:
        objects.retire(tx, bucket, key)
    old = objects.kept(tx, bucket, key, NULL) if change.bucket.versioning else None
    if old is None:
        return 0
    objects.remove_kept(tx, bucket, key, NULL)
    if not old.content:
        return 0
    contents.release(tx, old.content, change.now_ms)
    return old.size + 1


def _remove(change: Change, row: ObjectRow, *, visible: bool) -> None:
    if visible:
        objects.remove(change.tx, row.bucket, row.key)
    else:
        objects.remove_kept(change.tx, row.bucket, row.key, row.version_id)
    if row.content:
        contents.release(change.tx, row.content, change.now_ms)
        usage.change(change.tx, row.bucket, row.key, objects=-1, size=-row.size)


def _surface(change: Change, key: bytes) -> None:
    """When nothing is visible and the newest that is left is no marker, it is visible again."""
    if objects.current(change.tx, change.bucket.number, key) is not None:
        return
    newest = objects.newest_kept(change.tx, change.bucket.number, key)
    if newest is not None and newest.content:
        objects.promote(change.tx, newest)


def _marker(change: Change, key: bytes, rank: int, version_id: str, owner: str) -> ObjectRow:
    return ObjectRow(
        bucket=change.bucket.number,
        key=key,
        rank=rank,
        version_id=version_id,
        size=0,
        etag="",
        modified_ms=change.now_ms,
        owner=owner,
        storage_class="STANDARD",
        checksum="",
        content=b"",
        details=b"",
        acl=b"",
        tags=b"",
        lock_mode="",
        lock_until_ms=0,
        legal_hold=False,
    )
