"""Copies: the bytes are shared and counted, unless they must be kept differently from now on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from mallee.walrus.db import contents, objects
from mallee.walrus.db.objects import ObjectRow
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import FileRange
from mallee.walrus.store import sealing, versioning
from mallee.walrus.store.checksums import running
from mallee.walrus.store.documents import ALWAYS, Conditions, Encryption, NewObject, Version
from mallee.walrus.store.objects import Objects
from mallee.walrus.store.reads import Reads
from mallee.walrus.store.rows import key_bytes, object_row, version_of
from mallee.walrus.store.versioning import Change
from mallee.walrus.store.writing import Arrival


class Copies(Objects, Reads):
    """What the store does with copies."""

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
        self.check_customer_key(source, source_key)
        new = new if new.etag else replace(new, etag=source.etag)
        if _kept_alike(source, encryption):
            return await self._share(source, bucket, key, new, conditions)
        writing = await self.begin(source.size, encryption=encryption)
        try:
            await self.transfer(source, 0, source.size - 1, source_key, writing)
            return await self.commit(bucket, key, writing, new, conditions)
        finally:
            await writing.discard()

    async def transfer(
        self,
        source: Version,
        first: int,
        last: int,
        source_key: bytes | None,
        writing: Arrival,
        algorithm: str = "",
    ) -> tuple[str, str]:
        """Write a range of one object to another; the range's MD5 in hexadecimal, and another checksum in base64."""
        digest, checksum = hashlib.md5(usedforsecurity=False), running(algorithm)
        reading = await self.read(source, first, last, customer_key=source_key, sendfile=False)
        try:
            async for piece in reading:
                assert not isinstance(piece, FileRange)
                digest.update(piece)
                checksum.update(piece)
                await writing.write(piece)
        finally:
            await reading.aclose()
        return digest.hexdigest(), checksum.text()

    async def _share(
        self, source: Version, bucket: str, key: str, new: NewObject, conditions: Conditions
    ) -> Version:
        of = key_bytes(key)
        content = source.content
        assert content is not None
        row = object_row(
            new, of, content, sealing.kind_of(content.crypt), self.ground.now_ms(), parts=source.parts
        )

        def work(change: Change) -> ObjectRow:
            current = objects.current(change.tx, change.bucket.number, of)
            if conditions:
                versioning.admit(conditions, current)
            if not contents.share(change.tx, content):
                raise S3Error("NoSuchKey", Key=source.key)
            return versioning.put(change, row, current)

        kept = await self.ground.db.transact(self.change(bucket, work))
        return version_of(bucket, key, kept, content)


def _kept_alike(source: Version, encryption: Encryption | None) -> bool:
    """SSE-C is never shared: the copy's key is its own."""
    wanted = "" if encryption is None else "customer" if encryption.customer_key is not None else "AES256"
    return wanted == source.encryption and wanted != "customer"
