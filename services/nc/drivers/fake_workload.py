"""What a pretend guest does to its memory: bands of pages, each written to at its own rate.

A guest's writes are skewed: a small hot set takes most of them (the writable working set of Clark
et al., section 4). A profile says so with a few bands; phases make it change over time.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mallee.kernel.entropy import Entropy

SATURATED = 6.0  # writes per page after which all but 0.25 % of a band are dirty


@dataclass(frozen=True, slots=True)
class Band:
    """`pages` next to each other, of which `rate` random ones are written each second."""

    pages: int
    rate: float


@dataclass(frozen=True, slots=True)
class Phase:
    """For `seconds`, every rate times `factor`; phases follow each other in a ring."""

    seconds: float
    factor: float


@dataclass(frozen=True, slots=True)
class Workload:
    """Bands from page `first` upwards; the rest of memory is never written."""

    bands: tuple[Band, ...]
    phases: tuple[Phase, ...] = ()
    first: int = 0

    def effort(self, since: float, until: float) -> float:
        """The seconds of full-rate work between two moments of the guest's life."""
        ring = sum(phase.seconds for phase in self.phases)
        return self._worked(until, ring) - self._worked(since, ring) if ring else until - since

    def _worked(self, at: float, ring: float) -> float:
        turns, rest = divmod(at, ring)
        done = turns * sum(phase.seconds * phase.factor for phase in self.phases)
        for phase in self.phases:
            spent = min(rest, phase.seconds)
            done += spent * phase.factor
            rest -= spent
        return done

    def written(self, seconds: float, memory: int, entropy: Entropy) -> Iterator[range | list[int]]:
        """The pages that `seconds` of full-rate work write to, band by band; one may come twice."""
        first = self.first
        for band in self.bands:
            pages = min(band.pages, memory - first)
            if pages <= 0:
                return
            writes = band.rate * seconds
            if writes >= SATURATED * pages:
                yield range(first, first + pages)
            elif count := _whole(writes, entropy):
                drawn = array("I", entropy.token(4 * count))
                yield [first + (number * pages >> 32) for number in drawn]
            first += pages


def _whole(writes: float, entropy: Entropy) -> int:
    """Rounds so that many short spells write as much as one long one."""
    whole = math.floor(writes)
    return whole + (entropy.uniform(0.0, 1.0) < writes - whole)


def profile(tags: Mapping[str, str], memory: int) -> Workload:
    """The workload that tag `mallee:workload` names, for a guest of `memory` pages; idle if none."""
    name = tags.get("mallee:workload", "idle")
    shares, phases = PROFILES.get(name, PROFILES["idle"])
    return Workload(tuple(Band(max(1, int(memory * share)), rate) for share, rate in shares), phases)


# share of memory, pages written a second; shaped after the figures of Clark et al., section 4.2
PROFILES: dict[str, tuple[tuple[tuple[float, float], ...], tuple[Phase, ...]]] = {
    "idle": (((0.0005, 20.0),), ()),
    "web": (((0.005, 3_000.0), (0.05, 1_200.0), (0.3, 100.0)), ()),
    "build": (((0.02, 12_000.0), (0.25, 6_000.0)), (Phase(8.0, 1.5), Phase(4.0, 0.25))),
    "memory": (((0.5, 400_000.0),), ()),
}
