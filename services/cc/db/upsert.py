"""Rows written whole, whether they were there or not: the one statement both databases share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mallee.kernel.db import Prepared, Tx


class Upsert:
    """`insert ... on conflict (primary key) do update`, built once for a table."""

    def __init__(self, table: sa.Table) -> None:
        key = [column.name for column in table.primary_key]
        names = [column.name for column in table.columns]
        # Text, since a work function does not know which of the two dialects' inserts to use.
        columns, values = ", ".join(names), ", ".join(f":{name}" for name in names)
        settings = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
        self._statement = Prepared(
            sa.text(
                f"INSERT INTO {table.name} ({columns}) VALUES ({values}) "  # noqa: S608 - names of our own tables
                f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {settings}"
            )
        )

    def __call__(self, tx: Tx, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write named tuples of the table's columns."""
        if rows:
            tx.execute(self._statement, list(rows))
