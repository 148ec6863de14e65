"""The words of a migration: its six stages, its rounds, its limits.

Stages after Clark et al., "Live Migration of Virtual Machines", NSDI 2005, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Stage(IntEnum):
    """The six stages."""

    PRE_MIGRATION = 0
    RESERVATION = 1
    ITERATIVE_PRE_COPY = 2
    STOP_AND_COPY = 3
    COMMITMENT = 4
    ACTIVATION = 5

    @property
    def title(self) -> str:
        """The stage as it is shown: `2-iterative-pre-copy`."""
        return f"{self.value}-{self.name.lower().replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over the pages that were dirtied during the one before."""

    number: int
    pages_sent: int
    bytes_sent: int
    pages_dirtied: int
    duration_ms: float
    bandwidth_mbps: float
    throttle_percent: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends the pre-copy; megabits are 10^6 bits, milliseconds of guest time."""

    downtime_budget_ms: float = 300.0
    bandwidth_mbps: float = 10_000.0
    max_rounds: int = 29
    max_factor: float = 3.0
    auto_converge: bool = False
