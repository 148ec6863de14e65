"""What is read often is rendered once: XML by resource and version, within a bound of bytes.

Asked and filled on the event loop, and in the threads of a database that has them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from threading import Lock
from typing import Generic, TypeVar

from mallee.aws.protocol import Fragment

_OVERHEAD = 400  # bytes that an entry costs beside its text, measured with tracemalloc on CPython 3.11


# Version and text: plain tuples, which the garbage collector soon forgets, so that a hundred thousand
# of them make none of its walks longer.
_Kept = tuple[int, Fragment]


class Rendered:
    """A cache of fragments: one version an id, the least recently used go first.

    Args:
        limit: bytes that all entries may take together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self.bytes = 0

    def get_all(self, wanted: Mapping[str, int]) -> dict[str, Fragment]:
        """By key, those fragments that are here in the version wanted."""
        found = {}
        look, used = self._kept.get, self._kept.move_to_end
        with self._lock:
            for key, version in wanted.items():
                kept = look(key)
                if kept is not None and kept[0] == version:
                    used(key)
                    found[key] = kept[1]
        return found

    def put(self, key: str, version: int, text: Fragment) -> None:
        """Keep what was made of a version; an older one never replaces a newer one."""
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is not None and kept[0] > version:
                self._kept[key] = kept
                return
            self.bytes += len(text) + _OVERHEAD - (len(kept[1]) + _OVERHEAD if kept else 0)
            self._kept[key] = (version, text)
            while self.bytes > self._limit and self._kept:
                _, (_, oldest) = self._kept.popitem(last=False)
                self.bytes -= len(oldest) + _OVERHEAD


V = TypeVar("V")


class Recent(Generic[V]):
    """What was used last of each kind; the least recently used go first.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, kind: Hashable) -> V | None:
        with self._lock:
            kept = self._kept.get(kind)
            if kept is not None:
                self._kept.move_to_end(kind)
        return kept

    def put(self, kind: Hashable, value: V) -> None:
        with self._lock:
            self._kept[kind] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def drop(self, kind: Hashable) -> None:
        self._kept.pop(kind, None)
