"""Encryption at rest: AES-256-GCM by segments, each object under a data key of its own.

A segment is 64 KiB as it lies there: 65,520 bytes and their tag. So any range is read by opening
the segments that it touches. The nonce is the segment's number and whether it is the last one
(STREAM; Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015): segments cannot be exchanged, nor the end cut off.
A data key is used for one content only, which is why numbers may serve as nonces.

The data key is kept sealed: for SSE-S3 by the store's own keys, for SSE-C by the client's key, of
which only a salted digest is kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mallee.kernel.entropy import Entropy
from mallee.kernel.file_system import Bytes
from mallee.kernel.secrets_box import SecretsBox
from mallee.walrus.errors import S3Error
from mallee.walrus.store.blobs import Damaged

SEGMENT = 65536
_TAG = 16
_ROOM = SEGMENT - _TAG  # bytes of an object in a segment

Kind = Literal["", "AES256", "customer"]


class Crypt(msgspec.Struct, array_like=True, frozen=True):
    """How a content can be opened.

    Attributes:
        sealed: the data key, sealed by the store's box (SSE-S3) or by the client's key (SSE-C).
        salt, digest: prove a client's key without keeping it.
    """

    kind: Kind
    sealed: bytes
    salt: bytes = b""
    digest: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Crypt] = msgspec.msgpack.Decoder(Crypt).decode


def stored_size(size: int) -> int:
    """Of `size` bytes, once sealed."""
    return size + _TAG * -(-size // _ROOM)


def kind_of(crypt: bytes) -> Kind:
    return _decode(crypt).kind if crypt else ""


def new_key(box: SecretsBox, entropy: Entropy, customer_key: bytes | None) -> tuple[bytes, bytes]:
    """A data key, and how to keep it."""
    key = entropy.token(32)
    if customer_key is None:
        return key, _encode(Crypt("AES256", box.seal(base64.b64encode(key).decode()).encode()))
    salt = entropy.token(16)
    nonce = entropy.token(12)
    sealed = nonce + AESGCM(customer_key).encrypt(nonce, key, None)
    return key, _encode(Crypt("customer", sealed, salt, _digest(salt, customer_key)))


def check_customer_key(crypt: bytes, customer_key: bytes | None) -> None:
    """Whether this key is given exactly where one is needed, and is the right one.

    Raises:
        S3Error: InvalidRequest, AccessDenied.
    """
    found = _decode(crypt) if crypt else None
    if found is None or found.kind != "customer":
        if customer_key is not None:
            raise S3Error(
                "InvalidRequest",
                "The encryption parameters are not applicable to this object.",
            )
    elif customer_key is None:
        raise S3Error(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.",
        )
    elif not hmac.compare_digest(_digest(found.salt, customer_key), found.digest):
        raise S3Error("AccessDenied")


def data_key(box: SecretsBox, crypt: bytes, customer_key: bytes | None) -> bytes:
    """The key that opens the segments. Raises S3Error as `check_customer_key`, Fault INTERNAL."""
    check_customer_key(crypt, customer_key)
    found = _decode(crypt)
    if customer_key is None:
        return base64.b64decode(box.unseal(found.sealed.decode()).reveal())
    return AESGCM(customer_key).decrypt(found.sealed[:12], found.sealed[12:], None)


def _digest(salt: bytes, key: bytes) -> bytes:
    return hashlib.sha256(salt + key).digest()


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + bytes((last,))


class Sealer:
    """Seals what passes, segment by segment."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._number = 0
        self._rest = bytearray()

    def add(self, data: Bytes) -> bytes:
        """The segments that are full. The last one stays: only the end knows that it is the last."""
        self._rest += data
        whole = max(0, len(self._rest) - 1) // _ROOM
        if not whole:
            return b""
        view = memoryview(self._rest)
        sealed = b"".join(
            [self._seal(view[each * _ROOM : (each + 1) * _ROOM], last=False) for each in range(whole)]
        )
        view.release()
        del self._rest[: whole * _ROOM]
        return sealed

    def end(self) -> bytes:
        """The last segment; nothing for an empty object."""
        return self._seal(bytes(self._rest), last=True) if self._rest or self._number else b""

    def _seal(self, data: Bytes, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._number, last=last), data, None)
        self._number += 1
        return sealed


class Opener:
    """Opens the segments of a range of one content.

    Args:
        name: of the content, for complaints.
        key: its data key.
        size: of the whole object in it.
        first, last: the range, both inclusive.
    """

    def __init__(self, name: bytes, key: bytes, size: int, first: int, last: int) -> None:
        self._name = name
        self._cipher = AESGCM(key)
        self._number = first // _ROOM
        self._end = -(-size // _ROOM)
        self._last_size = stored_size(size) - (self._end - 1) * SEGMENT
        self._skip = first % _ROOM
        self._left = last + 1 - first
        self._rest = bytearray()
        self.stored_first = self._number * SEGMENT
        self.stored_last = min((last // _ROOM + 1) * SEGMENT, stored_size(size)) - 1

    def add(self, data: Bytes) -> bytes:
        """What can be opened of the range by now. Raises Damaged."""
        self._rest += data
        opened = []
        while self._left and len(self._rest) >= (length := self._segment_size()):
            opened.append(self._open(bytes(self._rest[:length])))
            del self._rest[:length]
        return b"".join(opened)

    def _segment_size(self) -> int:
        return self._last_size if self._number == self._end - 1 else SEGMENT

    def _open(self, segment: bytes) -> bytes:
        try:
            plain = self._cipher.decrypt(
                _nonce(self._number, last=self._number == self._end - 1), segment, None
            )
        except InvalidTag as error:
            raise Damaged(self._name, f"Segment {self._number} is not what was sealed.") from error
        self._number += 1
        wanted = plain[self._skip : self._skip + self._left]
        self._skip = 0
        self._left -= len(wanted)
        return wanted
