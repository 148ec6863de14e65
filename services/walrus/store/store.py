"""The store: metadata and bytes together, and the only way to change an object.

Every method that changes something is one transaction, durable and visible when it returns.
Conditions are decided inside it. Errors are S3's own (`S3Error`); what the disk or the database
does to us is a `Fault` UNAVAILABLE.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import FileRange
from mallee.walrus.store.documents import (
    ALWAYS,
    Bucket,
    ChecksumType,
    Claim,
    Conditions,
    Deleted,
    Doomed,
    Encryption,
    Lock,
    NewObject,
    Page,
    Part,
    PartsPage,
    Upload,
    UploadsPage,
    Usage,
    Version,
    Versioning,
)


class Writing(Protocol):
    """Bytes on their way in; nobody sees them before `Store.commit` or `Store.put_part`."""

    size: int  # written so far

    async def write(self, block: bytes | memoryview) -> None:
        """Take a block of any size; the caller may reuse its memory afterwards.

        Raises:
            Fault: UNAVAILABLE, `storage-full` when there is no room.
        """

    async def discard(self) -> None:
        """Forget it. Does nothing after a commit; may be called twice, always in a `finally`."""


class Reading(Protocol):
    """Bytes on their way out: iterate, then `aclose` it in any case.

    Each item is verified just before it is given: a piece of a file for `sendfile` (whoever gets it
    closes its `fd`), or bytes that are valid until the next item.

    Raises while iterating:
        Fault: INTERNAL `damaged` for a block that is not what was written.
    """

    length: int

    def __aiter__(self) -> AsyncIterator[FileRange | memoryview | bytes]: ...
    async def aclose(self) -> None: ...


class Store:
    """Buckets and objects."""

    # -- buckets

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
        """Make a bucket; the name's form is the caller's to check. `most` is how many the account may have, 0 any number.

        Raises:
            S3Error: BucketAlreadyOwnedByYou, BucketAlreadyExists, TooManyBuckets.
        """
        raise NotImplementedError

    async def head_bucket(self, name: str) -> Bucket:
        """Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def list_buckets(
        self, owner: str, *, prefix: str = "", after: str = "", limit: int = 10_000
    ) -> list[Bucket]:
        """The account's buckets by name, from behind `after`; at most `limit`."""
        raise NotImplementedError

    async def delete_bucket(self, name: str) -> None:
        """Forget an empty bucket; its open uploads are aborted.

        Raises:
            S3Error: NoSuchBucket, BucketNotEmpty.
        """
        raise NotImplementedError

    async def set_config(self, bucket: str, name: str, document: bytes | None) -> None:
        """Keep a configuration document, or forget it. Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def set_versioning(self, bucket: str, versioning: Versioning) -> None:
        """Raises S3Error NoSuchBucket, InvalidBucketState (suspending a bucket with object lock)."""
        raise NotImplementedError

    async def enable_object_lock(self, bucket: str) -> None:
        """Raises S3Error NoSuchBucket, InvalidBucketState (versioning is not enabled)."""
        raise NotImplementedError

    # -- objects

    async def begin(
        self,
        size: int | None = None,
        *,
        encryption: Encryption | None = None,
        checking: tuple[str, str, Conditions] | None = None,
    ) -> Writing:
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
        raise NotImplementedError

    async def commit(
        self, bucket: str, key: str, writing: Writing, new: NewObject, conditions: Conditions = ALWAYS
    ) -> Version:
        """Make what was written the newest version of `key`: durable, visible, atomic.

        Raises:
            S3Error: NoSuchBucket, PreconditionFailed, NoSuchKey; ConditionalRequestConflict when the
                conditions held at `begin`; BadDigest never (the body is verified before).
            Fault: UNAVAILABLE. Nothing has happened then.
        """
        raise NotImplementedError

    async def find(self, bucket: str, key: str, version_id: str | None = None) -> Version:
        """A version, by default the newest; it may be a delete marker.

        Raises:
            S3Error: NoSuchBucket, NoSuchKey, NoSuchVersion; InvalidArgument for what cannot be a version's id.
        """
        raise NotImplementedError

    async def read(
        self,
        version: Version,
        first: int = 0,
        last: int | None = None,
        *,
        customer_key: bytes | None = None,
        sendfile: bool = True,
    ) -> Reading:
        """The bytes from `first` to `last` (both inclusive, inside the object), the first block verified already.

        An object that is kept by SSE-C needs its `customer_key`. `sendfile=False` gives bytes always.

        Raises:
            S3Error: InvalidRequest without the key of an SSE-C object (or with one for another), AccessDenied for a wrong key,
                NoSuchKey when it was deleted long ago.
            Fault: INTERNAL `damaged`, UNAVAILABLE.
        """
        raise NotImplementedError

    def check_customer_key(self, version: Version, customer_key: bytes | None) -> None:
        """As `read` does, for HEAD. Raises S3Error InvalidRequest, AccessDenied."""
        raise NotImplementedError

    async def part_range(self, version: Version, number: int) -> tuple[int, int, Part]:
        """Offset and length of part `number` of an object that was uploaded in parts, and what is known of it.

        Raises:
            S3Error: InvalidPartNumber.
        """
        raise NotImplementedError

    async def parts_of(self, version: Version, after: int = 0, limit: int = 1000) -> list[Part]:
        """The parts from behind number `after`, for GetObjectAttributes; none for an object that was put whole."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def delete_many(
        self, bucket: str, doomed: Sequence[Doomed], *, bypass_governance: bool = False, owner: str = ""
    ) -> list[Deleted | S3Error]:
        """Up to 1,000 in one transaction; each succeeds or fails alone, answers in the order asked. Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def copy(
        self,
        source: Version,
        bucket: str,
        key: str,
        new: NewObject,
        *,
        encryption: Encryption | None = None,
        source_key: bytes | None = None,
        conditions: Conditions = ALWAYS,
    ) -> Version:
        """Make `source`'s bytes the newest version of `key`. Bytes are shared unless their encryption changes.

        An empty `new.etag` means the source's; `source_key` is that of an SSE-C source.

        Raises:
            S3Error: as `commit` and `read`.
        """
        raise NotImplementedError

    async def set_tags(
        self, bucket: str, key: str, version_id: str | None, tags: Mapping[str, str]
    ) -> Version:
        """Replace the tags; none are none. Raises S3Error as `find`, MethodNotAllowed on a delete marker."""
        raise NotImplementedError

    async def set_acl(self, bucket: str, key: str, version_id: str | None, acl: bytes) -> Version:
        """Raises S3Error as `set_tags`."""
        raise NotImplementedError

    async def set_lock(
        self, bucket: str, key: str, version_id: str | None, lock: Lock, *, bypass_governance: bool = False
    ) -> Version:
        """Replace retention and legal hold. Retention is never weakened but by `bypass_governance` in governance mode.

        Raises:
            S3Error: as `set_tags`, AccessDenied, InvalidRequest (the bucket has no object lock).
        """
        raise NotImplementedError

    # -- listings

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        """Objects by key, from behind `after` (a key, or a common prefix that was given). Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def list_versions(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        after_version: str = "",
        limit: int = 1000,
    ) -> Page:
        """Versions and delete markers by key, newest first, from behind (`after`, `after_version`).

        Without `after_version` the page begins at the next key. Raises S3Error NoSuchBucket.
        """
        raise NotImplementedError

    # -- uploads in parts

    async def begin_upload(
        self,
        bucket: str,
        key: str,
        new: NewObject,
        *,
        initiator: str,
        encryption: Encryption | None = None,
        checksum_algorithm: str = "",
        checksum_type: ChecksumType = "",
    ) -> Upload:
        """Begin an upload. Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def find_upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Raises S3Error NoSuchBucket, NoSuchUpload."""
        raise NotImplementedError

    async def put_part(
        self, upload: Upload, number: int, writing: Writing, *, etag: str, checksums: Mapping[str, str] = {}
    ) -> Part:
        """Keep part `number` (1 to 10,000); one of that number before it is replaced.

        Raises:
            S3Error: NoSuchUpload, InvalidArgument.
            Fault: UNAVAILABLE.
        """
        raise NotImplementedError

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        source: Version,
        first: int = 0,
        last: int | None = None,
        *,
        encryption: Encryption | None = None,
        source_key: bytes | None = None,
    ) -> Part:
        """Part `number` from bytes of an object. `encryption` as the upload's (an SSE-C key comes with each part). Raises as `put_part`, `read`."""
        raise NotImplementedError

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartsPage:
        """Raises S3Error NoSuchBucket, NoSuchUpload."""
        raise NotImplementedError

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        after_upload: str = "",
        limit: int = 1000,
    ) -> UploadsPage:
        """Open uploads by key, then by time. Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def complete_upload(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        claims: Sequence[Claim],
        *,
        conditions: Conditions = ALWAYS,
        checksums: Mapping[str, str] = {},
        size: int | None = None,
    ) -> Version:
        """Make the claimed parts an object: metadata only, atomic, the same answer when asked again.

        `checksums` and `size` are what the client says of the whole object.

        Raises:
            S3Error: NoSuchBucket, NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest,
                InvalidRequest (size), MalformedXML (no parts), PreconditionFailed, ConditionalRequestConflict.
        """
        raise NotImplementedError

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts. Raises S3Error NoSuchBucket, NoSuchUpload."""
        raise NotImplementedError

    # -- usage

    async def usage(self, bucket: str) -> Usage:
        """Raises S3Error NoSuchBucket."""
        raise NotImplementedError

    async def usage_of_account(self, owner: str) -> Mapping[str, Usage]:
        """Of each of the account's buckets, by name."""
        raise NotImplementedError
