"""Every rule can fail: each planted fault is found, by the seeds that found it before or by one of the first 500."""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.test_simulation import simulated


def test_there_are_enough_of_them():
    assert len(MUTANTS) >= 25


@pytest.mark.timeout(1800)
def test_every_planted_fault_is_found():
    told = simulated("--mutants")
    assert f"{len(MUTANTS)} of {len(MUTANTS)} planted faults were found" in told
