"""What clients of the object store saw, held against what an object store may say.

Each key is a register: there is an order of all requests, each at one moment between its beginning and its end, in
which every answer is right. A request whose answer never came has happened once, at any moment since, or never.
Bytes are made from a word that nobody writes twice, so whatever is read says who wrote it and whether it is whole.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.unit.walrus.histories import Call, is_linearizable

if TYPE_CHECKING:
    from tests.sim.invariants import Invariants

Where = tuple[str, str]  # bucket and key


def bytes_of(word: str, size: int) -> bytes:
    """An object's bytes: `size`, or a little more."""
    unit = f"{word}:{size}|".encode()
    return unit * (size // len(unit) + 1)


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class StoreHistory:
    """All that was asked of one store, and answered."""

    def __init__(self, watch: Invariants) -> None:
        self._watch = watch
        self._ticks = itertools.count()
        self._calls: dict[Where, list[Call]] = defaultdict(list)
        self.versions: dict[tuple[Where, str], str] = {}  # what a version that was acknowledged holds

    def tick(self) -> int:
        return next(self._ticks)

    def note(self, where: Where, began: int, name: str, argument: Any, answer: Any, *, known: bool) -> None:
        """One call has ended, or its caller has given up."""
        self._calls[where].append(Call(began, self.tick() if known else None, name, argument, answer))

    @property
    def keys(self) -> list[Where]:
        return sorted(self._calls)

    def word_in(self, where: Where, data: bytes, etag: str) -> str:
        """Who wrote these bytes; bytes that nobody wrote so are a violation."""
        word, _, rest = data.partition(b":")
        size = rest.partition(b"|")[0]
        wanted = bytes_of(word.decode(errors="replace"), int(size)) if size.isdigit() else b""
        if data != wanted:
            self._watch.broken("I13", f"{'/'.join(where)} is torn: {data[:60]!r}, {len(data)} bytes")
        elif "-" not in etag and etag != etag_of(data):
            self._watch.broken("I13", f"{'/'.join(where)} has {etag} and is {etag_of(data)}")
        return word.decode(errors="replace")

    def check(self) -> None:
        """Whether each key has been one register all the time."""
        for where in self.keys:
            if not is_linearizable(self._calls[where], _apply, None):
                told = [f"{c.began}-{c.ended} {c.name} {c.argument} {c.answer}" for c in self._calls[where]]
                self._watch.broken("I14", f"{'/'.join(where)} was no register: {'; '.join(told)}")


def _apply(word: str | None, name: str, argument: Any) -> tuple[Any, str | None]:
    """An answer, and whose bytes are there afterwards."""
    match name:
        case "get" | "listed":
            return (word if name == "get" else word is not None), word
        case "put":
            return "made", argument
        case "create":
            return ("made", argument) if word is None else ("refused", word)
        case "swap":
            expected, new = argument
            return ("made", new) if word == expected else ("absent" if word is None else "refused", word)
    return None, None
