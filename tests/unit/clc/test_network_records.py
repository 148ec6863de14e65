"""Addresses, subnets, interfaces, groups and tags as records."""

from __future__ import annotations

import pytest

from mallee.aws.errors import InvalidParameterValue
from mallee.clc.db import (
    accounts,
    images,
    interfaces,
    key_pairs,
    network,
    security_groups,
    settings,
    tags,
    tenants,
)
from mallee.clc.db.interfaces import Interface
from mallee.clc.db.metadata import metadata
from mallee.clc.errors import (
    InsufficientFreeAddressesInSubnet,
    InvalidGroupNotFound,
    InvalidIPAddressInUse,
    InvalidSubnetIDNotFound,
    TagLimitExceeded,
)
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import SeededEntropy

ROWS = (
    (accounts.accounts, accounts.Account),
    (accounts.users, accounts.User),
    (accounts.access_keys, accounts.AccessKey),
    (images.images, images.Image),
    (interfaces.network_interfaces, interfaces.Interface),
    (key_pairs.key_pairs, key_pairs.KeyPair),
    (network.subnets, network.Subnet),
    (network.vpcs, network.Vpc),
    (security_groups.security_groups, security_groups.Group),
    (security_groups.security_group_rules, security_groups.Rule),
    (tags.tags, tags.Tag),
)


def a_tenant(name: str = "ada", cidr: str = "172.31.0.0/18", seed: int = 1) -> tenants.NewTenant:
    return tenants.prepare(
        name,
        entropy=SeededEntropy(seed),
        seal=str.upper,
        zones=("one", "two"),
        cidr=cidr,
        now_ms=1,
        is_admin=True,
    )[0]


def place(tx: Tx, tenant: tenants.NewTenant) -> network.Subnet:
    tenants.create(tx, tenant)
    return network.default_subnets(tx, tenant.account.id)[0]


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda one: getattr(one, "name", ""))
def test_a_row_has_the_fields_of_its_table_in_their_order(table, row) -> None:
    assert tuple(table.c.keys()) == row._fields


async def test_a_new_account_has_a_subnet_in_each_zone_and_a_group(db: Database) -> None:
    tenant = a_tenant()

    def work(tx: Tx) -> None:
        first, second = place(tx, tenant), network.default_subnets(tx, tenant.account.id)[1]
        assert (first.zone, first.cidr, first.free) == ("one", "172.31.0.0/20", 4091)
        assert (second.zone, second.cidr, second.free) == ("two", "172.31.16.0/20", 4091)
        group = security_groups.default(tx, tenant.account.id, first.vpc_id)
        within, out = sorted(security_groups.rules_of(tx, (group.id,))[group.id], key=lambda r: r.egress)
        assert (within.peer, out.peer) == (group.id, "0.0.0.0/0")

    await db.transact(work)


@pytest.mark.parametrize(
    ("cidr", "zones", "last"),
    [
        ("172.31.0.0/16", 8, "172.31.112.0/20"),
        ("172.31.0.0/16", 2, "172.31.64.0/18"),
        ("172.31.0.0/16", 9, "172.31.64.0/21"),
        ("10.0.0.0/24", 2, "10.0.0.64/26"),
    ],
)
def test_subnets_lie_in_the_first_half(cidr: str, zones: int, last: str) -> None:
    assert str(network.layout(cidr, zones)[-1]) == last


def test_too_many_zones_are_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        network.layout("10.0.0.0/26", 4)


async def test_addresses_come_in_order_and_a_released_one_rests(db: Database) -> None:
    def work(tx: Tx) -> None:
        home = place(tx, a_tenant())
        first = network.allocate(tx, home, 3)
        assert [network.text(one) for one in first] == ["172.31.0.4", "172.31.0.5", "172.31.0.6"]
        network.give_back(tx, home.id, first[:1])
        assert [network.text(one) for one in network.allocate(tx, home, 1)] == ["172.31.0.7"]
        network.give_back(tx, home.id, first[1:])
        left = network.subnet(tx, home.account_id, home.id).free
        rest = network.allocate(tx, home, left)
        assert len(set(rest)) == left == 4090
        assert sorted(rest)[:3] == first  # only after the cursor has gone round
        assert network.text(max(rest)) == "172.31.15.254"
        with pytest.raises(InsufficientFreeAddressesInSubnet):
            network.allocate(tx, home, 1)

    await db.transact(work)


async def test_an_address_can_be_asked_for(db: Database) -> None:
    def work(tx: Tx) -> None:
        home = place(tx, a_tenant())
        low = int(home.block().network_address)
        assert network.allocate(tx, home, 1, low + 100) == [low + 100]
        with pytest.raises(InvalidIPAddressInUse):
            network.allocate(tx, home, 1, low + 100)
        for refused in (low - 1, low + 3, low + 4095, low + 4096):
            with pytest.raises(InvalidParameterValue):
                network.allocate(tx, home, 1, refused)
        assert low + 100 not in network.allocate(tx, home, 200)

    await db.transact(work)


async def test_the_ranges_agree_with_a_plain_set(db: Database) -> None:
    """The slow twin: whatever is taken and given back, no address has two owners and none is lost."""
    chance = SeededEntropy(7)

    def up_to(most: int) -> int:
        return int(chance.uniform(0, most + 0.999))

    def work(tx: Tx) -> None:
        home = place(tx, a_tenant(cidr="10.0.0.0/24"))
        low = int(home.block().network_address)
        everything = set(range(low + 4, low + home.block().num_addresses - 1))
        held: set[int] = set()
        for _ in range(300):
            if up_to(1) and len(held) < len(everything):
                count = min(1 + up_to(8), len(everything) - len(held))
                taken = network.allocate(tx, home, count)
                assert len(taken) == count
                assert held.isdisjoint(taken)
                held |= set(taken)
            else:
                back = sorted(held, key=lambda _: chance.uniform(0, 1))[: up_to(12)]
                network.give_back(tx, home.id, back)
                held -= set(back)
            assert held <= everything
            assert network.subnet(tx, home.account_id, home.id).free == len(everything - held)
        network.give_back(tx, home.id, held)
        assert set(network.allocate(tx, home, len(everything))) == everything

    await db.transact(work)


async def test_interfaces_end_with_their_instance_and_give_the_address_back(db: Database) -> None:
    def work(tx: Tx) -> None:
        home = place(tx, a_tenant())
        account, group = home.account_id, security_groups.default(tx, home.account_id, home.vpc_id)
        stays, goes = network.allocate(tx, home, 2)
        rows = [
            Interface(one, account, home.id, home.vpc_id, home.zone, address, interfaces.mac_of(one),
                      instance_id="i-1", delete_on_termination=ends)
            for one, address, ends in (("eni-0000000000000aaaa", stays, False), ("eni-0000000000000bbbb", goes, True))
        ]  # fmt: skip
        interfaces.insert_interfaces(tx, rows, [(group.id,), (group.id,)])
        assert [one.id for one in interfaces.of_groups(tx, account, (group.id,))] == [row.id for row in rows]
        interfaces.release(tx, ("i-1",))
        (left,) = interfaces.page(tx, account)
        assert (left.address, left.status, left.instance_id) == (stays, "available", "")
        assert interfaces.groups_of(tx, [row.id for row in rows]) == {left.id: [group.id]}
        assert network.subnet(tx, account, home.id).free == 4090

    await db.transact(work)


def test_macs_are_local_and_of_one_host() -> None:
    assert interfaces.mac_of("eni-0ffffffffffffffff") == "fe:ff:ff:ff:ff:ff"
    assert interfaces.mac_of("eni-00000000000000001") == "02:00:00:00:00:01"


async def test_another_account_sees_nothing(db: Database) -> None:
    def work(tx: Tx) -> None:
        home = place(tx, a_tenant())
        stranger = place(tx, a_tenant("bob", seed=2)._replace()).account_id
        with pytest.raises(InvalidSubnetIDNotFound):
            network.subnet(tx, stranger, home.id)
        group = security_groups.default(tx, home.account_id, home.vpc_id)
        with pytest.raises(InvalidGroupNotFound):
            security_groups.resolve(tx, stranger, home.vpc_id, ids=(group.id,))
        with pytest.raises(InvalidGroupNotFound):
            security_groups.resolve(tx, stranger, home.vpc_id, names=("default",))

    await db.transact(work)


async def test_groups_are_resolved_in_order_and_once(db: Database) -> None:
    def work(tx: Tx) -> None:
        home = place(tx, a_tenant())
        account, vpc = home.account_id, home.vpc_id
        web = security_groups.Group("sg-00000001", account, vpc, "web", "", 1)
        security_groups.add(tx, web)
        default = security_groups.default(tx, account, vpc)
        assert security_groups.resolve(tx, account, vpc, ids=("sg-00000001",), names=("default", "web")) == [
            web,
            default,
        ]
        with pytest.raises(InvalidGroupNotFound, match="'sg-00000002, db'"):
            security_groups.resolve(tx, account, vpc, ids=("sg-00000002",), names=("db",))

    await db.transact(work)


async def test_fifty_tags_and_no_more(db: Database) -> None:
    def work(tx: Tx) -> None:
        tags.put(tx, "1", "ami-1", "image", {f"k{n}": "" for n in range(50)} | {"aws:own": "x"})
        tags.put(tx, "1", "ami-1", "image", {"k0": "again"})
        with pytest.raises(TagLimitExceeded):
            tags.put(tx, "1", "ami-1", "image", {"more": ""})

    await db.transact(work)


async def test_tags_go_by_key_by_pair_or_all(db: Database) -> None:
    def work(tx: Tx) -> None:
        tags.put(tx, "1", "ami-1", "image", {"a": "1", "b": "", "c": "3", "aws:x": "y"})
        tags.remove(tx, "1", "ami-1", {"a": "other", "b": ""})
        assert tags.of(tx, "1", ("ami-1",)) == {"ami-1": {"a": "1", "aws:x": "y", "c": "3"}}
        tags.remove(tx, "1", "ami-1", {"a": None})
        tags.remove_all(tx, "1", "ami-1")
        assert tags.of(tx, "1", ("ami-1",)) == {"ami-1": {"aws:x": "y"}}
        assert tags.of(tx, "2", ("ami-1",)) == {}
        tags.drop(tx, "1", ("ami-1",))
        assert tags.page(tx, "1") == []

    await db.transact(work)


async def test_a_cloud_is_bootstrapped_once(db: Database) -> None:
    def work(tx: Tx) -> None:
        key = tenants.bootstrap(tx, a_tenant())
        assert tenants.bootstrap(tx, a_tenant(seed=2)) == key
        accounts.remove_key(tx, key.id)
        fresh = tenants.bootstrap(tx, a_tenant(seed=3))
        assert fresh.id != key.id
        assert fresh.account_id == key.account_id
        assert [one.name for one in accounts.all_accounts(tx)] == ["ada"]

    await db.transact(work)


async def test_the_key_that_is_shown_is_the_oldest_that_works(db: Database) -> None:
    def work(tx: Tx) -> None:
        first = tenants.bootstrap(tx, a_tenant())
        accounts.add_key(tx, first._replace(id="AAAA", created_ms=first.created_ms + 1))
        assert tenants.bootstrap(tx, a_tenant(seed=2)) == first
        accounts.set_status(tx, first.id, "Inactive")
        assert tenants.bootstrap(tx, a_tenant(seed=2)).id == "AAAA"
        accounts.set_status(tx, "AAAA", "Inactive")
        fresh = tenants.bootstrap(tx, a_tenant(seed=2))
        assert (fresh.status, fresh.account_id) == ("Active", first.account_id), "nobody is locked out"
        assert accounts.key_of(tx, first.account_id, "", first.id).status == "Inactive"  # type: ignore[union-attr]

    await db.transact(work)


async def test_a_new_zone_gets_a_subnet_in_every_account(db: Database) -> None:
    def work(tx: Tx) -> None:
        homes = [
            place(tx, a_tenant()),
            place(tx, a_tenant("bob", seed=2)),
            place(tx, a_tenant("cyd", "10.0.0.0/26", 3)),
        ]
        ids = iter(range(100))
        for _ in range(2):  # a second start finds all done
            tenants.widen(tx, ("one", "two", "three"), lambda: f"subnet-{next(ids)}", 2)
        cidrs = [network.default_subnets(tx, home.account_id)[1].cidr for home in homes]
        assert cidrs == ["172.31.32.0/20", "172.31.32.0/20", "10.0.0.32/28"]
        third = network.default_subnets(tx, homes[0].account_id)[1]
        assert third.zone == "three"
        assert len(network.allocate(tx, third, 4091)) == 4091
        with pytest.raises(ValueError, match="no room"):
            tenants.widen(tx, ("four", "five", "six"), lambda: f"subnet-{next(ids)}", 2)

    await db.transact(work)


async def test_an_account_goes_whole(db: Database) -> None:
    def work(tx: Tx) -> None:
        home = place(tx, a_tenant())
        tags.put(tx, home.account_id, home.id, "subnet", {"a": "b"})
        tenants.remove(tx, home.account_id)
        for table in metadata.sorted_tables:
            if table is not settings.settings:  # which are the cloud's
                assert tx.execute(table.select()).all() == [], table.name

    await db.transact(work)
