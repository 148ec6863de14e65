"""The first start of a cloud: its administrator's account, its built-in image, its secrets.

Every start does the same and finds what is there, so two controllers that start at once make one cloud.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from mallee.clc.config import ClcConfig
from mallee.clc.db import images, settings, tenants
from mallee.clc.db.images import Image
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import Entropy, resource_id
from mallee.kernel.secrets_box import SecretsBox

ADMIN = "admin"
FIRST_KEY = "first-key.json"  # beside the database, for whoever starts the cloud
BUILT_IN = "ami-00000000000a11ee0"


class FirstKey(msgspec.Struct, frozen=True, kw_only=True):
    """An access key of the administrator's root."""

    account_id: str
    access_key_id: str
    secret_access_key: str


class Founded(NamedTuple):
    """What every process of the cloud must know."""

    first: FirstKey
    page_key: bytes
    door_token: str


async def found(
    db: Database, config: ClcConfig, box: SecretsBox, *, clock: Clock, entropy: Entropy
) -> Founded:
    """The cloud's beginning, made now if it has none yet."""
    now_ms = int(clock.now().timestamp() * 1000)
    tenant, _ = tenants.prepare(
        ADMIN,
        entropy=entropy,
        seal=box.seal,
        zones=[cluster.zone for cluster in config.clusters],
        cidr=config.default_vpc_cidr,
        now_ms=now_ms,
        is_admin=True,
    )
    fresh, token = (box.seal(entropy.token(32).hex()).encode() for _ in range(2))

    def work(tx: Tx) -> tuple[str, str, str, bytes, bytes]:
        key = tenants.bootstrap(tx, tenant)
        tenants.widen(tx, tenant.zones, lambda: resource_id(entropy, "subnet"), now_ms)
        _add_built_in(tx, key.account_id, now_ms)
        secrets = settings.once(tx, "page-key", fresh), settings.once(tx, "door-token", token)
        return key.account_id, key.id, key.sealed, *secrets

    account_id, key_id, sealed, page_key, door_token = await db.transact(work)
    secret = box.unseal(sealed).reveal()
    first = FirstKey(account_id=account_id, access_key_id=key_id, secret_access_key=secret)
    return Founded(
        first,
        bytes.fromhex(box.unseal(page_key.decode()).reveal()),
        box.unseal(door_token.decode()).reveal(),
    )


def keep(first: FirstKey, folder: Path) -> None:
    """Write the first key where `mallee env` looks for it, for its owner's eyes alone."""
    path = folder / FIRST_KEY
    path.touch(mode=0o600, exist_ok=True)
    path.write_bytes(msgspec.json.encode(first))


def _add_built_in(tx: Tx, account_id: str, now_ms: int) -> None:
    """One image for fake nodes, which need no file; everybody may launch it."""
    if images.by_ids(tx, account_id, (BUILT_IN,)) or images.owned(tx, account_id):
        return  # there, or the administrator has taken it away on purpose
    images.add(
        tx,
        Image(
            id=BUILT_IN,
            account_id=account_id,
            owner_alias="amazon",
            name="mallee-tiny",
            description="A tiny guest for fake nodes",
            location="builtin:tiny",
            public=True,
            created_ms=now_ms,
        ),
    )
