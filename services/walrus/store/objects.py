"""The store's objects: written, found, deleted, and what may be changed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, objects
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.db.objects import ObjectRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store import sealing, versioning
from mallee.walrus.store.buckets import known
from mallee.walrus.store.documents import (
    ALWAYS,
    Conditions,
    Deleted,
    Doomed,
    Encryption,
    Lock,
    NewObject,
    Version,
)
from mallee.walrus.store.ground import Room
from mallee.walrus.store.rows import key_bytes, milliseconds, object_row, pack_texts, version_of
from mallee.walrus.store.versioning import Change
from mallee.walrus.store.writing import Arrival

T = TypeVar("T")
_DELETED_AT_ONCE = 200  # in a transaction: nobody else's waits for longer than some 20 ms


class Objects(Room):
    """What the store does with objects."""

    async def begin(
        self,
        size: int | None = None,
        *,
        encryption: Encryption | None = None,
        checking: tuple[str, str, Conditions] | None = None,
    ) -> Arrival:
        """Begin to take bytes.

        Args:
            size: how many will come, if that is known.
            encryption: how to keep them; None for plain.
            checking: bucket, key and the conditions of the coming commit: they are refused now if they
                do not hold now, and what breaks them later is known to be a concurrent change.

        Raises:
            S3Error: NoSuchBucket, PreconditionFailed, NoSuchKey (If-Match on nothing).
            Fault: UNAVAILABLE.
        """
        if checking is not None:
            bucket, key, conditions = checking
            of = key_bytes(key)
            await self.ground.db.read(
                lambda tx: versioning.admit(conditions, objects.current(tx, known(tx, bucket).number, of))
            )
        large = size is not None and size > self.ground.inline
        return Arrival(self.ground, encryption, checked=checking is not None, large=large)

    async def commit(
        self, bucket: str, key: str, writing: Arrival, new: NewObject, conditions: Conditions = ALWAYS
    ) -> Version:
        """Make what was written the newest version of `key`: durable, visible, atomic.

        Raises:
            S3Error: NoSuchBucket, PreconditionFailed, NoSuchKey; ConditionalRequestConflict when the
                conditions held at `begin`.
            Fault: UNAVAILABLE. Nothing is visible then.
        """
        of = key_bytes(key)
        writing.claimed = True
        if (
            writing.is_small
        ):  # in the database alone it is one transaction, which outlives its caller by itself
            return await self._name(bucket, key, of, writing.small(), writing, new, conditions)
        return await self.ground.outlive(self._commit(bucket, key, of, writing, new, conditions))

    async def _commit(
        self, bucket: str, key: str, of: bytes, writing: Arrival, new: NewObject, conditions: Conditions
    ) -> Version:
        async with writing.landing():
            content = await writing.finish()
            writing.named = True
            return await self._name(bucket, key, of, content, writing, new, conditions)

    async def _name(
        self,
        bucket: str,
        key: str,
        of: bytes,
        content: ContentRow,
        writing: Arrival,
        new: NewObject,
        conditions: Conditions,
    ) -> Version:
        """Let `key` mean a content, in one transaction."""
        now_ms, token = self.ground.now_ms(), self.ground.entropy.token(10)
        row = object_row(new, of, content, sealing.kind_of(content.crypt), now_ms)

        def work(tx: Tx) -> ObjectRow:
            there = objects.at_home(tx, bucket, of)
            if there is None:
                raise S3Error("NoSuchBucket", BucketName=bucket)
            home, current = there
            if conditions:
                versioning.admit(conditions, current, held=writing.checked)
            contents.add(tx, content)
            return versioning.put(Change(tx, home, now_ms, token), row, current)

        kept = await self.ground.db.transact(work)
        return version_of(bucket, key, kept, content)

    def change(self, bucket: str, work: Callable[[Change], T]) -> Callable[[Tx], T]:
        """A transaction that changes `bucket`. It raises S3Error NoSuchBucket."""
        now_ms = self.ground.now_ms()
        token = self.ground.entropy.token(10)
        return lambda tx: work(Change(tx, known(tx, bucket), now_ms, token))

    async def find(self, bucket: str, key: str, version_id: str | None = None) -> Version:
        """A version, by default the newest; it may be a delete marker.

        Raises:
            S3Error: NoSuchBucket, NoSuchKey, NoSuchVersion; InvalidArgument for what cannot be a version's id.
        """
        of = key_bytes(key)
        db = self.ground.db
        home = self.ground.buckets.get(bucket)
        if version_id is None and home is not None:
            there = await db.look(lambda tx: objects.found(tx, home.number, of))
            if there is not None:
                return version_of(bucket, key, *there)
        return await db.read(lambda tx: find(tx, bucket, key, of, version_id))

    async def delete(
        self,
        bucket: str,
        key: str,
        version_id: str | None = None,
        *,
        conditions: Conditions = ALWAYS,
        bypass_governance: bool = False,
        owner: str = "",
    ) -> Deleted:
        """Delete as S3 does: the object, or one version for ever, or by making a delete marker (`owner` is the marker's).

        Raises:
            S3Error: NoSuchBucket, PreconditionFailed, AccessDenied (object lock).
        """
        doomed = Doomed(key, version_id, conditions)
        (answer,) = await self.delete_many(bucket, [doomed], bypass_governance=bypass_governance, owner=owner)
        if isinstance(answer, S3Error):
            raise answer
        return answer

    async def delete_many(
        self, bucket: str, doomed: Sequence[Doomed], *, bypass_governance: bool = False, owner: str = ""
    ) -> Sequence[Deleted | S3Error]:
        """Each succeeds or fails alone, answers in the order asked. Raises S3Error NoSuchBucket."""
        found: list[Deleted | S3Error] = []
        for at in range(0, max(1, len(doomed)), _DELETED_AT_ONCE):
            some = doomed[at : at + _DELETED_AT_ONCE]
            found += await self._delete_some(bucket, some, bypass_governance=bypass_governance, owner=owner)
        return found

    async def _delete_some(
        self, bucket: str, doomed: Sequence[Doomed], *, bypass_governance: bool, owner: str
    ) -> Sequence[Deleted | S3Error]:
        """Those, in one transaction."""
        keys = [_key_or_error(each.key) for each in doomed]
        tokens = [self.ground.entropy.token(10) for _ in doomed]

        def one(change: Change, key: bytes | S3Error, each: Doomed) -> Deleted | S3Error:
            if isinstance(key, S3Error):
                return key
            try:  # whatever refuses, refuses before it has changed anything
                if each.version_id is None:
                    return versioning.delete(change, key, owner, each.conditions)
                return versioning.delete_version(
                    change, key, each.version_id, each.conditions, bypass_governance=bypass_governance
                )
            except S3Error as error:
                return error

        def work(change: Change) -> list[Deleted | S3Error]:
            return [
                one(change._replace(token=token), key, each)
                for token, key, each in zip(tokens, keys, doomed, strict=True)
            ]

        return await self.ground.db.transact(self.change(bucket, work))

    async def set_tags(
        self, bucket: str, key: str, version_id: str | None, tags: Mapping[str, str]
    ) -> Version:
        """Replace the tags; none are none. Raises S3Error as `find`, MethodNotAllowed on a delete marker."""
        packed = pack_texts(tags)
        return await self._alter(
            bucket, key, version_id, lambda change, row: objects.set_own(change.tx, row, "tags", packed)
        )

    async def set_acl(self, bucket: str, key: str, version_id: str | None, acl: bytes) -> Version:
        """Raises S3Error as `set_tags`."""
        return await self._alter(
            bucket, key, version_id, lambda change, row: objects.set_own(change.tx, row, "acl", acl)
        )

    async def set_lock(
        self, bucket: str, key: str, version_id: str | None, lock: Lock, *, bypass_governance: bool = False
    ) -> Version:
        """Replace retention and legal hold. Retention is never weakened but by `bypass_governance` in governance mode.

        Raises:
            S3Error: as `set_tags`, AccessDenied, InvalidRequest (the bucket has no object lock).
        """
        until_ms = milliseconds(lock.until)

        def alter(change: Change, row: ObjectRow) -> None:
            if not change.bucket.object_lock:
                raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
            weaker = until_ms < row.lock_until_ms or lock.mode != row.lock_mode
            stronger = lock.mode == "COMPLIANCE" and until_ms >= row.lock_until_ms
            held = row._replace(legal_hold=False)
            if (
                weaker
                and not stronger
                and versioning.is_locked(held, change.now_ms, bypass_governance=bypass_governance)
            ):
                raise S3Error("AccessDenied", "Access Denied because object protected by object lock.")
            objects.set_lock(change.tx, row, lock.mode, until_ms, legal_hold=lock.legal_hold)

        return await self._alter(bucket, key, version_id, alter)

    async def _alter(
        self,
        bucket: str,
        key: str,
        version_id: str | None,
        alter: Callable[[Change, ObjectRow], None],
    ) -> Version:
        """Change something of a version that is there; the version as it is then."""
        of = key_bytes(key)

        def work(change: Change) -> Version:
            version = find(change.tx, bucket, key, of, version_id)
            if version.is_delete_marker:
                raise S3Error("MethodNotAllowed", headers={"x-amz-delete-marker": "true"})
            row, _ = versioning.locate(change.tx, change.bucket.number, of, version.version_id)
            assert row is not None
            alter(change, row)
            return find(change.tx, bucket, key, of, version.version_id)

        return await self.ground.db.transact(self.change(bucket, work))


def find(tx: Tx, bucket: str, key: str, of: bytes, version_id: str | None) -> Version:
    """A version as the database has it now. Raises as `Objects.find`."""
    if version_id is not None:
        return _find_version(tx, bucket, key, of, version_id)
    row = known(tx, bucket)
    there = objects.found(tx, row.number, of)
    if there is not None:
        return version_of(bucket, key, *there)
    marker = objects.newest_kept(tx, row.number, of) if row.versioning else None
    if marker is None:
        raise S3Error("NoSuchKey", Key=key)
    return version_of(bucket, key, marker, None)


def _find_version(tx: Tx, bucket: str, key: str, of: bytes, version_id: str) -> Version:
    if not versioning.is_version_id(version_id):
        raise S3Error(
            "InvalidArgument",
            "Invalid version id specified",
            ArgumentName="versionId",
            ArgumentValue=version_id,
        )
    number = known(tx, bucket).number
    row, visible = versioning.locate(tx, number, of, version_id)
    if row is None:
        raise S3Error("NoSuchVersion", Key=key, VersionId=version_id)
    content = contents.find(tx, row.content) if row.content else None
    latest = visible or (not row.content and _is_newest(tx, number, row))
    return version_of(bucket, key, row, content, latest=latest)


def _is_newest(tx: Tx, bucket: int, marker: ObjectRow) -> bool:
    if objects.current(tx, bucket, marker.key) is not None:
        return False
    newest = objects.newest_kept(tx, bucket, marker.key)
    return newest is not None and newest.rank == marker.rank


def _key_or_error(key: str) -> bytes | S3Error:
    try:
        return key_bytes(key)
    except S3Error as error:
        return error
