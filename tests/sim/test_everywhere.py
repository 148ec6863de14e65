"""Death at every point of run, stop, start, terminate, reboot and migrate, once and again in recovery."""

from __future__ import annotations

import pytest

from tests.sim.test_simulation import simulated


@pytest.mark.timeout(1800)
def test_no_point_is_fatal():
    told = simulated("--everywhere")
    assert " 0 with violations" in told
    print(told)
