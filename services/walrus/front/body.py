"""The body of a request: decoded, counted, hashed and verified while it is read, in one pass.

Every mode of S3 ends in the same iterator of blocks. It raises the typed error of whatever was
wrong at the latest at its end; only after a clean end was the body whole and what was signed. The
hashes of a large body are made beside the loop, while the reader of the block does its work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Protocol

from mallee.aws.sigv4_s3 import (
    EMPTY,
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED,
    Chain,
)
from mallee.kernel.threads import Threads
from mallee.walrus.errors import S3Error
from mallee.walrus.front.chunks import Chunks
from mallee.walrus.front.digests import (
    ALGORITHMS,
    HEADERS,
    MD5,
    Block,
    Digests,
    check_form,
    stated_checksum,
    stated_md5,
)

_STREAMING: Final = {STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER}
_WITH_TRAILERS: Final = {STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER}
_HASHED_ASIDE: Final = 128 * 1024  # bytes; below, a thread costs more than it saves


class Source(Protocol):
    """Where a body's bytes come from."""

    @property
    def length(self) -> int | None:
        """In bytes, if that is known."""

    def blocks(self) -> AsyncIterator[Block]:
        """They, each piece valid until the next is asked for."""

    def at_once(self) -> bytes | None:
        """All of them, if they are here already; `blocks` has nothing more to give then."""


class Sink(Protocol):
    """Where a body goes."""

    async def write(self, block: Block, also: Callable[[Block], None] | None = None, /) -> None:
        """Write a block, and call `also` with it, once, in whatever thread."""


class Body:
    """What a handler reads.

    Args:
        incoming: the bytes on the wire.
        headers: of the request, by lower-case name.
        payload: what the signature says of the body: a hash in hexadecimal or one of S3's modes.
        chain: of the signatures of chunks.
        hashing: where large blocks are hashed.
        etag: whether the MD5 of all is wanted.
        checked: whether `x-amz-checksum-*` headers speak of this body; in some operations they
            speak of the object.

    Attributes:
        length: of the decoded bytes; None if the request does not say: an upload by form never does.

    Raises:
        S3Error: at once, for headers that contradict themselves: InvalidDigest, InvalidRequest,
            MissingContentLength, InvalidArgument.
    """

    def __init__(
        self,
        incoming: Source,
        headers: Mapping[bytes, bytes],
        *,
        payload: bytes = UNSIGNED,
        chain: Chain | None = None,
        hashing: Threads | None = None,
        etag: bool = False,
        checked: bool = True,
    ) -> None:
        self.length = incoming.length
        self._incoming = incoming
        self._hashing = hashing
        self._chunks: Chunks | None = None
        if payload in _STREAMING:
            self.length = decoded_length(headers)
            self._chunks = Chunks(self.length, chain=chain, trailers=payload in _WITH_TRAILERS)
        self._hash = None if payload in _STREAMING or payload == UNSIGNED else payload.decode()
        self._md5 = stated_md5(headers)
        self._stated = stated_checksum(headers) if checked else None
        self._trailing = _announced(headers) if payload in _WITH_TRAILERS else ()
        if self._stated and self._trailing:
            raise S3Error(
                "InvalidRequest", "Expecting a checksum in a header or in the trailer, not in both."
            )
        if checked:
            _check_algorithm(headers, self._stated, self._trailing)
        self._etag = etag or self._md5 is not None
        self._wanted = {self._stated[0]} if self._stated else set[str]()
        self._wanted.update(HEADERS[name.encode()] for name in self._trailing)
        self._digests: Digests | None = None
        self._sha: Any = None
        self._done = False

    def also(self, *algorithms: str) -> None:
        """Compute these checksums too. Before the first block is read."""
        assert self._digests is None
        self._wanted.update(algorithms)

    @property
    def md5(self) -> bytes:
        """Of all decoded bytes, 16 bytes; after the end only."""
        assert self._done
        assert self._digests is not None
        return self._digests.raw(MD5)

    @property
    def checksums(self) -> Mapping[str, str]:
        """Algorithm (`CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`) to base64; after the end only.

        Those that the client stated, in a header or the trailer, are verified; those asked for by
        `also` are computed.
        """
        assert self._done
        assert self._digests is not None
        return {name: self._digests.text(name) for name in ALGORITHMS if name in self._wanted}

    @property
    def stated(self) -> str:
        """The algorithm of the checksum that the client sent or will send in the trailer; empty if none."""
        if self._stated:
            return self._stated[0]
        return HEADERS[self._trailing[0].encode()] if self._trailing else ""

    def at_once(self) -> Block | None:
        """All of it, verified, if it is here already: small ones need nothing of what leads through a large one.

        Raises:
            S3Error: as the iterator.
        """
        assert self._digests is None, "a body is read once"
        whole = self._incoming.at_once()
        if whole is None:
            return None
        self._begin()
        decoded: Block = whole if self._chunks is None else b"".join(self._chunks.feed(whole))
        self._update(decoded)
        self._verify(len(decoded))
        self._done = True
        return decoded

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Decoded blocks of up to 1 MiB, each valid until the next is asked for.

        Raises:
            S3Error: XAmzContentSHA256Mismatch, SignatureDoesNotMatch (a chunk's), IncompleteBody, BadDigest,
                InvalidRequest, InvalidChunkSizeError, MalformedTrailerError, RequestTimeout.
            Disconnected: the client went away.
        """
        async for piece in self._pieces():
            if len(piece) < _HASHED_ASIDE or self._hashing is None:
                self._update(piece)
            else:
                await self._hashing.run(self._update, piece)
            yield piece

    async def pour(self, into: Sink) -> None:
        """Write all of it, verified at the end. Large blocks are hashed where they are written.

        One thread that does both finds the block in its own cache the second time, and is woken once.

        Raises:
            S3Error, Disconnected: as the iterator; and what `into` raises.
        """
        whole = self.at_once()
        if whole is not None:
            await into.write(whole)
            return
        async for piece in self._pieces():
            if len(piece) < _HASHED_ASIDE:
                self._update(piece)
                await into.write(piece)
            else:
                await into.write(piece, self._update)

    async def _pieces(self) -> AsyncIterator[Block]:
        """Decoded blocks, which whoever asks for them counts into the digests before he asks for the next."""
        assert self._digests is None, "a body is read once"
        self._begin()
        came = 0
        async for block in self._incoming.blocks():
            for piece in (block,) if self._chunks is None else self._chunks.feed(block):
                came += len(piece)
                if self.length is not None and came > self.length:
                    raise S3Error("IncompleteBody", "The body is longer than the request says.")
                yield piece
        self._verify(came)
        self._done = True

    async def whole(self, limit: int) -> bytes:
        """All of it, verified.

        Raises:
            S3Error: as the iterator; MaxMessageLengthExceeded beyond `limit` bytes.
        """
        if self.length == 0 and not self._has_claims():
            self._digests, self._done = Digests(()), True  # most requests, and nothing to be verified
            return b""
        _check_size(self.length or 0, limit)
        found = bytearray()
        async for block in self:
            found += block
            _check_size(len(found), limit)
        return bytes(found)

    def _begin(self) -> None:
        self._digests = Digests([MD5, *self._wanted] if self._etag else self._wanted)
        self._sha = sha256() if self._hash is not None else None

    def _has_claims(self) -> bool:
        """Whether anything is said of the body that an empty one might not be."""
        return self._chunks is not None or self._hash not in {None, EMPTY} or bool(self._md5 or self._stated)

    def _update(self, piece: Block) -> None:
        assert self._digests is not None
        self._digests.update(piece)
        if self._sha is not None:
            self._sha.update(piece)

    def _verify(self, came: int) -> None:
        if self._chunks is not None:
            self._chunks.finish()
        if self.length is not None and came != self.length:
            raise S3Error("IncompleteBody")
        if self._sha is not None and self._sha.hexdigest() != self._hash:
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                ClientComputedContentSHA256=self._hash or "",
                S3ComputedContentSHA256=self._sha.hexdigest(),
            )
        assert self._digests is not None
        if self._md5 is not None and self._digests.raw(MD5) != self._md5:
            raise S3Error(
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
                CalculatedDigest=self._digests.text(MD5),
            )
        if self._stated is not None:
            self._verify_checksum(*self._stated)
        self._verify_trailer()

    def _verify_trailer(self) -> None:
        if self._chunks is None:
            return
        given = self._chunks.trailers
        if set(given) != set(self._trailing):
            raise S3Error("MalformedTrailerError")
        for name, value in given.items():
            algorithm = HEADERS[name.encode()]
            check_form(algorithm, value)
            self._verify_checksum(algorithm, value)

    def _verify_checksum(self, algorithm: str, value: str) -> None:
        assert self._digests is not None
        if self._digests.text(algorithm) != value:
            raise S3Error(
                "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
            )


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=str(limit))


def decoded_length(headers: Mapping[bytes, bytes]) -> int:
    """What the chunks of an `aws-chunked` body hold together.

    Raises:
        S3Error: MissingContentLength, InvalidArgument.
    """
    given = headers.get(b"x-amz-decoded-content-length")
    if given is None:
        raise S3Error("MissingContentLength")
    return whole_number(given, "x-amz-decoded-content-length")


def whole_number(given: bytes, name: str) -> int:
    """A count of bytes in a header.

    Raises:
        S3Error: InvalidArgument.
    """
    if not given.isdigit() or len(given) > 18:
        text = given[:64].decode("latin-1")
        raise S3Error("InvalidArgument", f"{name} is not a number.", ArgumentName=name, ArgumentValue=text)
    return int(given)


def _announced(headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """The checksum that the trailer will bring."""
    names = [name.strip().lower() for name in headers.get(b"x-amz-trailer", b"").split(b",") if name.strip()]
    if len(names) > 1 or any(name not in HEADERS for name in names):
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return tuple(name.decode() for name in names)


def _check_algorithm(
    headers: Mapping[bytes, bytes], stated: tuple[str, str] | None, trailing: tuple[str, ...]
) -> None:
    given = headers.get(b"x-amz-sdk-checksum-algorithm")
    if given is None:
        return
    name = given.decode("latin-1").upper()
    if name not in ALGORITHMS:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    if stated is None and not trailing:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
            "headers were found.",
        )
    if name not in {stated[0] if stated else "", *(HEADERS[one.encode()] for one in trailing)}:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
