"""The object store's tables are what its migrations make."""

from __future__ import annotations

from mallee.walrus.db import METADATA
from tests.databases import assert_models_equal_migrations


def test_models_equal_migrations(database_url: str) -> None:
    assert_models_equal_migrations(METADATA, "mallee.walrus.db", database_url)
