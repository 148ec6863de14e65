"""Hashes and checksums of a body, all in one pass over its blocks.

Each algorithm by whatever computes it fastest: OpenSSL for the hashes, zlib for CRC-32, the AWS
common runtime for the two that nothing else has in hardware.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from awscrt import checksums as hardware

from mallee.walrus.errors import S3Error

Block = bytes | memoryview


class Digest(Protocol):
    """As much of hashlib's objects as is used."""

    def update(self, block: Block, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, function: Callable[[Block, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, block: Block, /) -> None:
        self._value = self._function(block, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _md5() -> Digest:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Digest:
    return hashlib.sha1(usedforsecurity=False)


ALGORITHMS: Final[Mapping[str, tuple[int, Callable[[], Digest]]]] = {
    "CRC32": (4, lambda: _Crc(zlib.crc32, 4)),
    "CRC32C": (4, lambda: _Crc(hardware.crc32c, 4)),
    "CRC64NVME": (8, lambda: _Crc(hardware.crc64nvme, 8)),
    "SHA1": (20, _sha1),
    "SHA256": (32, hashlib.sha256),
}
HEADERS: Final[Mapping[bytes, str]] = {
    b"x-amz-checksum-" + name.lower().encode(): name for name in ALGORITHMS
}
_OTHERS: Final = frozenset(
    {b"x-amz-checksum-" + name for name in (b"sha512", b"md5", b"xxhash3", b"xxhash64", b"xxhash128")}
)
MD5: Final = "MD5"


class Digests:
    """Those of one body: by the names of `ALGORITHMS`, and `MD5`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._running: dict[str, Digest] = {
            name: _md5() if name == MD5 else ALGORITHMS[name][1]() for name in names
        }
        self._updates = [one.update for one in self._running.values()]

    def __bool__(self) -> bool:
        return bool(self._updates)

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def update(self, block: Block) -> None:
        for update in self._updates:
            update(block)

    def raw(self, name: str) -> bytes:
        return self._running[name].digest()

    def text(self, name: str) -> str:
        """In base64, as S3 shows checksums."""
        return b64encode(self.raw(name)).decode("ascii")


def stated_checksum(headers: Mapping[bytes, bytes]) -> tuple[str, str] | None:
    """The algorithm and value that the headers give, if any.

    Raises:
        S3Error: InvalidRequest for two of them, or one that is no checksum of its algorithm.
    """
    if not _OTHERS.isdisjoint(headers):
        raise S3Error("NotImplemented", "The checksum algorithm that you specified is not implemented.")
    given = [*(HEADERS.keys() & headers.keys())]
    if len(given) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    if not given:
        return None
    algorithm, value = HEADERS[given[0]], headers[given[0]].decode("latin-1")
    check_form(algorithm, value)
    return algorithm, value


def check_form(algorithm: str, value: str) -> None:
    """Whether a value can be a checksum of the algorithm at all.

    Raises:
        S3Error: InvalidRequest.
    """
    if len(_base64(value)) != ALGORITHMS[algorithm][0]:
        name = f"x-amz-checksum-{algorithm.lower()}"
        raise S3Error("InvalidRequest", f"Value for {name} header is invalid.")


def stated_md5(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The 16 bytes of `Content-MD5`.

    Raises:
        S3Error: InvalidDigest.
    """
    given = headers.get(b"content-md5")
    if given is None:
        return None
    value = _base64(given.decode("latin-1"))
    if len(value) != 16:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.")
    return value


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
