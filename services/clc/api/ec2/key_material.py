"""SSH keys themselves: made, read, fingerprinted as EC2 does.

A fingerprint tells who made the key: SHA-1 of the private key for RSA made here, MD5 of the public
key for RSA imported, SHA-256 as OpenSSH shows it for ED25519. Source: "Verify the fingerprint of
your key pair".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mallee.aws.errors import InvalidParameterValue, UnsupportedOperation
from mallee.clc.errors import InvalidKeyFormat

RSA_BITS = 2048
IMPORTED_RSA_BITS = (1024, 2048, 4096)
LONGEST_IMPORT = 16 * 1024


class Material(NamedTuple):
    """A key: its public half as one OpenSSH line, its private half in PEM if it was made here."""

    type: str
    fingerprint: str
    public: str
    private: str = ""


async def create(kind: str, form: str) -> Material:
    """A new key, made in a thread: an RSA key takes tenths of a second.

    Raises:
        InvalidParameterValue: neither `rsa` nor `ed25519`, neither `pem` nor `ppk`.
        UnsupportedOperation: `ppk`, which is PuTTY's own.
    """
    if kind not in {"rsa", "ed25519"}:
        raise InvalidParameterValue(f"Value ({kind}) for parameter KeyType is invalid. Use rsa or ed25519.")
    if form not in {"pem", "ppk"}:
        raise InvalidParameterValue(f"Value ({form}) for parameter KeyFormat is invalid. Use pem or ppk.")
    if form == "ppk":
        raise UnsupportedOperation("This cloud makes no ppk files. Ask for pem; puttygen converts it.")
    return await asyncio.get_running_loop().run_in_executor(None, _rsa if kind == "rsa" else _ed25519)


def _rsa() -> Material:
    # The library draws from the system's generator itself: nothing else may make a private key.
    key: RSAPrivateKey = generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return Material(
        "rsa",
        _colons(hashlib.sha1(der, usedforsecurity=False).digest()),
        _line(key.public_key()),
        pem.decode(),
    )


def _ed25519() -> Material:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    line = _line(key.public_key())
    return Material("ed25519", _sha256(line), line, pem.decode())


def read(text: bytes) -> Material:
    """A public key that somebody else made.

    Raises:
        InvalidKeyFormat: not a public key, or of a kind or size that EC2 does not take.
    """
    try:
        key = _load(text.strip())
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise InvalidKeyFormat from error
    if isinstance(key, Ed25519PublicKey):
        line = _line(key)
        return Material("ed25519", _sha256(line), line)
    if not isinstance(key, RSAPublicKey) or key.key_size not in IMPORTED_RSA_BITS:
        raise InvalidKeyFormat
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Material("rsa", _colons(hashlib.md5(der, usedforsecurity=False).digest()), _line(key))


def _load(text: bytes) -> object:
    if len(text) > LONGEST_IMPORT:
        raise ValueError("too long for a public key")
    if text.startswith((b"ssh-", b"ecdsa-")):
        return serialization.load_ssh_public_key(text)
    if text.startswith(b"---- BEGIN SSH2"):  # RFC 4716
        body = b"".join(line for line in text.splitlines()[1:-1] if b":" not in line)
        kind = base64.b64decode(body)[4:15].split(b"\0", 1)[0]
        return serialization.load_ssh_public_key(kind + b" " + body)
    if text.startswith(b"-----BEGIN"):
        return serialization.load_pem_public_key(text)
    try:
        return serialization.load_der_public_key(text)
    except ValueError:  # also the base64 of a DER
        return serialization.load_der_public_key(base64.b64decode(text, validate=True))


def _line(key: RSAPublicKey | Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _sha256(line: str) -> str:
    return base64.b64encode(hashlib.sha256(base64.b64decode(line.split()[1])).digest()).decode()


def _colons(digest: bytes) -> str:
    return digest.hex(":")
