"""Walking the key order for a listing: keys below a prefix, rolled up to a delimiter, a page at a time.

A common prefix costs one seek, however many keys it has, so a page costs what it shows and not what
the bucket holds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mallee.walrus.db.listing import HIGHEST

# Rows from (low, after) on, at most so many: all keys >= low without an `after`, else those of the
# key `low` that come after it in the key's own order, and all keys above.
Fetch = Callable[[bytes, Any, int], Sequence[Any]]
Peek = Callable[[bytes], bytes | None]
_FIRST_SLICE = 16  # rows that are read before anything is known of how much is skipped
_LEAST_SLICE = 2


class Walked(NamedTuple):
    """A page: rows and common prefixes, and the last of them all (`row` is None for a prefix)."""

    rows: list[Any]
    prefixes: list[bytes]
    truncated: bool
    last_key: bytes
    last_row: Any


def above(prefix: bytes) -> bytes:
    """The least key that is higher than all that begin with `prefix`."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else HIGHEST


def start(prefix: bytes, delimiter: bytes, after: bytes) -> bytes:
    """Where a page begins that comes from behind the key or common prefix `after`."""
    if not after:
        return prefix
    rolled = common_prefix(after, prefix, delimiter)
    return max(prefix, above(after) if rolled == after else after + b"\x00")


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """What `key` is rolled up to, if it is."""
    if not delimiter or not key.startswith(prefix):
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


class Walk:
    """One page, over any rows that have a `key`.

    Args:
        fetch: reads slices.
        peek: the first key that is not below a given one, for skipping; it may be missing.
        order: a row's place among those of its key.
        prefix, delimiter: of the listing.
        limit: rows and common prefixes together, at least 1.
    """

    def __init__(
        self,
        fetch: Fetch,
        order: Callable[[Any], Any],
        prefix: bytes,
        delimiter: bytes,
        limit: int,
        *,
        peek: Peek | None = None,
    ) -> None:
        self._fetch = fetch
        self._peek = peek
        self._order = order
        self._prefix = prefix
        self._delimiter = delimiter
        self._limit = limit
        self._rows: list[Any] = []
        self._prefixes: list[bytes] = []
        self._last: tuple[bytes, Any] = (b"", None)

    def page(self, low: bytes, after: Any = None) -> Walked:
        """Rows from (low, after) on."""
        size = _FIRST_SLICE if self._delimiter else self._limit + 1
        while True:
            rows = self._fetch(low, after, size)
            taken, jumped = self._take(rows)
            if taken < len(rows):
                return Walked(self._rows, self._prefixes, True, *self._last)
            if len(rows) < size:
                return Walked(self._rows, self._prefixes, False, *self._last)
            if jumped > rows[-1].key:
                low, after, size = self._leap(jumped), None, max(_LEAST_SLICE, size // 2)
            else:
                low, after, size = rows[-1].key, self._order(rows[-1]), min(self._limit + 1, size * 2)

    def _take(self, rows: Sequence[Any]) -> tuple[int, bytes]:
        """Take or skip rows until the page is full: how many, and the key below which all were skipped."""
        if not self._delimiter:
            return self._take_all(rows), b""
        index, jumped = 0, b""
        while index < len(rows) and self._room():
            row = rows[index]
            index += 1
            rolled = common_prefix(row.key, self._prefix, self._delimiter)
            if rolled is None:
                self._rows.append(row)
                self._last = (row.key, row)
            else:
                jumped = self._roll_up(rolled)
                if index < len(rows) and rows[index].key < jumped:
                    index = bisect_left(rows, jumped, index, key=_key)
        return index, jumped

    def _take_all(self, rows: Sequence[Any]) -> int:
        taken = rows[: self._room()]
        if taken:
            self._rows += taken
            self._last = (taken[-1].key, taken[-1])
        return len(taken)

    def _leap(self, low: bytes) -> bytes:
        """From common prefix to common prefix, as long as there is nothing between them: where that ends."""
        while self._peek is not None and self._room():
            key = self._peek(low)
            rolled = None if key is None else common_prefix(key, self._prefix, self._delimiter)
            if rolled is None:
                break
            low = self._roll_up(rolled)
        return low

    def _room(self) -> int:
        return self._limit - len(self._rows) - len(self._prefixes)

    def _roll_up(self, rolled: bytes) -> bytes:
        """The key below which all is rolled up."""
        self._prefixes.append(rolled)
        self._last = (rolled, None)
        return above(rolled)


def _key(row: Any) -> bytes:
    key: bytes = row.key
    return key
