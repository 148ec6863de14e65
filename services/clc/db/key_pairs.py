"""Key pairs: the public half of each, under a name of the account's choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, bindparam, delete, insert, select

from mallee.clc.db import settings
from mallee.clc.db.metadata import metadata
from mallee.clc.errors import InvalidKeyPairNotFound
from mallee.kernel.db import Prepared, Tx

key_pairs = Table(
    "key_pairs",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("id", String(32), nullable=False),
    Column("type", String(8), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("public_key", Text, nullable=False),  # OpenSSH, one line
    Column("created_ms", BigInteger, nullable=False),
    Index("ux_key_pairs_id", "id", unique=True),
)


class KeyPair(NamedTuple):
    """A key pair; `type` is `rsa` or `ed25519`, `public_key` one OpenSSH line."""

    account_id: str
    name: str
    id: str
    type: str
    fingerprint: str
    public_key: str
    created_ms: int


_GET = Prepared(
    select(key_pairs).where(
        key_pairs.c.account_id == bindparam("account"), key_pairs.c.name == bindparam("name")
    )
)
_BY_ID = Prepared(
    select(key_pairs).where(key_pairs.c.account_id == bindparam("account"), key_pairs.c.id == bindparam("id"))
)
_ALL = Prepared(
    select(key_pairs).where(key_pairs.c.account_id == bindparam("account")).order_by(key_pairs.c.name)
)
_DELETE = Prepared(
    delete(key_pairs).where(
        key_pairs.c.account_id == bindparam("account"), key_pairs.c.name == bindparam("b_name")
    )
)
_DROP = Prepared(delete(key_pairs).where(key_pairs.c.account_id == bindparam("account")))


def find(tx: Tx, account: str, name: str) -> KeyPair | None:
    """The account's key of that name."""
    row = tx.execute(_GET, {"account": account, "name": name}).first()
    return KeyPair(*row) if row else None


def find_id(tx: Tx, account: str, key_pair_id: str) -> KeyPair | None:
    """The account's key of that id."""
    row = tx.execute(_BY_ID, {"account": account, "id": key_pair_id}).first()
    return KeyPair(*row) if row else None


def get(tx: Tx, account: str, name: str) -> KeyPair:
    """As `find`. Raises InvalidKeyPairNotFound."""
    found = find(tx, account, name)
    if found is None:
        raise InvalidKeyPairNotFound(name)
    return found


def of_account(tx: Tx, account: str) -> Sequence[KeyPair]:
    """All of the account's keys, by name."""
    return [KeyPair(*row) for row in tx.execute(_ALL, {"account": account})]


def add(tx: Tx, key: KeyPair) -> None:
    """Keep a new key; its name is free."""
    tx.execute(insert(key_pairs), key._asdict())


def remove(tx: Tx, account: str, name: str) -> None:
    """Forget a key; instances that were started with it keep its public half."""
    tx.execute(_DELETE, {"account": account, "b_name": name})
    settings.count_one(tx, settings.GROUND)


def drop_account(tx: Tx, account: str) -> None:
    """Forget the keys of an account that is no more."""
    tx.execute(_DROP, {"account": account})
    settings.count_one(tx, settings.GROUND)
