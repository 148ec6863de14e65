"""The CLC's database, empty, on each of the databases; and a controller with pretended clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Database
from tests.databases import with_tables
from tests.unit.clc.as_a_client import Client
from tests.unit.clc.pretend_cloud import PretendCloud


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with await with_tables(database_url, metadata) as opened:
        yield opened


@pytest.fixture
async def pretend(tmp_path: Path) -> AsyncIterator[PretendCloud]:
    url = f"sqlite:///{tmp_path}/clc.db"
    async with await with_tables(url, metadata) as opened:
        yield await PretendCloud.make(opened, tmp_path)


@pytest.fixture
def admin(pretend: PretendCloud) -> Client:
    """The root of the account that the cloud was made with."""
    return Client.root(pretend.cloud, pretend.cloud.admin_account)


@pytest.fixture
async def stranger(pretend: PretendCloud) -> Client:
    """The root of another account."""
    return Client.root(pretend.cloud, await pretend.account("stranger"))
