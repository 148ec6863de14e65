"""The tables that migrations make are the tables that the code knows."""

from __future__ import annotations

from mallee.clc.db import METADATA
from tests.databases import assert_models_equal_migrations


def test_models_equal_the_sum_of_all_migrations(database_url: str) -> None:
    assert_models_equal_migrations(METADATA, "mallee.clc.db", database_url)
