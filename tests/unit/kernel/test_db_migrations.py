"""Migrations: run when a database is opened, alone, and never backwards."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from mallee.kernel.db import Database, Tx
from mallee.kernel.db import migrate as db_migrate
from mallee.kernel.errors import Fault, Kind
from tests.databases import assert_models_equal_migrations
from tests.unit.kernel.a_service import HOST, METADATA

PACKAGE = "tests.unit.kernel.a_service"


def hosts(tx: Tx) -> list[tuple[str, str]]:
    return [(row.id, row.zone) for row in tx.execute(sa.select(HOST))]


def begin_as_version_one(url: str) -> None:
    """A database as the first version left it, with a host that has no zone."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE host (id TEXT PRIMARY KEY NOT NULL, zone TEXT)")
        connection.exec_driver_sql("INSERT INTO host (id) VALUES ('old')")
        db_migrate.VERSION.create(connection)
        connection.execute(db_migrate.VERSION.insert(), {"version_num": "0001"})
    engine.dispose()


def test_migrations_and_models_agree(database_url: str) -> None:
    assert_models_equal_migrations(METADATA, PACKAGE, database_url)


def test_a_forgotten_migration_is_found(database_url: str) -> None:
    more = sa.MetaData()
    HOST.to_metadata(more).append_column(sa.Column("forgotten", sa.Text))
    with pytest.raises(AssertionError, match="forgotten"):
        assert_models_equal_migrations(more, PACKAGE, database_url)


async def test_an_old_database_is_brought_up_and_keeps_its_rows(database_url: str) -> None:
    begin_as_version_one(database_url)
    async with await Database.open(database_url, metadata=METADATA, migrations=PACKAGE) as db:
        assert await db.read(hosts) == [("old", "a")]


async def test_two_processes_may_start_at_once(database_url: str) -> None:
    begin_as_version_one(database_url)
    url = sa.make_url(database_url)
    starts = (asyncio.to_thread(db_migrate.upgrade, url, METADATA, PACKAGE) for _ in range(4))
    await asyncio.gather(*starts)
    async with await Database.open(database_url, migrations=PACKAGE) as db:
        assert await db.read(hosts) == [("old", "a")]


async def test_a_fresh_database_needs_no_alembic(sqlite_url: str) -> None:
    """Importing it takes longer than making all tables."""
    script = (
        "import asyncio, sys\n"
        "from mallee.kernel.db import Database\n"
        f"from {PACKAGE} import METADATA\n"
        "async def main():\n"
        f"    for _ in range(2):\n"
        f"        await (await Database.open({sqlite_url!r}, metadata=METADATA, migrations={PACKAGE!r})).close()\n"
        "asyncio.run(main())\n"
        "assert 'alembic' not in sys.modules\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], check=True)
    async with await Database.open(sqlite_url, metadata=METADATA, migrations=PACKAGE) as db:
        version = await db.read(lambda tx: tx.execute(sa.select(db_migrate.VERSION.c.version_num)).scalar())
    assert version == "0002"


async def test_a_newer_database_is_refused_and_untouched(database_url: str) -> None:
    begin_as_version_one(database_url)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(db_migrate.VERSION.update().values(version_num="0099"))
    with pytest.raises(Fault, match="0099") as refused:
        await Database.open(database_url, metadata=METADATA, migrations=PACKAGE)
    assert refused.value.kind is Kind.INVALID
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM host").scalars().all() == ["old"]
    engine.dispose()


async def test_a_migration_that_fails_leaves_the_version_before(database_url: str) -> None:
    begin_as_version_one(database_url)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE in_the_way (id TEXT)")
        connection.exec_driver_sql("CREATE INDEX host_zone ON in_the_way (id)")
    with pytest.raises(sa.exc.DBAPIError):
        await Database.open(database_url, migrations=PACKAGE)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT zone FROM host").scalars().all() == [None]
        connection.exec_driver_sql("DROP TABLE in_the_way")
    engine.dispose()
    async with await Database.open(database_url, migrations=PACKAGE) as db:
        assert await db.read(hosts) == [("old", "a")]


def test_the_next_migration_is_drafted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    source = Path(__file__).parent / "a_service"
    shutil.copytree(source, tmp_path / "drafted", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    more = sa.MetaData()
    HOST.to_metadata(more).append_column(sa.Column("rack", sa.Text))
    sa.Table("cable", more, sa.Column("id", sa.Text, primary_key=True))

    path = db_migrate.draft(more, "drafted", "Racks, and cables")

    assert path.name == "0003_racks_and_cables.py"
    assert_models_equal_migrations(more, "drafted", sqlite_url)


def test_two_heads_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "forked" / "migrations"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / f"{name}.py").write_text(f"revision = {name!r}\ndown_revision = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Fault, match="2 heads: a, b"):
        db_migrate.packaged_head("forked")
