"""Checksums and etags of objects that were uploaded in parts, from those of the parts.

Source: "Checking object integrity in Amazon S3" of the S3 User Guide: composite checksums are the
checksum of the parts' checksums, full-object checksums are those of the whole, which for CRCs can be
combined from the parts' (Mark Adler's `crc32_combine`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from awscrt import checksums as crt

from mallee.kernel.file_system import Bytes
from mallee.walrus.store.documents import ChecksumType

_Combine = Callable[[int, int, int], int]


class Running(Protocol):
    """A checksum of what passes."""

    def update(self, data: Bytes, /) -> None: ...

    def text(self) -> str:
        """In base64."""


class _Crc:
    def __init__(self, function: Callable[[Bytes, int], int], width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: Bytes, /) -> None:
        self._value = self._function(data, self._value)

    def text(self) -> str:
        return base64.b64encode(self._value.to_bytes(self._width)).decode()


class _Sha:
    def __init__(self, name: str) -> None:
        self._digest = hashlib.new(name, usedforsecurity=False)

    def update(self, data: Bytes, /) -> None:
        self._digest.update(data)

    def text(self) -> str:
        return base64.b64encode(self._digest.digest()).decode()


class _None:
    def update(self, data: Bytes, /) -> None: ...

    def text(self) -> str:
        return ""


_RUNNING: dict[str, Callable[[], Running]] = {
    "": _None,
    "CRC32": lambda: _Crc(crt.crc32, 4),
    "CRC32C": lambda: _Crc(crt.crc32c, 4),
    "CRC64NVME": lambda: _Crc(crt.crc64nvme, 8),
    "SHA1": lambda: _Sha("sha1"),
    "SHA256": lambda: _Sha("sha256"),
}
_COMBINE: dict[str, tuple[_Combine, int]] = {
    "CRC32": (crt.combine_crc32, 4),
    "CRC32C": (crt.combine_crc32c, 4),
    "CRC64NVME": (crt.combine_crc64nvme, 8),
}


def running(algorithm: str) -> Running:
    """`CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`, or nothing at all."""
    return _RUNNING[algorithm]()


def of_bytes(algorithm: str, data: Bytes) -> str:
    """In base64."""
    checksum = running(algorithm)
    checksum.update(data)
    return checksum.text()


def of_parts(algorithm: str, kind: ChecksumType, parts: Sequence[tuple[str, int]]) -> str:
    """The object's checksum from its parts' (in base64) and sizes.

    Args:
        algorithm: as for `running`.
        kind: COMPOSITE, or FULL_OBJECT where the algorithm can be combined.
        parts: in order.
    """
    if kind == "FULL_OBJECT":
        return _combined(algorithm, parts)
    whole = b"".join([base64.b64decode(checksum) for checksum, _ in parts])
    return f"{of_bytes(algorithm, whole)}-{len(parts)}"


def etag_of_parts(etags: Iterable[str]) -> str:
    """MD5 of the parts' MD5s, and their number."""
    digests = [_digest(etag) for etag in etags]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _combined(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    combine, width = _COMBINE[algorithm]
    running = int.from_bytes(base64.b64decode(parts[0][0]))
    for checksum, size in parts[1:]:
        running = combine(running, int.from_bytes(base64.b64decode(checksum)), size)
    return base64.b64encode(running.to_bytes(width)).decode()


def _digest(etag: str) -> bytes:
    try:
        return bytes.fromhex(etag)
    except ValueError:  # the etag of a part that is kept by SSE-C need not be an MD5
        return etag.encode()
