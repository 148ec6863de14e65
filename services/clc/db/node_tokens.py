"""Tokens with which machines become nodes: each for one name, and for one time."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Column, String, Table, bindparam, delete, insert, select

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx

node_tokens = Table(
    "node_tokens",
    metadata,
    Column("secret_hash", String(64), primary_key=True),  # the secret itself is with its bearer alone
    Column("zone", String(64), nullable=False),
    Column("node_name", String(63), nullable=False),
    Column("expires_ms", BigInteger, nullable=False, index=True),
)


class NodeToken(NamedTuple):
    """What a token is good for."""

    secret_hash: str
    zone: str
    node_name: str
    expires_ms: int


_C = node_tokens.c
_FIND = Prepared(select(node_tokens).where(_C.secret_hash == bindparam("secret_hash")))
_SPEND = Prepared(delete(node_tokens).where(_C.secret_hash == bindparam("secret_hash")))
_FORGET = Prepared(delete(node_tokens).where(_C.expires_ms <= bindparam("now_ms")))


def add(tx: Tx, token: NodeToken) -> None:
    """Keep a new token."""
    tx.execute(insert(node_tokens), token._asdict())


def find(tx: Tx, secret_hash: str, now_ms: int) -> NodeToken | None:
    """The token, unless it was spent or its time is over."""
    row = tx.execute(_FIND, {"secret_hash": secret_hash}).first()
    return NodeToken(*row) if row and row.expires_ms > now_ms else None


def spend(tx: Tx, secret_hash: str) -> None:
    """Use a token up."""
    tx.execute(_SPEND, {"secret_hash": secret_hash})


def forget_expired(tx: Tx, now_ms: int) -> None:
    """Remove tokens that nobody used in time."""
    tx.execute(_FORGET, {"now_ms": now_ms})
