"""Draws for tests that need hundreds of thousands of them, from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mallee.kernel.entropy import SeededEntropy

T = TypeVar("T")


class Chance:
    """A seeded source of choices."""

    def __init__(self, seed: int) -> None:
        self._entropy = SeededEntropy(seed)

    def share(self) -> float:
        """A number from 0 to 1."""
        return self._entropy.uniform(0.0, 1.0)

    def below(self, count: int) -> int:
        """One of 0 to `count` - 1."""
        return min(int(self._entropy.uniform(0.0, count)), count - 1)

    def of(self, several: Sequence[T]) -> T:
        return several[self.below(len(several))]

    def bytes(self, count: int) -> bytes:
        return self._entropy.token(count)

    def shuffled(self, several: Sequence[T]) -> list[T]:
        order = sorted(range(len(several)), key=lambda _: self.share())
        return [several[at] for at in order]
