"""What a new account gets before its first request: root key, default VPC, default group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mallee.clc.db import accounts, images, key_pairs, network, security_groups, tags
from mallee.clc.db.accounts import AccessKey, Account
from mallee.clc.db.network import VpcIds
from mallee.clc.db.security_groups import DefaultGroupIds
from mallee.kernel.db import Tx
from mallee.kernel.entropy import Entropy


class NewTenant(NamedTuple):
    """An account with everything that it starts with, made before its transaction.

    `zones` are the names of the cloud's zones, a default subnet each out of `cidr`.
    """

    account: Account
    root_key: AccessKey
    vpc: VpcIds
    group: DefaultGroupIds
    zones: tuple[str, ...]
    cidr: str


def prepare(
    name: str,
    *,
    entropy: Entropy,
    seal: Callable[[str], str],
    zones: Sequence[str],
    cidr: str,
    now_ms: int,
    is_admin: bool = False,
) -> tuple[NewTenant, str]:
    """A tenant to be created, and the only plain copy of its root key's secret."""
    account_id = accounts.new_account_id(entropy)
    secret = accounts.new_secret(entropy)
    key = AccessKey(accounts.new_unique_id(entropy, "AKIA"), account_id, "", seal(secret), "Active", now_ms)
    tenant = NewTenant(
        Account(account_id, name, is_admin, now_ms),
        key,
        VpcIds.make(entropy, len(zones)),
        DefaultGroupIds.make(entropy),
        tuple(zones),
        cidr,
    )
    return tenant, secret


def create(tx: Tx, tenant: NewTenant) -> None:
    """Keep the tenant; its name is free."""
    account, now_ms = tenant.account, tenant.account.created_ms
    accounts.add_account(tx, account)
    accounts.add_key(tx, tenant.root_key)
    vpc = network.create_default_vpc(tx, account.id, tenant.zones, tenant.cidr, tenant.vpc, now_ms)
    security_groups.create_default(tx, account.id, vpc.id, tenant.group, now_ms)


def bootstrap(tx: Tx, tenant: NewTenant) -> AccessKey:
    """The admin's root key: of the cloud that is there, or of `tenant` if there is none yet."""
    there = accounts.admin(tx)
    if there is None:
        create(tx, tenant)
        return tenant.root_key
    working = [key for key in accounts.keys_of(tx, there.id, "") if key.status == "Active"]
    if not working:  # deleted or made inactive: without a new one nobody would ever get in again
        fresh = tenant.root_key._replace(account_id=there.id)
        accounts.add_key(tx, fresh)
        return fresh
    return min(working, key=lambda key: (key.created_ms, key.id))


def widen(tx: Tx, zones: Sequence[str], new_id: Callable[[], str], now_ms: int) -> None:
    """Every account's default VPC gets a subnet in each zone that is newer than the account.

    Args:
        tx: a writing one.
        zones: the cloud's zones.
        new_id: makes a subnet's id.
        now_ms: the time of their making.
    """
    for account in accounts.all_accounts(tx):
        home = network.default_vpc(tx, account.id)
        if home is None:
            continue
        there = {one.zone for one in network.default_subnets(tx, account.id)}
        for zone in zones:
            if zone not in there:
                network.add_default_subnet(tx, home, zone, new_id(), now_ms)


def remove(tx: Tx, account_id: str) -> None:
    """Forget an account that has no instances any more."""
    security_groups.drop_account(tx, account_id)
    network.drop_account(tx, account_id)
    images.drop_account(tx, account_id)
    key_pairs.drop_account(tx, account_id)
    tags.drop_account(tx, account_id)
    accounts.remove_account(tx, account_id)
