"""The store's listings: objects, versions, uploads."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter

from mallee.kernel.db import Tx
from mallee.walrus.db import listing, uploads
from mallee.walrus.db.listing import ListedRow
from mallee.walrus.db.uploads import UploadRow
from mallee.walrus.store import versioning
from mallee.walrus.store.buckets import known
from mallee.walrus.store.documents import NULL, Page, Upload, UploadsPage
from mallee.walrus.store.ground import Room
from mallee.walrus.store.rows import listed_of, moment, upload_document, utf8
from mallee.walrus.store.walking import Walk, Walked, above, start

_BEFORE_ALL = -(1 << 62)  # of all ranks
_rank = attrgetter("rank")
_id = attrgetter("id")
_key_and_rank = attrgetter("key", "rank")


class Listings(Room):
    """What the store does for listings."""

    async def list(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Page:
        """Objects by key, from behind `after` (a key, or a common prefix that was given). Raises S3Error NoSuchBucket."""
        below, roll, behind = utf8(prefix), utf8(delimiter), utf8(after)
        high = above(below)

        def work(tx: Tx) -> Walked:
            number = known(tx, bucket).number

            def fetch(low: bytes, rank: int | None, size: int) -> Sequence[ListedRow]:
                return listing.visible(tx, number, low if rank is None else low + b"\x00", high, size)

            def peek(low: bytes) -> bytes | None:
                return listing.next_visible(tx, number, low, high)

            walk = Walk(fetch, _rank, below, roll, limit, peek=peek)
            return walk.page(start(below, roll, behind))

        walked = await self.ground.db.read(work) if limit > 0 else _NOTHING
        return Page(
            entries=[listed_of(row, latest=True) for row in walked.rows],
            prefixes=[rolled.decode() for rolled in walked.prefixes],
            truncated=walked.truncated,
            next_key=walked.last_key.decode(),
        )

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
        below, roll, behind = utf8(prefix), utf8(delimiter), utf8(after)
        high = above(below)

        def work(tx: Tx) -> Walked:
            number = known(tx, bucket).number

            def fetch(low: bytes, rank: int | None, size: int) -> Sequence[ListedRow]:
                # A key's visible row is its newest: whoever is inside a key is behind it.
                newest = listing.visible(tx, number, low if rank is None else low + b"\x00", high, size)
                older = listing.older(tx, number, low, high, _BEFORE_ALL if rank is None else rank, size)
                return list(islice(merge(newest, older, key=_key_and_rank), size))

            rank = _rank_of(tx, number, behind, after_version) if after_version else None
            low = start(below, roll, behind) if rank is None else behind
            return Walk(fetch, _rank, below, roll, limit).page(low, rank)

        walked = await self.ground.db.read(work) if limit > 0 else _NOTHING
        last_seen = behind if after_version else None
        entries = []
        for row in walked.rows:
            entries.append(listed_of(row, latest=row.key != last_seen))
            last_seen = row.key
        return Page(
            entries=entries,
            prefixes=[rolled.decode() for rolled in walked.prefixes],
            truncated=walked.truncated,
            next_key=walked.last_key.decode(),
            next_version=walked.last_row.version_id if walked.last_row else "",
        )

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
        below, roll, behind = utf8(prefix), utf8(delimiter), utf8(after)
        high = above(below)

        def work(tx: Tx) -> Walked:
            number = known(tx, bucket).number

            def fetch(low: bytes, upload: str | None, size: int) -> Sequence[UploadRow]:
                return uploads.page(tx, number, low, high, upload or "", size)

            low = behind if after_upload else start(below, roll, behind)
            return Walk(fetch, _id, below, roll, limit).page(low, after_upload or None)

        walked = await self.ground.db.read(work) if limit > 0 else _NOTHING
        return UploadsPage(
            uploads=[upload_of(bucket, row) for row in walked.rows],
            prefixes=[rolled.decode() for rolled in walked.prefixes],
            truncated=walked.truncated,
            next_key=walked.last_key.decode(),
            next_upload=walked.last_row.id if walked.last_row else "",
        )


_NOTHING = Walked([], [], False, b"", None)


def upload_of(bucket: str, row: UploadRow) -> Upload:
    document = upload_document(row.document)
    return Upload(
        bucket=bucket,
        key=row.key.decode(),
        upload_id=row.id,
        initiated=moment(row.initiated_ms),
        initiator=document.initiator,
        new=document.new,
        encryption=document.encryption,
        checksum_algorithm=document.checksum_algorithm,
        checksum_type=document.checksum_type,
    )


def _rank_of(tx: Tx, bucket: int, key: bytes, version_id: str) -> int | None:
    """Behind which rank a page goes on; None when nobody knows, which is behind the whole key."""
    if version_id != NULL:
        return versioning.rank_in(version_id) if versioning.is_version_id(version_id) else None
    row, _ = versioning.locate(tx, bucket, key, version_id)
    return row.rank if row else None
