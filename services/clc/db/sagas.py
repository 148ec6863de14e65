"""Sagas of the cloud controller: the record of each, and why one was undone."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, select

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx
from mallee.kernel.saga.record import saga_tables

SAGAS = saga_tables(metadata)
_ERROR = Prepared(select(SAGAS.saga.c.error).where(SAGAS.saga.c.id == bindparam("id")))


def error_of(tx: Tx, saga_id: str) -> dict[str, Any]:
    """Why a saga turned back: kind, what, why, fix, code, step; empty if that is not known."""
    error = tx.execute(_ERROR, {"id": saga_id}).scalar()
    return msgspec.json.decode(error) if error else {}
