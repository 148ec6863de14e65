"""The tables on both databases, and their migrations."""

from mallee.cc.config import CcConfig
from mallee.cc.db import METADATA
from mallee.domain.guest import Phase, Power
from tests.databases import assert_models_equal_migrations
from tests.unit.cc.a_zone import AZone


def test_the_models_are_the_sum_of_the_migrations(database_url: str) -> None:
    assert_models_equal_migrations(METADATA, "mallee.cc.db", database_url)


async def test_a_life_on_either_database(database_url: str) -> None:
    zone = await AZone(database_url, config=CcConfig(zone="z")).start()
    try:
        node = await zone.join("n1")
        other = await zone.join("n2")
        await zone.run("i-1", host_id="h-0")
        await zone.wish("i-2", 1, Power.TERMINATED)
        await zone.restart()
        await zone.dial(node)
        await zone.dial(other)
        await zone.obey()
        assert zone.phase("i-1") is Phase.RUNNING
        assert zone.phase("i-2") is Phase.TERMINATED
        await zone.wish("i-1", 2, Power.STOPPED)
        await zone.obey()
        await zone.restart()
        assert zone.phase("i-1") is Phase.STOPPED
        assert zone.cc.ledger.placements.rows["i-1"].guest == b"guest"
    finally:
        await zone.stop()
