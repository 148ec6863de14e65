"""What tests of the cluster controller may ask for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.cc.a_zone import AZone


@pytest.fixture
async def zone(tmp_path: Path) -> AsyncIterator[AZone]:
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db").start()
    yield zone
    await zone.stop()
