"""The CLC's database, empty, on each of the databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Database


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with await Database.open(database_url, metadata=metadata, durable=False) as opened:
        yield opened
