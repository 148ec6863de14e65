"""Client tokens: which request was already answered, and with what.

A token lives in the transaction that did the work, so either both stand or neither. Source:
"Ensuring idempotency in Amazon EC2 API requests".
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, bindparam, delete, insert, select

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

client_tokens = Table(
    "client_tokens",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("operation", String(64), primary_key=True),
    Column("token", String(96), primary_key=True),  # the caller's, or the SDK's invocation id behind a prefix
    Column("parameter_hash", String(64), nullable=False),
    Column("result", LargeBinary, nullable=False),  # JSON; encrypted when it holds a secret
    Column("expires_ms", BigInteger, nullable=False, index=True),
)


class Answered(NamedTuple):
    """What a token was used for."""

    parameter_hash: str
    result: bytes


class TokenKey(NamedTuple):
    """A token belongs to an account and an action."""

    account_id: str
    operation: str
    token: str


_FIND = Prepared(
    select(client_tokens.c.parameter_hash, client_tokens.c.result).where(
        client_tokens.c.account_id == bindparam("account_id"),
        client_tokens.c.operation == bindparam("operation"),
        client_tokens.c.token == bindparam("token"),
    )
)
_FORGET = Prepared(delete(client_tokens).where(client_tokens.c.expires_ms <= bindparam("now_ms")))
_REMEMBER = Prepared(insert(client_tokens))


def find(tx: Tx, key: TokenKey) -> Answered | None:
    """The answer that this token got, until it is forgotten: at the sweep after its time, never before."""
    row = tx.execute(_FIND, key).first()
    return Answered(row.parameter_hash, row.result) if row else None


def remember(tx: Tx, key: TokenKey, answered: Answered, *, expires_ms: int) -> None:
    """Keep the answer of a token that was not found, until `expires_ms` at least."""
    tx.execute(_REMEMBER, {**key._asdict(), **answered._asdict(), "expires_ms": expires_ms})


def forget(tx: Tx, now_ms: int) -> None:
    """Drop what nobody may repeat any more."""
    tx.execute(_FORGET, {"now_ms": now_ms})
