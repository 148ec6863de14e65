"""The body of a request: decoded, counted, hashed and verified while it is read, in one pass.

Every mode of S3 ends in the same iterator of blocks. It raises the typed error of whatever was
wrong at the latest at its end; only after a clean end was the body whole and what was signed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol


class Body(Protocol):
    """What a handler reads.

    Attributes:
        length: of the decoded bytes; never None for an operation that streams.
    """

    length: int | None

    def __aiter__(self) -> AsyncIterator[memoryview | bytes]:
        """Blocks of about 1 MiB (the last is shorter), each valid until the next is asked for.

        Raises:
            S3Error: XAmzContentSHA256Mismatch, SignatureDoesNotMatch (a chunk's), IncompleteBody, BadDigest,
                InvalidDigest, InvalidRequest, MalformedTrailerError, RequestTimeout, EntityTooLarge.
            Disconnected: the client went away.
        """

    @property
    def md5(self) -> bytes:
        """Of all decoded bytes, 16 bytes; after the end only."""

    @property
    def checksums(self) -> Mapping[str, str]:
        """Algorithm (`CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`) to base64; after the end only.

        Those that the client stated, in a header or the trailer, are verified; those asked for by
        `also` are computed.
        """

    def also(self, *algorithms: str) -> None:
        """Compute these checksums too. Before the first block is read."""

    async def whole(self, limit: int) -> bytes:
        """All of it, verified.

        Raises:
            S3Error: as the iterator; MaxMessageLengthExceeded beyond `limit` bytes.
        """
