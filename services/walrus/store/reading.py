"""Bytes on their way out, whatever they are kept as: small, large, sealed, in parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from os import close
from typing import NamedTuple

import msgspec

from mallee.walrus.db.contents import ContentRow
from mallee.walrus.front.call import FileRange
from mallee.walrus.store import sealing
from mallee.walrus.store.blobs import Blob, Piece, verify
from mallee.walrus.store.ground import Ground


class PartEntry(NamedTuple):
    """A part in the list of an object's parts; `content` names its bytes."""

    number: int
    content: bytes
    size: int
    etag: str
    modified_ms: int
    checksums: dict[str, str]


pack_parts = msgspec.msgpack.Encoder().encode
unpack_parts: Callable[[bytes], list[PartEntry]] = msgspec.msgpack.Decoder(list[PartEntry]).decode


class Departure:
    """What `Store.read` gives. The first piece is there already.

    Attributes:
        whole: all of it, if that was kept in the database: nothing is to be awaited or closed then.
    """

    def __init__(
        self,
        length: int,
        first: Piece | None,
        rest: AsyncGenerator[Piece, None] | None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self.length = length
        self.whole = first if rest is None and isinstance(first, bytes) else None
        self._first = first
        self._rest = rest
        self._ended = ended

    async def __aiter__(self) -> AsyncIterator[Piece]:
        first, self._first = self._first, None
        if first is not None:
            yield first
            if self._rest is not None:
                async for piece in self._rest:
                    yield piece

    async def aclose(self) -> None:
        if isinstance(self._first, FileRange):
            close(self._first.fd)
        self._first = None
        if self._rest is not None:
            await self._rest.aclose()
        if self._ended is not None:
            ended, self._ended = self._ended, None
            ended()


class Source(NamedTuple):
    """A content and what it takes to read it."""

    ground: Ground
    customer_key: bytes | None
    sendfile: bool
    find: Callable[[bytes], Awaitable[ContentRow]]  # a part's content

    async def pieces(self, content: ContentRow, first: int, last: int) -> AsyncGenerator[Piece, None]:
        """From `first` to `last`, both inclusive; nothing when `last` < `first`."""
        if last < first:
            return
        if content.manifest is not None:
            inside = self._of_parts(content.manifest, first, last)
        elif content.crypt:
            inside = self._opened(content, first, last)
        else:
            inside = self._plain(content, first, last, sendfile=self.sendfile)
        async with aclosing(inside):
            async for piece in inside:
                yield piece

    async def _plain(
        self, content: ContentRow, first: int, last: int, *, sendfile: bool
    ) -> AsyncGenerator[Piece, None]:
        blob = Blob(content.id, content.stored, content.crcs)
        if content.inline is not None:
            verify(blob, 0, content.inline)
            yield memoryview(content.inline)[first : last + 1]
            return
        reading = self.ground.blobs.read(blob, first, last, sendfile=sendfile)
        async with aclosing(reading):
            async for piece in reading:
                yield piece

    async def _opened(self, content: ContentRow, first: int, last: int) -> AsyncGenerator[Piece, None]:
        key = sealing.data_key(self.ground.box, content.crypt, self.customer_key)
        opener = sealing.Opener(content.id, key, content.size, first, last)
        inside = self._plain(content, opener.stored_first, opener.stored_last, sendfile=False)
        async with aclosing(inside):
            async for piece in inside:
                assert not isinstance(piece, FileRange)
                if opened := opener.add(piece):
                    yield opened

    async def _of_parts(self, manifest: bytes, first: int, last: int) -> AsyncGenerator[Piece, None]:
        entries = unpack_parts(manifest)
        starts = offsets(entries)
        for index in range(bisect_right(starts, first) - 1, len(entries)):
            start, entry = starts[index], entries[index]
            if start > last:
                return
            content = await self.find(entry.content)
            inside = self.pieces(content, max(0, first - start), min(entry.size - 1, last - start))
            async with aclosing(inside):
                async for piece in inside:
                    yield piece


def offsets(entries: list[PartEntry]) -> list[int]:
    """Where each part begins."""
    found, at = [], 0
    for entry in entries:
        found.append(at)
        at += entry.size
    return found
