"""The memory of a pretend guest: for each page of 4 KiB a 32-bit version, and whether it is dirty.

It exists only while a migration needs it: a guest at rest costs nothing. Contents begin as a
function of who the guest is, so that a page at the wrong place shows in the digest.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator, Sequence

from mallee.kernel.entropy import Entropy
from mallee.nc.drivers.fake_workload import Workload
from mallee.nc.drivers.pre_copy import PAGE_BYTES

PAGES_PER_MIB = 1024 * 1024 // PAGE_BYTES


class Memory:
    """Page versions and dirty marks; time enters as seconds of the guest's running life."""

    def __init__(self, versions: array[int]) -> None:
        self.versions = versions
        self._dirty = bytearray(len(versions))

    @classmethod
    def of(cls, name: str, pages: int) -> Memory:
        """The memory of a running guest, everything in it still to be sent."""
        return cls(from_little_endian(hashlib.shake_128(name.encode()).digest(4 * pages)))

    @classmethod
    def empty(cls, pages: int) -> Memory:
        """Room for a copy."""
        return cls(array("I", bytes(4 * pages)))

    def work(self, workload: Workload, seconds: float, entropy: Entropy) -> None:
        """Let the guest run for `seconds` of full-rate work."""
        versions, dirty = self.versions, self._dirty
        for pages in workload.written(seconds, len(versions), entropy):
            if isinstance(pages, range):
                first, end = pages.start, pages.stop
                # Turning the contents by one page changes all of them at the speed of a copy.
                versions[first:end] = versions[first + 1 : end] + versions[first : first + 1]
                dirty[first:end] = b"\x01" * len(pages)
                continue
            for page in pages:
                versions[page] = (versions[page] + 1) & 0xFFFFFFFF
                dirty[page] = 1

    def dirty_pages(self) -> int:
        return self._dirty.count(1)

    def take_dirty(self) -> Sequence[int]:
        """The dirty pages in order; they count as clean from now on."""
        taken = array("I", _marked(self._dirty))
        self._dirty = bytearray(len(self.versions))
        return taken

    def still_clean(self, pages: Sequence[int]) -> array[int]:
        """Those of `pages` worth sending: one that is dirty again would have to be sent again anyway."""
        dirty = self._dirty
        return array("I", [page for page in pages if not dirty[page]])

    def contents(self, pages: Sequence[int]) -> bytes:
        """The versions of `pages`, as they go over the wire."""
        versions = self.versions
        return to_little_endian(array("I", [versions[page] for page in pages]))

    def put(self, numbers: bytes, contents: bytes) -> int:
        """Store received pages; returns how many. ValueError when the two do not match this memory."""
        pages, values = from_little_endian(numbers), from_little_endian(contents)
        if len(pages) != len(values):
            raise ValueError(f"{len(pages)} page numbers came with {len(values)} contents")
        if not pages:
            return 0
        if max(pages) >= len(self.versions):
            raise ValueError(f"page {max(pages)} is outside a memory of {len(self.versions)} pages")
        run = range(pages[0], pages[0] + len(pages))
        if pages[-1] == run[-1] and pages == array("I", run):
            self.versions[run.start : run.stop] = values
        else:
            for page, value in zip(pages, values, strict=True):
                self.versions[page] = value
        return len(pages)

    def digest(self, cpu_state: bytes) -> str:
        """Equal for equal memory and CPU state, on any machine."""
        return hashlib.blake2b(to_little_endian(self.versions) + cpu_state, digest_size=16).hexdigest()


def _marked(marks: bytearray) -> Iterator[int]:
    at = marks.find(1)
    while at >= 0:
        yield at
        at = marks.find(1, at + 1)


def from_little_endian(raw: bytes) -> array[int]:
    """32-bit numbers from the wire. ValueError when the last one is cut off."""
    numbers = array("I")
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def to_little_endian(numbers: array[int]) -> bytes:
    """32-bit numbers for the wire."""
    if sys.byteorder == "big":
        numbers = array("I", numbers)
        numbers.byteswap()
    return numbers.tobytes()
