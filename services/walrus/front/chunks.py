"""`aws-chunked`: a body in chunks, each with its size and perhaps a signature, perhaps with a trailer.

The decoder is fed with whatever came and gives views into it, never copies. The framing is

    hex-size[;chunk-signature=64 hex] CRLF  data CRLF  ...  0[;chunk-signature=...] CRLF  [trailer] CRLF

Source: "Signature calculations for the Authorization header: transferring payload in multiple
chunks" and "... including trailing headers" of the S3 API reference.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from mallee.aws.sigv4_s3 import Chain
from mallee.walrus.errors import S3Error

LONGEST_LINE: Final = 1024
LONGEST_TRAILER: Final = 8 * 1024
SMALLEST_SIGNED: Final = 8 * 1024  # of a signed chunk that is not the last
_SIGNATURE: Final = "x-amz-trailer-signature"

_size_line = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?").fullmatch
_trailer_line = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x1f\x7f]*?)[ \t]*").fullmatch


class Chunks:
    """One body's decoder.

    Args:
        length: how many bytes the chunks must hold together.
        chain: of the signatures; None where chunks are not signed.
        trailers: whether trailing headers may follow.
    """

    def __init__(self, length: int, *, chain: Chain | None, trailers: bool) -> None:
        self.trailers: dict[str, str] = {}
        self._missing = length
        self._chain = chain
        self._with_trailers = trailers
        self._line = bytearray()  # a size line that is not whole, or all that follows the last chunk
        self._left = 0  # of the chunk's data
        self._to_skip = b""  # what must come before the next size line
        self._at_end = False
        self._signature = ""
        self._hash: Any = None
        self._was_small = False

    def feed(self, block: bytes | memoryview) -> Iterator[memoryview]:
        """Views of the data in a block.

        Raises:
            S3Error: SignatureDoesNotMatch, InvalidChunkSizeError, IncompleteBody, InvalidRequest.
        """
        view = memoryview(block)
        at, size = 0, len(view)
        while at < size:
            if self._at_end:
                self._line += view[at:]
                if len(self._line) > LONGEST_TRAILER:
                    raise S3Error("MalformedTrailerError", "What follows the last chunk is too long.")
                return
            if self._left:
                data = view[at : at + self._left]
                at += len(data)
                self._left -= len(data)
                if self._hash is not None:
                    self._hash.update(data)
                yield data
                if not self._left:
                    self._close_chunk()
            else:
                at = self._read_line(view, at)

    def finish(self) -> None:
        """The body has ended.

        Raises:
            S3Error: IncompleteBody, MalformedTrailerError, SignatureDoesNotMatch.
        """
        if not self._at_end or self._missing:
            raise S3Error("IncompleteBody", "The chunks end before x-amz-decoded-content-length is reached.")
        lines = [line.rstrip(b"\r") for line in bytes(self._line).split(b"\n")]
        signed = bytearray()
        signature = ""
        for line in filter(None, lines):
            found = _trailer_line(line)
            if found is None or not self._with_trailers or signature:
                raise S3Error("MalformedTrailerError")
            name, value = found[1].decode().lower(), found[2].decode("latin-1")
            if name == _SIGNATURE:
                signature = value
            elif name in self.trailers:
                raise S3Error("MalformedTrailerError")
            else:
                self.trailers[name] = value
                signed += f"{name}:{value}\n".encode("latin-1")
        if self._chain is not None and self._with_trailers:
            _compare(self._chain.trailer(bytes(signed)), signature)
        elif signature:
            raise S3Error("MalformedTrailerError")

    def _read_line(self, view: memoryview, at: int) -> int:
        """Take a size line, or as much of it as there is; returns where to go on."""
        # A line is short: look no further than one may be.
        part = bytes(view[at : at + LONGEST_LINE])
        end = part.find(b"\n")
        self._line += part if end < 0 else part[: end + 1]
        if len(self._line) > LONGEST_LINE:
            raise S3Error("InvalidRequest", "The line before a chunk is too long.")
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._open_chunk(line)
        return at + (len(part) if end < 0 else end + 1)

    def _open_chunk(self, line: bytes) -> None:
        if self._to_skip:  # the line break after the data of the chunk before
            if line != self._to_skip:
                raise S3Error("IncompleteBody", "A chunk is longer than it says.")
            self._to_skip = b""
            return
        found = _size_line(line.removesuffix(b"\r\n"))
        if found is None or not line.endswith(b"\r\n"):
            raise S3Error("InvalidRequest", "A chunk of the body does not begin with its size.")
        size = int(found[1], 16)
        if (self._chain is None) != (found[2] is None):
            raise S3Error("InvalidRequest", "The chunks of this body must be signed, or none of them.")
        if size > self._missing:
            raise S3Error("IncompleteBody", "The chunks hold more than x-amz-decoded-content-length says.")
        if self._chain is not None:
            if size and self._was_small:
                raise S3Error("InvalidChunkSizeError")
            self._was_small = size < SMALLEST_SIGNED
            self._signature, self._hash = found[2].decode(), sha256()
        self._missing -= size
        self._left = size
        if not size:
            self._close_chunk()
            self._at_end = True

    def _close_chunk(self) -> None:
        if self._chain is not None:
            _compare(self._chain.chunk(self._hash.hexdigest()), self._signature)
            self._hash = None
        self._to_skip = b"\r\n"


def _compare(wanted: str, given: str) -> None:
    if not hmac.compare_digest(wanted, given):
        raise S3Error("SignatureDoesNotMatch", StringToSign="AWS4-HMAC-SHA256-PAYLOAD")
