"""The store's buckets: made, configured, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mallee.kernel.db import Tx
from mallee.walrus.db import buckets, objects, parts, uploads, usage
from mallee.walrus.db import contents as contents_table
from mallee.walrus.db.buckets import BucketRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store.documents import Bucket, Usage, Versioning
from mallee.walrus.store.ground import Room
from mallee.walrus.store.rows import bucket_of, config, pack_config

_BELOW_NAMES, _ABOVE_NAMES = " ", "\x7f"  # a bucket's name is lower-case letters, digits, dots and dashes
_UPLOADS_AT_ONCE = 1000
_KEPT = 10_000  # buckets that are remembered


def known(tx: Tx, name: str) -> BucketRow:
    """Raises S3Error NoSuchBucket."""
    row = buckets.find(tx, name)
    if row is None:
        raise S3Error("NoSuchBucket", BucketName=name)
    return row


class Buckets(Room):
    """What the store does with buckets."""

    async def create_bucket(
        self,
        name: str,
        owner: str,
        region: str,
        *,
        object_lock: bool = False,
        config: Mapping[str, bytes] = {},
        most: int = 0,
    ) -> Bucket:
        """Make a bucket; its name's form is the caller's to check. `most` is how many the account may have, 0 any number.

        Raises:
            S3Error: BucketAlreadyOwnedByYou, BucketAlreadyExists, TooManyBuckets.
        """
        versioning = "Enabled" if object_lock else ""
        created_ms = self.ground.now_ms()
        packed = pack_config(config)

        def work(tx: Tx) -> BucketRow:
            there = buckets.find(tx, name)
            if there is not None:
                mine = there.owner == owner
                raise S3Error("BucketAlreadyOwnedByYou" if mine else "BucketAlreadyExists", BucketName=name)
            if most and buckets.count(tx, owner) >= most:
                raise S3Error("TooManyBuckets")
            new = BucketRow(0, name, owner, region, created_ms, versioning, object_lock, packed)
            row = buckets.add(tx, new)
            usage.begin(tx, row.number)
            return row

        return bucket_of(await self.ground.db.transact(work))

    async def head_bucket(self, name: str) -> Bucket:
        """Raises S3Error NoSuchBucket."""
        ground = self.ground
        kept = ground.buckets.get(name)
        if kept is not None:
            return kept
        changes = ground.bucket_changes
        found = bucket_of(await ground.db.read(lambda tx: known(tx, name)))
        if changes == ground.bucket_changes:  # else a change overtook this read, which may be of before it
            if len(ground.buckets) >= _KEPT:
                ground.buckets.clear()
            ground.buckets[name] = found
        return found

    async def list_buckets(
        self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000
    ) -> Sequence[Bucket]:
        """The account's buckets by name, from behind `after`; at most `limit`."""
        low = max(prefix, f"{after}{_BELOW_NAMES}") if after else prefix
        rows = await self.ground.db.read(
            lambda tx: buckets.owned(tx, owner, low, prefix + _ABOVE_NAMES, limit)
        )
        return [bucket_of(row) for row in rows]

    async def every_bucket(self, after: str = "", limit: int = 1000) -> Sequence[Bucket]:
        """Everybody's buckets by name, from behind `after`: for reconcilers."""
        rows = await self.ground.db.read(lambda tx: buckets.page(tx, after, limit))
        return [bucket_of(row) for row in rows]

    async def delete_bucket(self, name: str) -> None:
        """Forget an empty bucket; its open uploads are aborted.

        Raises:
            S3Error: NoSuchBucket, BucketNotEmpty.
        """
        now_ms = self.ground.now_ms()

        def work(tx: Tx) -> None:
            row = known(tx, name)
            if objects.any_of(tx, row.number):
                raise S3Error("BucketNotEmpty", BucketName=name)
            while open_uploads := uploads.page(tx, row.number, b"", b"\xff", "", _UPLOADS_AT_ONCE):
                for upload in open_uploads:
                    drop_upload(tx, upload.id, now_ms)
            uploads.forget_bucket(tx, row.number)
            usage.end(tx, row.number)
            buckets.remove(tx, row.number)
            tx.on_commit(lambda: self.ground.forget_bucket(name))

        await self.ground.db.transact(work)

    async def set_config(self, bucket: str, name: str, document: bytes | None) -> None:
        """Keep a configuration document, or forget it. Raises S3Error NoSuchBucket."""

        def work(tx: Tx) -> None:
            row = known(tx, bucket)
            documents = config(row.config)
            if document is None:
                documents.pop(name, None)
            else:
                documents[name] = document
            buckets.set_config(tx, row.number, pack_config(documents))
            tx.on_commit(lambda: self.ground.forget_bucket(bucket))

        await self.ground.db.transact(work)

    async def set_versioning(self, bucket: str, versioning: Versioning) -> None:
        """Raises S3Error NoSuchBucket, InvalidBucketState (suspending a bucket with object lock)."""

        def work(tx: Tx) -> None:
            row = known(tx, bucket)
            if row.object_lock and versioning != "Enabled":
                raise S3Error(
                    "InvalidBucketState",
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
                )
            buckets.set_versioning(tx, row.number, versioning, object_lock=row.object_lock)
            tx.on_commit(lambda: self.ground.forget_bucket(bucket))

        await self.ground.db.transact(work)

    async def enable_object_lock(self, bucket: str) -> None:
        """Raises S3Error NoSuchBucket, InvalidBucketState (versioning is not enabled)."""

        def work(tx: Tx) -> None:
            row = known(tx, bucket)
            if row.versioning != "Enabled":
                raise S3Error(
                    "InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock."
                )
            buckets.set_versioning(tx, row.number, row.versioning, object_lock=True)
            tx.on_commit(lambda: self.ground.forget_bucket(bucket))

        await self.ground.db.transact(work)

    async def usage(self, bucket: str) -> Usage:
        """Raises S3Error NoSuchBucket."""
        return Usage(*await self.ground.db.read(lambda tx: usage.of_bucket(tx, known(tx, bucket).number)))

    async def usage_of_account(self, owner: str) -> Mapping[str, Usage]:
        """Of each of the account's buckets, by name."""
        found = await self.ground.db.read(lambda tx: usage.of_account(tx, owner))
        return {name: Usage(*row) for name, row in found}


def drop_upload(tx: Tx, upload_id: str, now_ms: int) -> int:
    """Forget an upload; its parts' bytes are garbage. How many bytes they had."""
    dropped = parts.page(tx, upload_id, 0, 10_000)
    for part in dropped:
        contents_table.release(tx, part.content, now_ms)
    parts.remove_all(tx, upload_id)
    uploads.remove(tx, upload_id)
    return sum(part.size for part in dropped)
