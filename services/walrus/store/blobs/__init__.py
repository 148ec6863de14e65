"""Where bytes lie: blobs, written once, never changed, checked whenever they are read.

A blob's name is the store's own, sixteen bytes that begin with the time; no client has a say in it.
Each MiB of what lies there has a CRC-32C, which the database keeps.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol

from awscrt.checksums import crc32c

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.file_system import Bytes
from mallee.walrus.front.call import FileRange

BLOCK = 1 << 20  # bytes that one checksum covers
SUM = 4  # bytes of a checksum

Piece = FileRange | memoryview | bytes


class Blob(NamedTuple):
    """A blob that is there, as the database knows it: `size` of what lies there, its blocks' checksums."""

    name: bytes
    size: int
    crcs: bytes


class Incoming(Protocol):
    """A blob that is being written; nobody sees it before `finish`."""

    async def write(self, data: Bytes, before: Callable[[], None] | None = None) -> None:
        """Append; `before` is called first, in the thread that writes. Raises Fault UNAVAILABLE."""

    async def finish(self) -> Blob:
        """The whole blob, durable under its name. Raises Fault UNAVAILABLE; then `discard` it."""

    async def discard(self) -> None:
        """Leave nothing behind, finished or not."""


class Blobs(Protocol):
    """A place for blobs. Its implementations pass `tests/conformance/test_blobs.py`."""

    def create(self, name: bytes) -> Incoming:
        """Begin a blob."""

    def read(self, blob: Blob, first: int, last: int, *, sendfile: bool) -> AsyncGenerator[Piece, None]:
        """The bytes from `first` to `last`, both inclusive, in pieces, each verified before it is given.

        Bytes are valid until the next piece; who gets a `FileRange` closes its descriptor.

        Raises:
            Damaged: a block is not what was written.
            Missing: there is no such blob.
            Fault: UNAVAILABLE.
        """

    async def remove(self, names: Sequence[bytes]) -> None:
        """Blobs that are not there are fine. Raises Fault UNAVAILABLE."""

    def names(self) -> AsyncIterator[list[bytes]]:
        """Whatever lies there."""

    async def close(self) -> None: ...


class Missing(Exception):  # noqa: N818 - whether it is an error depends on what the database says
    """There is no blob of this name."""

    def __init__(self, name: bytes) -> None:
        super().__init__(name.hex())
        self.name = name


class Damaged(Fault):
    """What lies there is not what was written."""

    def __init__(self, name: bytes, why: str) -> None:
        super().__init__(
            Kind.INTERNAL,
            f"The content {name.hex()} is damaged.",
            why=why,
            fix="Restore the object from a copy; look at the disk that holds it.",
            code="damaged",
        )
        self.name = name


class Sums:
    """The checksums of the blocks of a blob, computed while it passes."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = bytearray()
        self._running = 0

    def add(self, data: Bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[: BLOCK - self.size % BLOCK]
            self._running = crc32c(piece, self._running)
            self.size += len(piece)
            if self.size % BLOCK == 0:
                self._close_block()
            view = view[len(piece) :]

    def end(self) -> bytes:
        """Of all blocks, the last one too."""
        if self.size % BLOCK:
            self._close_block()
        return bytes(self._whole)

    def _close_block(self) -> None:
        self._whole += self._running.to_bytes(SUM)
        self._running = 0


def verify(blob: Blob, block: int, data: Bytes) -> None:
    """Whether these are block number `block`, whole. Raises Damaged."""
    expected = blob.crcs[block * SUM : (block + 1) * SUM]
    if len(data) != block_size(blob, block):
        raise Damaged(blob.name, f"Block {block} ends after {len(data)} of {block_size(blob, block)} bytes.")
    if crc32c(data).to_bytes(SUM) != expected:
        raise Damaged(blob.name, f"The checksum of block {block} is not {expected.hex()}.")


def block_size(blob: Blob, block: int) -> int:
    return min(BLOCK, blob.size - block * BLOCK)
