"""Throttling as EC2 does it: a token bucket per account and action, and a second one on resources.

Source: "Request throttling for the Amazon EC2 API". A bucket is one number, the time at which it
will be full again: it needs no refilling, is exact to the nanosecond, and a full one is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mallee.aws.errors import RequestLimitExceeded
from mallee.kernel.clock import Clock

_MOST_BUCKETS: Final = 100_000
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket's size in tokens, and how many come back each second (more than 0)."""

    capacity: int
    refill: float

    @property
    def cost(self) -> int:
        """Nanoseconds that one token takes to come back."""
        return round(_SECOND / self.refill)


@dataclass(frozen=True, slots=True)
class ResourceLimit:
    """A bucket for the things an action makes, and the parameter that says how many."""

    limit: Limit
    counted_by: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What is limited; the default limits nothing.

    Attributes:
        reading, changing: for each action that only reads, or that changes something.
        actions: for single actions, instead of these.
        resources: the second bucket of an action.
    """

    reading: Limit | None = None
    changing: Limit | None = None
    actions: Mapping[str, Limit] = field(default_factory=dict)
    resources: Mapping[str, ResourceLimit] = field(default_factory=dict)


class Throttle:
    """The buckets of all accounts."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._full_at: dict[tuple[str, str], int] = {}

    def request(self, account: str, action: str, *, mutating: bool) -> None:
        """Take the token of one request.

        Raises:
            RequestLimitExceeded: the bucket is empty.
        """
        usual = self._limits.changing if mutating else self._limits.reading
        limit = self._limits.actions.get(action, usual)
        if limit is not None:
            self._take((account, action), limit, 1)

    def resources(self, account: str, action: str, parameters: Mapping[str, object]) -> None:
        """Take a token for each thing that a request wants made.

        Raises:
            RequestLimitExceeded: there are not as many; none is taken.
        """
        limited = self._limits.resources.get(action)
        if limited is not None:
            count = parameters.get(limited.counted_by, 1)
            wanted = count if isinstance(count, int) and count > 0 else 1
            self._take((account, f"{action}/{limited.counted_by}"), limited.limit, wanted)

    def _take(self, bucket: tuple[str, str], limit: Limit, tokens: int) -> None:
        now = round(self._clock.monotonic() * _SECOND)
        full_at = max(self._full_at.get(bucket, now), now) + tokens * limit.cost
        if full_at - now > limit.capacity * limit.cost:
            raise RequestLimitExceeded
        self._full_at[bucket] = full_at
        if len(self._full_at) > _MOST_BUCKETS:
            self._forget(now)

    def _forget(self, now: int) -> None:
        """Full buckets first; if all are in use, the half that is fullest."""
        kept = sorted((full_at, bucket) for bucket, full_at in self._full_at.items() if full_at > now)
        self._full_at = {bucket: full_at for full_at, bucket in kept[-_MOST_BUCKETS // 2 :]}
