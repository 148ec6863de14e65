"""An object store in memory, whose lines break and whose objects change when a test says so."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from mallee.domain.guest import ImageFile
from mallee.kernel.errors import Fault, Kind
from mallee.nc.images.objects import Stored, check_pin

BUCKET = "images"


class PretendStore:
    """Implements `mallee.nc.images.objects.Objects`.

    Attributes:
        asked: somebody has begun to read.
        reads: the offsets at which somebody began to read, in order.
        cut_after: after how many pieces each of the next reads breaks.
    """

    def __init__(self, piece: int = 64 * 1024) -> None:
        self.objects: dict[tuple[str, str], tuple[bytes, Mapping[str, str]]] = {}
        self.reads: list[int] = []
        self.cut_after: list[int] = []
        self.asked = asyncio.Event()
        self._piece = piece

    def put(self, key: str, content: bytes, kind: str = "", virtual_bytes: int = 0) -> ImageFile:
        """An object, and its pin."""
        self.objects[BUCKET, key] = (content, {})
        return ImageFile(BUCKET, key, "null", len(content), _etag(content), kind, virtual_bytes)

    async def read(self, file: ImageFile, offset: int) -> AsyncGenerator[bytes, None]:
        self.reads.append(offset)
        self.asked.set()
        stored = await self.stat(file.bucket, file.key)
        if stored is None:
            raise Fault(Kind.NOT_FOUND, "There is no such object.", code="no-such-image")
        check_pin(file, stored)
        content = self.objects[file.bucket, file.key][0]
        left = self.cut_after.pop(0) if self.cut_after else -1
        for at in range(offset, len(content), self._piece):
            if not left:
                raise Fault(Kind.UNAVAILABLE, "The line broke.", code="cut-off")
            left -= 1
            yield content[at : at + self._piece]

    async def stat(self, bucket: str, key: str) -> Stored | None:
        found = self.objects.get((bucket, key))
        if found is None:
            return None
        content, headers = found
        return Stored(len(content), _etag(content), "null", "", headers)

    async def write(
        self, bucket: str, key: str, owner: str, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
    ) -> Stored:
        assert owner
        content = b"".join([piece async for piece in pieces])
        if (bucket, key) in self.objects:
            raise Fault(Kind.CONFLICT, "There is one.", code="PreconditionFailed")
        self.objects[bucket, key] = (content, headers)
        stored = await self.stat(bucket, key)
        assert stored is not None
        return stored


def _etag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
