"""Which secret belongs to an access key, and who signs with it.

Every request asks, so the answers are kept. A change is seen at once in the process that made it
(`forget` after its commit) and within a second in every other: changes are counted in the database, and
the object store watches the count.
"""

from __future__ import annotations

from typing import NamedTuple

from mallee.aws.context import Principal
from mallee.aws.sigv4 import Key
from mallee.clc.db import accounts, settings
from mallee.clc.db.accounts import Signer
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.secrets_box import SecretsBox

KEPT_SECONDS = 1.0
CHANGES = "key-changes"  # the setting that counts them


class _Kept(NamedTuple):
    key: Key
    until: float


class Keys:
    """The access keys of this cloud, as the verifier of signatures asks for them.

    An id's secret never changes, so every `Key` is of version 1.
    """

    def __init__(self, db: Database, box: SecretsBox, clock: Clock) -> None:
        self._db = db
        self._box = box
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._changes = 0

    async def find(self, access_key_id: str) -> Key | None:
        """The key, active or not; None if nobody has it."""
        kept = self._kept.get(access_key_id)
        now = self._clock.boot()
        if kept is not None and now < kept.until:
            return kept.key
        changes = self._changes
        found = await self._db.read(lambda tx: accounts.signer(tx, access_key_id))
        if found is None:
            self._kept.pop(access_key_id, None)
            return None
        secret = self._box.unseal(found.key.sealed)
        key = Key(secret, principal_of(found), active=found.key.status == "Active")
        if changes == self._changes:  # else a change overtook this read, which may be of before it
            self._kept[access_key_id] = _Kept(key, now + KEPT_SECONDS)
        return key

    def changed(self, tx: Tx) -> None:
        """This transaction takes a key, a user or an account away, or changes what it may be used for."""
        settings.count_one(tx, CHANGES)
        tx.on_commit(self.forget)

    def forget(self) -> None:
        """Keys have changed: ask again. To be called when the change is durable."""
        self._changes += 1
        self._kept.clear()


def principal_of(found: Signer) -> Principal:
    """Who signs with the key: the root of an account, or one of its users."""
    key = found.key
    if not key.user_id:
        arn = f"arn:aws:iam::{key.account_id}:root"
        return Principal(key.account_id, arn, key.account_id, key.id, is_root=True)
    arn = f"arn:aws:iam::{key.account_id}:user{found.path}{found.user}"
    return Principal(key.account_id, arn, key.user_id, key.id)
