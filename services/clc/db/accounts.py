"""Accounts, their users and access keys.

An access key without a user is its account's root's. Secrets arrive here sealed: signatures need
the plain secret, so they are encrypted, not hashed. User names differ by more than case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from mallee.clc.db.metadata import metadata
from mallee.kernel.db import Prepared, Tx
from mallee.kernel.entropy import Entropy

KEYS_PER_USER = 2

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("is_admin", Boolean, nullable=False),  # the one that the cloud was made with
    Column("created_ms", BigInteger, nullable=False),
    Index("ux_accounts_name", "name", unique=True),
)
users = Table(
    "users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False),  # in small letters
    Column("path", String(512), nullable=False),
    Column("tags", Text, nullable=False),  # JSON object
    Column("created_ms", BigInteger, nullable=False),
    Index("ux_users_name", "account_id", "name_key", unique=True),
)
access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("user_id", String(32), nullable=False),  # empty: the account's root
    Column("sealed", Text, nullable=False),  # the secret, by the SecretsBox
    Column("status", String(8), nullable=False),  # Active, Inactive
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_access_keys_owner", "account_id", "user_id", "id"),
)


class Account(NamedTuple):
    """A tenant: twelve digits and a name; the admin account may see and move the cloud's nodes."""

    id: str
    name: str
    is_admin: bool
    created_ms: int


class User(NamedTuple):
    """An IAM user; `tags` is a JSON object."""

    id: str
    account_id: str
    name: str
    name_key: str
    path: str
    tags: str
    created_ms: int

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account_id}:user{self.path}{self.name}"

    def tag_map(self) -> dict[str, str]:
        return msgspec.json.decode(self.tags, type=dict[str, str])


class AccessKey(NamedTuple):
    """An access key; `user_id` is empty for the account's root."""

    id: str
    account_id: str
    user_id: str
    sealed: str
    status: str
    created_ms: int


class Signer(NamedTuple):
    """An access key with whoever signs with it; `user` is empty for the root."""

    key: AccessKey
    user: str
    path: str


_U = users.c
_K = access_keys.c
_ACCOUNTS = Prepared(select(accounts).order_by(accounts.c.name))
_ADMIN = Prepared(select(accounts).where(accounts.c.is_admin))
_ACCOUNT = Prepared(select(accounts).where(accounts.c.id == bindparam("id")))
_ACCOUNT_NAMED = Prepared(select(accounts).where(accounts.c.name == bindparam("name")))
_DELETE_ACCOUNT = Prepared(delete(accounts).where(accounts.c.id == bindparam("b_id")))
_USER = Prepared(
    select(users).where(_U.account_id == bindparam("account"), _U.name_key == bindparam("name_key"))
)
_USER_BY_ID = Prepared(select(users).where(_U.account_id == bindparam("account"), _U.id == bindparam("id")))
_USERS = Prepared(
    select(users)
    .where(_U.account_id == bindparam("account"), _U.name_key > bindparam("after"))
    .order_by(_U.name_key)
    .limit(bindparam("size"))
)
_DELETE_USER = Prepared(
    delete(users).where(_U.account_id == bindparam("account"), _U.id == bindparam("b_id"))
)
_KEYS = Prepared(
    select(access_keys)
    .where(_K.account_id == bindparam("account"), _K.user_id == bindparam("user"), _K.id > bindparam("after"))
    .order_by(_K.id)
    .limit(bindparam("size"))
)
_KEY = Prepared(
    select(access_keys).where(
        _K.id == bindparam("id"), _K.account_id == bindparam("account"), _K.user_id == bindparam("user")
    )
)
_SIGNER = Prepared(
    select(access_keys, _U.name, _U.path)
    .outerjoin(users, _U.id == _K.user_id)
    .where(_K.id == bindparam("id"))
)
_SET_STATUS = Prepared(
    update(access_keys).where(_K.id == bindparam("b_id")).values(status=bindparam("new_status"))
)
_DELETE_KEY = Prepared(delete(access_keys).where(_K.id == bindparam("b_id")))
_DROP_KEYS = Prepared(delete(access_keys).where(_K.account_id == bindparam("account")))
_DROP_USERS = Prepared(delete(users).where(_U.account_id == bindparam("account")))
_COUNT_USERS = Prepared(select(func.count()).select_from(users).where(_U.account_id == bindparam("account")))


def new_account_id(entropy: Entropy) -> str:
    """Twelve digits, never zero at the front: tools cut leading zeros off numbers."""
    return str(10**11 + int.from_bytes(entropy.token(8)) % (9 * 10**11))


def new_unique_id(entropy: Entropy, prefix: str) -> str:
    """An id as IAM writes it: `AKIA` or `AIDA` and sixteen of A-Z and 2-7."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return prefix + "".join(letters[byte & 31] for byte in entropy.token(16))


def new_secret(entropy: Entropy) -> str:
    """Forty characters that nobody can guess, 240 bits."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(letters[byte & 63] for byte in entropy.token(40))


def admin(tx: Tx) -> Account | None:
    """The account that the cloud was made with; None in a cloud that was never started."""
    row = tx.execute(_ADMIN).first()
    return Account(*row) if row else None


def all_accounts(tx: Tx) -> list[Account]:
    """Every account of the cloud, by name."""
    return [Account(*row) for row in tx.execute(_ACCOUNTS)]


def account(tx: Tx, account_id: str) -> Account | None:
    row = tx.execute(_ACCOUNT, {"id": account_id}).first()
    return Account(*row) if row else None


def account_named(tx: Tx, name: str) -> Account | None:
    row = tx.execute(_ACCOUNT_NAMED, {"name": name}).first()
    return Account(*row) if row else None


def add_account(tx: Tx, new: Account) -> None:
    tx.execute(insert(accounts), new._asdict())


def remove_account(tx: Tx, account_id: str) -> None:
    """Forget an account with its users and keys; what else it had went before."""
    tx.execute(_DROP_KEYS, {"account": account_id})
    tx.execute(_DROP_USERS, {"account": account_id})
    tx.execute(_DELETE_ACCOUNT, {"b_id": account_id})


def user(tx: Tx, account_id: str, name: str) -> User | None:
    """The account's user of that name, whatever the case."""
    row = tx.execute(_USER, {"account": account_id, "name_key": name.lower()}).first()
    return User(*row) if row else None


def user_by_id(tx: Tx, account_id: str, user_id: str) -> User | None:
    row = tx.execute(_USER_BY_ID, {"account": account_id, "id": user_id}).first()
    return User(*row) if row else None


def users_page(tx: Tx, account_id: str, after: str = "", size: int = 100) -> list[User]:
    """The account's users by name in small letters, from behind `after`."""
    rows = tx.execute(_USERS, {"account": account_id, "after": after, "size": size})
    return [User(*row) for row in rows]


def count_users(tx: Tx, account_id: str) -> int:
    count: int = tx.execute(_COUNT_USERS, {"account": account_id}).scalar_one()
    return count


def new_user(
    account_id: str, user_id: str, name: str, path: str, tags: Mapping[str, str], now_ms: int
) -> User:
    kept = msgspec.json.encode(tags).decode()
    return User(user_id, account_id, name, name.lower(), path, kept, now_ms)


def add_user(tx: Tx, new: User) -> None:
    tx.execute(insert(users), new._asdict())


def remove_user(tx: Tx, account_id: str, user_id: str) -> None:
    tx.execute(_DELETE_USER, {"account": account_id, "b_id": user_id})


def keys_of(tx: Tx, account_id: str, user_id: str, after: str = "", size: int = 1000) -> list[AccessKey]:
    """A user's keys (the root's for an empty user) by id."""
    rows = tx.execute(_KEYS, {"account": account_id, "user": user_id, "after": after, "size": size})
    return [AccessKey(*row) for row in rows]


def key_of(tx: Tx, account_id: str, user_id: str, key_id: str) -> AccessKey | None:
    row = tx.execute(_KEY, {"id": key_id, "account": account_id, "user": user_id}).first()
    return AccessKey(*row) if row else None


def signer(tx: Tx, key_id: str) -> Signer | None:
    """Who signs with this key, in any account: the one question that is asked before there is one."""
    row = tx.execute(_SIGNER, {"id": key_id}).first()
    return Signer(AccessKey(*row[:6]), row[6] or "", row[7] or "") if row else None


def add_key(tx: Tx, key: AccessKey) -> None:
    tx.execute(insert(access_keys), key._asdict())


def set_status(tx: Tx, key_id: str, status: str) -> None:
    tx.execute(_SET_STATUS, {"b_id": key_id, "new_status": status})


def remove_key(tx: Tx, key_id: str) -> None:
    tx.execute(_DELETE_KEY, {"b_id": key_id})
