"""Chance, as the only source of it: identifiers, tokens, jitter."""

from __future__ import annotations

import os
import random
from typing import Protocol


class Entropy(Protocol):
    """A source of random bytes."""

    def token(self, size: int) -> bytes:
        """`size` bytes that nobody can guess."""

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`, for jitter and workloads."""


class SystemEntropy:
    """The operating system's generator."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)


class SeededEntropy:
    """The same numbers for the same seed, for tests and simulation. Not for secrets."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


def resource_id(entropy: Entropy, prefix: str) -> str:
    """An identifier as EC2 writes it today: `i-0` and sixteen hexadecimal digits."""
    return f"{prefix}-0{entropy.token(8).hex()}"


def resource_ids(entropy: Entropy, prefix: str, count: int) -> list[str]:
    """Identifiers of things that are made together: neighbours, which databases keep on the same pages.

    A random stem of 32 bits, and numbers of 32 bits that follow a random one. Two batches meet only with the
    same stem *and* overlapping numbers, which is no likelier than that two of their members met by chance.
    """
    stem, first = entropy.token(4).hex(), int.from_bytes(entropy.token(4))
    return [f"{prefix}-0{stem}{(first + each) & 0xFFFFFFFF:08x}" for each in range(count)]


def request_id(entropy: Entropy) -> str:
    """A version 4 UUID in text, as AWS answers carry."""
    raw = bytearray(entropy.token(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    h = raw.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
