"""Client tokens: which request was already answered, and with what.

A token lives in the transaction that did the work, so either both stand or neither. Source:
"Ensuring idempotency in Amazon EC2 API requests".
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, bindparam, delete, insert, select

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Tx

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


_FIND = select(client_tokens.c.parameter_hash, client_tokens.c.result).where(
    client_tokens.c.account_id == bindparam("account_id"),
    client_tokens.c.operation == bindparam("operation"),
    client_tokens.c.token == bindparam("token"),
    client_tokens.c.expires_ms > bindparam("now_ms"),
)
_FORGET = delete(client_tokens).where(client_tokens.c.expires_ms <= bindparam("now_ms"))
_FORGET_ONE = delete(client_tokens).where(
    client_tokens.c.account_id == bindparam("b_account_id"),
    client_tokens.c.operation == bindparam("b_operation"),
    client_tokens.c.token == bindparam("b_token"),
    client_tokens.c.expires_ms <= bindparam("now_ms"),
)


def find(tx: Tx, key: TokenKey, now_ms: int) -> Answered | None:
    """The answer that this token got, while it is remembered."""
    row = tx.execute(_FIND, {**key._asdict(), "now_ms": now_ms}).first()
    return Answered(row.parameter_hash, row.result) if row else None


def remember(tx: Tx, key: TokenKey, answered: Answered, *, now_ms: int, expires_ms: int) -> None:
    """Keep an answer until `expires_ms`; a token whose time is over may be used again."""
    expired = {f"b_{name}": value for name, value in key._asdict().items()}
    tx.execute(_FORGET_ONE, {**expired, "now_ms": now_ms})
    tx.execute(insert(client_tokens), {**key._asdict(), **answered._asdict(), "expires_ms": expires_ms})


def forget(tx: Tx, now_ms: int) -> None:
    """Drop what nobody may repeat any more."""
    tx.execute(_FORGET, {"now_ms": now_ms})
