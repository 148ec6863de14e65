"""Reading objects: verified, in ranges, while others delete them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import structlog

from mallee.kernel.db import Tx
from mallee.walrus.db import contents
from mallee.walrus.db.contents import ContentRow
from mallee.walrus.errors import S3Error
from mallee.walrus.store import sealing
from mallee.walrus.store.blobs import Blob, Damaged, Missing, Piece, verify
from mallee.walrus.store.documents import Part, Version
from mallee.walrus.store.ground import Room
from mallee.walrus.store.reading import Departure, PartEntry, Source, offsets, unpack_parts

_log = structlog.get_logger()


class Reads(Room):
    """What the store does for readers."""

    async def read(
        self,
        version: Version,
        first: int = 0,
        last: int | None = None,
        *,
        customer_key: bytes | None = None,
        sendfile: bool = True,
    ) -> Departure:
        """The bytes from `first` to `last` (both inclusive, inside the object), the first block verified already.

        An object that is kept by SSE-C needs its `customer_key`. `sendfile=False` gives bytes always.

        Raises:
            S3Error: InvalidRequest without the key of an SSE-C object (or with one for another), AccessDenied for a wrong key,
                NoSuchKey when it was deleted long ago.
            Fault: INTERNAL `damaged`, UNAVAILABLE.
        """
        content = version.content
        assert content is not None, "a delete marker has no bytes"
        sealing.check_customer_key(content.crypt, customer_key)
        last = content.size - 1 if last is None else last
        if content.inline is not None and not content.crypt and first <= last:
            return Departure(last + 1 - first, self._kept_small(content)[first : last + 1], None)
        source = Source(self.ground, customer_key, sendfile, self._content)
        self.ground.read[content.id] += 1
        pieces = self._watched(source, content, first, last)
        try:
            begun = await anext(pieces, None)
        except BaseException:
            self._end_reading(content.id)
            raise
        return Departure(max(0, last + 1 - first), begun, pieces, lambda: self._end_reading(content.id))

    def check_customer_key(self, version: Version, customer_key: bytes | None) -> None:
        """As `read` does, for HEAD. Raises S3Error InvalidRequest, AccessDenied."""
        assert version.content is not None, "a delete marker has no bytes"
        sealing.check_customer_key(version.content.crypt, customer_key)

    async def part_range(self, version: Version, number: int) -> tuple[int, int, Part]:
        """Offset and length of part `number` of an object that was uploaded in parts, and what is known of it.

        Raises:
            S3Error: InvalidPartNumber.
        """
        entries = _entries(version)
        for start, entry in zip(offsets(entries), entries, strict=True):
            if entry.number == number:
                return start, entry.size, _part(entry)
        raise S3Error("InvalidPartNumber")

    async def parts_of(self, version: Version, after: int = 0, limit: int = 1000) -> Sequence[Part]:
        """The parts from behind number `after`, for GetObjectAttributes; none for an object that was put whole."""
        return [_part(entry) for entry in _entries(version) if entry.number > after][:limit]

    def _kept_small(self, content: ContentRow) -> bytes:
        """The bytes in a row: most objects are small, and need none of what leads to a large one's. Raises Damaged."""
        assert content.inline is not None
        try:
            verify(Blob(content.id, content.stored, content.crcs), 0, content.inline)
        except Damaged as damage:
            self._tell_of(damage)
            raise
        return content.inline

    def _tell_of(self, damage: Damaged) -> None:
        self.ground.metrics.damaged += 1
        _log.error("damaged content", content=damage.name.hex(), why=damage.why)

    async def _watched(
        self, source: Source, content: ContentRow, first: int, last: int
    ) -> AsyncGenerator[Piece, None]:
        """The pieces; damage is counted and logged, and what is gone is told from what is lost."""
        pieces = source.pieces(content, first, last)
        try:
            async for piece in pieces:
                yield piece
        except Damaged as damage:
            self._tell_of(damage)
            raise
        except Missing as missing:
            if await self.ground.db.look(lambda tx: contents.find(tx, content.id)) is None:
                raise S3Error("NoSuchKey") from missing
            self.ground.metrics.damaged += 1
            _log.error("lost content", content=missing.name.hex())
            raise Damaged(missing.name, "There is no such blob.") from missing
        finally:
            await pieces.aclose()

    async def _content(self, name: bytes) -> ContentRow:
        """A part's. Raises Missing."""

        def work(tx: Tx) -> ContentRow | None:
            return contents.find(tx, name)

        found = await self.ground.db.look(work)
        if found is None:
            raise Missing(name)
        return found

    def _end_reading(self, name: bytes) -> None:
        reading = self.ground.read
        reading[name] -= 1
        if not reading[name]:
            del reading[name]


def _entries(version: Version) -> list[PartEntry]:
    manifest = version.content.manifest if version.content else None
    return unpack_parts(manifest) if manifest is not None else []


def _part(entry: PartEntry) -> Part:
    return Part(entry.number, entry.size, entry.etag, entry.modified_ms, entry.checksums)
