"""The store's uploads in parts.

Parts are contents of their own. Completing an upload moves no byte: the object gets the list of its
parts' contents, in one transaction, which also remembers the answer for a client that asks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mallee.kernel.db import Tx
from mallee.walrus.db import contents, objects, parts, uploads, usage
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.db.parts import PartRow
from mallee.walrus.db.uploads import UploadRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store import completing, sealing, versioning
from mallee.walrus.store.buckets import drop_upload, known
from mallee.walrus.store.copies import Copies
from mallee.walrus.store.documents import (
    ALWAYS,
    ChecksumType,
    Claim,
    Conditions,
    Encryption,
    NewObject,
    Part,
    PartsPage,
    Upload,
    Version,
)
from mallee.walrus.store.listings import upload_of
from mallee.walrus.store.rows import UploadDocument, encode, key_bytes, pack_texts, texts, upload_document
from mallee.walrus.store.versioning import Change
from mallee.walrus.store.writing import Arrival

_MOST_PARTS = 10_000


class Uploads(Copies):
    """What the store does with uploads in parts."""

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
        crypt = b""
        if encryption is not None:
            _, crypt = sealing.new_key(self.ground.box, self.ground.entropy, encryption.customer_key)
        kind = sealing.kind_of(crypt)
        document = UploadDocument(new, initiator, kind, crypt, checksum_algorithm, checksum_type)
        upload_id = self.ground.new_name().hex() + self.ground.entropy.token(16).hex()
        row = UploadRow(upload_id, 0, key_bytes(key), self.ground.now_ms(), encode(document))

        def work(tx: Tx) -> None:
            uploads.add(tx, row._replace(bucket=known(tx, bucket).number))

        await self.ground.db.transact(work)
        return upload_of(bucket, row)

    async def find_upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Raises S3Error NoSuchBucket, NoSuchUpload."""
        of = key_bytes(key)
        row = await self.ground.db.read(lambda tx: _open_upload(tx, known(tx, bucket).number, of, upload_id))
        return upload_of(bucket, row)

    async def put_part(
        self,
        upload: Upload,
        number: int,
        writing: Arrival,
        *,
        etag: str,
        checksums: Mapping[str, str] = {},
    ) -> Part:
        """Keep part `number` (1 to 10,000); one of that number before it is replaced.

        Raises:
            S3Error: NoSuchUpload, InvalidArgument, InvalidRequest (encrypted otherwise than the upload), AccessDenied.
            Fault: UNAVAILABLE.
        """
        if not 1 <= number <= _MOST_PARTS:
            raise S3Error(
                "InvalidArgument",
                "Part number must be an integer between 1 and 10000, inclusive",
                ArgumentName="partNumber",
                ArgumentValue=str(number),
            )
        writing.claimed = True
        return await self.ground.outlive(self._put_part(upload, number, writing, etag, checksums))

    async def _put_part(
        self, upload: Upload, number: int, writing: Arrival, etag: str, checksums: Mapping[str, str]
    ) -> Part:
        of = key_bytes(upload.key)
        async with writing.landing():
            # A reader of an object in parts comes to its parts one by one: none may vanish with its row.
            content = await writing.finish(inline=False)
            now_ms = self.ground.now_ms()
            row = PartRow(
                upload.upload_id, number, content.id, content.size, etag, now_ms, pack_texts(checksums)
            )

            def work(change: Change) -> None:
                there = _open_upload(change.tx, change.bucket.number, of, upload.upload_id)
                _check_encryption(upload_document(there.document), writing)
                contents.add(change.tx, content)
                before = parts.put(change.tx, row)
                if before is not None:
                    contents.release(change.tx, before.content, now_ms)
                more = row.size - (before.size if before else 0)
                usage.change(change.tx, change.bucket.number, of, uploading=more)

            writing.named = True
            await self.ground.db.transact(self.change(upload.bucket, work))
        return _part(row)

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
        """Part `number` from bytes of an object; `encryption` as the upload's (an SSE-C key comes with each part).

        Raises:
            S3Error: as `put_part` and `read`.
        """
        last = source.size - 1 if last is None else last
        writing = await self.begin(last + 1 - first, encryption=encryption)
        try:
            algorithm = upload.checksum_algorithm
            etag, checksum = await self.transfer(source, first, last, source_key, writing, algorithm)
            checksums = {algorithm: checksum} if algorithm else {}
            return await self.put_part(upload, number, writing, etag=etag, checksums=checksums)
        finally:
            await writing.discard()

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, *, after: int = 0, limit: int = 1000
    ) -> PartsPage:
        """Raises S3Error NoSuchBucket, NoSuchUpload."""
        of = key_bytes(key)

        def work(tx: Tx) -> tuple[UploadRow, Sequence[PartRow]]:
            row = _open_upload(tx, known(tx, bucket).number, of, upload_id)
            return row, parts.page(tx, upload_id, after, limit + 1)

        row, found = await self.ground.db.read(work)
        shown = found[:limit]
        return PartsPage(
            upload=upload_of(bucket, row),
            parts=[_part(each) for each in shown],
            truncated=len(found) > limit,
            next_number=shown[-1].number if shown else 0,
        )

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
                InvalidRequest (size), MalformedXML (no parts), PreconditionFailed, NoSuchKey.
        """
        of = key_bytes(key)
        completing.check_order(claims)
        asked = hashlib.sha256(encode(list(claims))).digest()
        name = self.ground.new_name()
        now_ms = self.ground.now_ms()

        def work(change: Change) -> tuple[Version | None, bytes]:
            tx, number = change.tx, change.bucket.number
            row = uploads.find(tx, upload_id)
            if row is None:
                return None, completing.remembered(tx, number, of, upload_id, asked)
            row = _open_upload(tx, number, of, upload_id)
            upload = upload_of(bucket, row)
            uploaded = parts.page(tx, upload_id, 0, _MOST_PARTS)
            whole = completing.join(upload, claims, uploaded)
            completing.check_whole(whole, checksums, size)
            current = objects.current(tx, number, of)
            if conditions:
                versioning.admit(conditions, current)
            crypt = completing.first_crypt(tx, whole)
            content = ContentRow(name, 1, whole.size, 0, b"", crypt, whole.manifest, None)
            contents.add(tx, content)
            kept = versioning.put(change, completing.row_of(upload, whole, of, content, now_ms), current)
            _forget_parts(change, of, upload_id, uploaded, whole)
            version, answer = completing.answer_of(bucket, key, kept, content)
            completing.remember(tx, upload_id, number, of, now_ms, asked, answer)
            return version, answer

        version, answer = await self.ground.db.transact(self.change(bucket, work))
        return version or completing.version_again(bucket, key, answer)

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Forget an upload and its parts. Raises S3Error NoSuchBucket, NoSuchUpload."""
        of = key_bytes(key)

        def work(change: Change) -> None:
            _open_upload(change.tx, change.bucket.number, of, upload_id)
            freed = drop_upload(change.tx, upload_id, change.now_ms)
            usage.change(change.tx, change.bucket.number, of, uploading=-freed)

        await self.ground.db.transact(self.change(bucket, work))


def _open_upload(tx: Tx, bucket: int, key: bytes, upload_id: str) -> UploadRow:
    row = uploads.find(tx, upload_id)
    if row is None or (row.bucket, row.key) != (bucket, key):
        raise S3Error("NoSuchUpload", UploadId=upload_id)
    return row


def _check_encryption(document: UploadDocument, writing: Arrival) -> None:
    """A part is kept as its upload was begun."""
    kind = sealing.kind_of(writing.crypt)
    if kind != document.encryption:
        raise S3Error(
            "InvalidRequest",
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters.",
        )
    if kind == "customer":
        assert writing.encryption is not None
        sealing.check_customer_key(document.crypt, writing.encryption.customer_key)


def _forget_parts(
    change: Change, key: bytes, upload_id: str, uploaded: Sequence[PartRow], whole: completing.Whole
) -> None:
    """The claimed parts' contents are the object's from here on, the others' are garbage."""
    for row in uploaded:
        if row.content not in whole.contents:
            contents.release(change.tx, row.content, change.now_ms)
    parts.remove_all(change.tx, upload_id)
    uploads.remove(change.tx, upload_id)
    freed = sum(row.size for row in uploaded)
    usage.change(change.tx, change.bucket.number, key, uploading=-freed)


def _part(row: PartRow) -> Part:
    return Part(row.number, row.size, row.etag, row.modified_ms, texts(row.checksums))
