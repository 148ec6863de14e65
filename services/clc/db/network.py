"""VPCs and subnets. Every account has a default VPC with one subnet in each zone.

Source: "Default VPCs". An address is an integer, as `ipaddress` counts; EC2 keeps the first four
and the last of every subnet for itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from mallee.aws.errors import InvalidParameterValue
from mallee.clc.db import addresses, settings
from mallee.clc.db.metadata import metadata
from mallee.clc.errors import (
    InsufficientFreeAddressesInSubnet,
    InvalidIPAddressInUse,
    InvalidSubnetIDNotFound,
    InvalidVpcIDNotFound,
)
from mallee.kernel.db import Prepared, Tx
from mallee.kernel.entropy import Entropy, resource_id

RESERVED_LOW = 4
RESERVED_HIGH = 1

vpcs = Table(
    "vpcs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("cidr", String(18), nullable=False),
    Column("cidr_association_id", String(40), nullable=False),
    Column("dhcp_options_id", String(32), nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_vpcs_account", "account_id", "id"),
)
subnets = Table(
    "subnets",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("vpc_id", String(32), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("cidr", String(18), nullable=False),
    Column("is_default", Boolean, nullable=False),  # the zone's default
    Column("public_ip_on_launch", Boolean, nullable=False),
    Column("free", Integer, nullable=False),
    Column("cursor", BigInteger, nullable=False),  # the address that was given last
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_subnets_account", "account_id", "id"),
    Index("ix_subnets_vpc", "vpc_id"),
)


class Vpc(NamedTuple):
    """A virtual private cloud."""

    id: str
    account_id: str
    cidr: str
    cidr_association_id: str
    dhcp_options_id: str
    is_default: bool
    created_ms: int


class Subnet(NamedTuple):
    """A subnet of one zone; `free` counts the addresses that nobody has."""

    id: str
    account_id: str
    vpc_id: str
    zone: str
    cidr: str
    is_default: bool
    public_ip_on_launch: bool
    free: int
    cursor: int
    created_ms: int

    def block(self) -> IPv4Network:
        return IPv4Network(self.cidr)


class VpcIds(NamedTuple):
    """The ids that a new default VPC needs, made before its transaction."""

    vpc: str
    cidr_association: str
    dhcp_options: str
    subnets: tuple[str, ...]

    @classmethod
    def make(cls, entropy: Entropy, zones: int) -> VpcIds:
        return cls(
            resource_id(entropy, "vpc"),
            resource_id(entropy, "vpc-cidr-assoc"),
            resource_id(entropy, "dopt"),
            tuple(resource_id(entropy, "subnet") for _ in range(zones)),
        )


_VPCS = Prepared(select(vpcs).where(vpcs.c.account_id == bindparam("account")).order_by(vpcs.c.id))
_DEFAULT_VPC = Prepared(select(vpcs).where(vpcs.c.account_id == bindparam("account"), vpcs.c.is_default))
_SUBNETS = Prepared(
    select(subnets).where(subnets.c.account_id == bindparam("account")).order_by(subnets.c.id)
)
_DEFAULTS = Prepared(
    select(subnets)
    .where(subnets.c.account_id == bindparam("account"), subnets.c.is_default)
    .order_by(subnets.c.zone)
)
_SUBNET = Prepared(
    select(subnets).where(subnets.c.id == bindparam("id"), subnets.c.account_id == bindparam("account"))
)
_FREE = Prepared(select(subnets.c.free, subnets.c.cursor).where(subnets.c.id == bindparam("id")))
_COUNT = Prepared(
    update(subnets).where(subnets.c.id == bindparam("b_id")).values(free=subnets.c.free + bindparam("more"))
)
_TAKEN = Prepared(
    update(subnets)
    .where(subnets.c.id == bindparam("b_id"))
    .values(free=subnets.c.free - bindparam("less"), cursor=bindparam("new_cursor"))
)
_DROP_VPCS = Prepared(delete(vpcs).where(vpcs.c.account_id == bindparam("account")))
_DROP_SUBNETS = Prepared(delete(subnets).where(subnets.c.account_id == bindparam("account")))


def text(address: int) -> str:
    """`172.31.0.4`; `ipaddress` takes ten times as long, and every instance shows one."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def vpcs_of(tx: Tx, account: str) -> list[Vpc]:
    """The account's VPCs, by id."""
    return [Vpc(*row) for row in tx.execute(_VPCS, {"account": account})]


def default_vpc(tx: Tx, account: str) -> Vpc | None:
    """The VPC that is meant where none is named."""
    row = tx.execute(_DEFAULT_VPC, {"account": account}).first()
    return Vpc(*row) if row else None


def vpc(tx: Tx, account: str, vpc_id: str) -> Vpc:
    """The account's VPC. Raises InvalidVpcIDNotFound."""
    for found in vpcs_of(tx, account):
        if found.id == vpc_id:
            return found
    raise InvalidVpcIDNotFound(vpc_id)


def subnets_of(tx: Tx, account: str) -> list[Subnet]:
    """The account's subnets, by id."""
    return [Subnet(*row) for row in tx.execute(_SUBNETS, {"account": account})]


def default_subnets(tx: Tx, account: str) -> list[Subnet]:
    """The default VPC's subnets, one a zone, by zone."""
    return [Subnet(*row) for row in tx.execute(_DEFAULTS, {"account": account})]


def subnet(tx: Tx, account: str, subnet_id: str) -> Subnet:
    """The account's subnet. Raises InvalidSubnetIDNotFound."""
    row = tx.execute(_SUBNET, {"id": subnet_id, "account": account}).first()
    if row is None:
        raise InvalidSubnetIDNotFound(subnet_id)
    return Subnet(*row)


def allocate(tx: Tx, place: Subnet, count: int, wanted: int | None = None) -> list[int]:
    """Addresses that nobody else has, until `release`.

    Args:
        tx: where the addresses are taken.
        place: as read; its counters are read again here.
        count: 1 when an address is wanted.
        wanted: exactly this one.

    Raises:
        InsufficientFreeAddressesInSubnet: there are fewer; nothing was taken.
        InvalidParameterValue: `wanted` is not in the subnet or somebody's.
    """
    free, cursor = tx.execute(_FREE, {"id": place.id}).one()
    if free < count:
        raise InsufficientFreeAddressesInSubnet(
            f"There are not enough free addresses in subnet '{place.id}' to satisfy the requested number"
            " of instances."
        )
    if wanted is None:
        taken = addresses.take(tx, place.id, count, cursor)
        cursor = taken[-1]
    else:
        taken = [_take_wanted(tx, place, wanted)]
    tx.execute(_TAKEN, {"b_id": place.id, "less": len(taken), "new_cursor": cursor})
    return taken


def _take_wanted(tx: Tx, place: Subnet, wanted: int) -> int:
    block = place.block()
    low, high = int(block.network_address), int(block.broadcast_address)
    if not low <= wanted <= high:
        raise InvalidParameterValue(f"Address {text(wanted)} does not fall within the subnet's address range")
    if wanted < low + RESERVED_LOW or wanted > high - RESERVED_HIGH:
        raise InvalidParameterValue(f"Address {text(wanted)} is in subnet's reserved address range")
    if not addresses.take_one(tx, place.id, wanted):
        raise InvalidIPAddressInUse(f"Address {text(wanted)} is in use.")
    return wanted


def give_back(tx: Tx, subnet_id: str, returned: Collection[int]) -> None:
    """Addresses that `allocate` gave are free again."""
    addresses.give_back(tx, subnet_id, returned)
    tx.execute(_COUNT, {"b_id": subnet_id, "more": len(returned)})


def layout(cidr: str, zones: int) -> list[IPv4Network]:
    """One subnet a zone from the first half of the VPC's block, as large as they fit: /18 for two in a /16.

    AWS makes them /20, which is 4,091 instances a zone; one cluster here may hold more.

    Raises:
        ValueError: so many zones leave subnets smaller than a /28.
    """
    block = IPv4Network(cidr)
    prefix = block.prefixlen + 1 + (zones - 1).bit_length()
    if prefix > 28:
        raise ValueError(f"{cidr} has no room for {zones} subnets")
    blocks = block.subnets(new_prefix=prefix)
    return [next(blocks) for _ in range(zones)]


def create_default_vpc(
    tx: Tx, account: str, zones: Sequence[str], cidr: str, ids: VpcIds, now_ms: int
) -> Vpc:
    """An account's default VPC with one subnet in each of `zones`; its group is made beside it."""
    made = Vpc(ids.vpc, account, cidr, ids.cidr_association, ids.dhcp_options, True, now_ms)
    tx.execute(insert(vpcs), made._asdict())
    for zone, subnet_id, block in zip(zones, ids.subnets, layout(cidr, len(zones)), strict=True):
        _add_default_subnet(tx, made, zone, block, subnet_id, now_ms)
    return made


def add_default_subnet(tx: Tx, home: Vpc, zone: str, subnet_id: str, now_ms: int) -> None:
    """A default subnet in a zone that is newer than the VPC, as large as its neighbours if there is room.

    Raises:
        ValueError: the VPC's block is full.
    """
    taken = [one.block() for one in subnets_of(tx, home.account_id) if one.vpc_id == home.id]
    block = IPv4Network(home.cidr)
    for prefix in range(max((one.prefixlen for one in taken), default=block.prefixlen), 29):
        for wanted in block.subnets(new_prefix=prefix):
            if not any(wanted.overlaps(one) for one in taken):
                _add_default_subnet(tx, home, zone, wanted, subnet_id, now_ms)
                settings.count_one(tx, settings.GROUND)
                return
    raise ValueError(f"{home.cidr} has no room for a subnet in {zone}")


def _add_default_subnet(
    tx: Tx, home: Vpc, zone: str, block: IPv4Network, subnet_id: str, now_ms: int
) -> None:
    low = int(block.network_address) + RESERVED_LOW
    high = int(block.broadcast_address) - RESERVED_HIGH
    room = Subnet(
        subnet_id, home.account_id, home.id, zone, str(block), True, False, high - low + 1, low - 1, now_ms
    )
    tx.execute(insert(subnets), room._asdict())
    addresses.found(tx, subnet_id, low, high)


def drop_account(tx: Tx, account: str) -> None:
    """Forget the network of an account that is no more."""
    for gone in subnets_of(tx, account):
        addresses.abandon(tx, gone.id)
    tx.execute(_DROP_SUBNETS, {"account": account})
    tx.execute(_DROP_VPCS, {"account": account})
    settings.count_one(tx, settings.GROUND)
