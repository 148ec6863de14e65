"""Security groups and their rules, one row a rule.

Source: "Amazon EC2 security groups". Two rules of a group are the same when direction, protocol,
ports and peer are; the description does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    String,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    select,
)

from mallee.aws.errors import InvalidParameter
from mallee.clc.db import settings
from mallee.clc.db.metadata import metadata
from mallee.clc.errors import (
    InvalidGroupIdMalformed,
    InvalidGroupNotFound,
    SecurityGroupsPerInterfaceLimitExceeded,
)
from mallee.clc.resource_ids import is_id
from mallee.kernel.db import Prepared, Tx
from mallee.kernel.entropy import Entropy, resource_id

GROUPS_PER_INTERFACE = 5

security_groups = Table(
    "security_groups",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("vpc_id", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("description", String(255), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_security_groups_account", "account_id", "id"),
    Index("ux_security_groups_name", "vpc_id", "name", unique=True),
)
security_group_rules = Table(
    "security_group_rules",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("group_id", String(32), nullable=False),
    Column("egress", Boolean, nullable=False),
    Column("protocol", String(8), nullable=False),  # tcp, udp, icmp, icmpv6, a number, -1 for all
    Column("from_port", Integer, nullable=False),  # ICMP: the type; -1 for all
    Column("to_port", Integer, nullable=False),  # ICMP: the code; -1 for all
    Column("peer_kind", String(8), nullable=False),  # ipv4, ipv6, group
    Column("peer", String(64), nullable=False),  # a CIDR or a group's id
    Column("peer_account", String(12), nullable=False),  # of a group; else empty
    Column("description", String(255), nullable=False),
    Index(
        "ux_security_group_rules_same",
        "group_id",
        "egress",
        "protocol",
        "from_port",
        "to_port",
        "peer",
        unique=True,
    ),
    Index("ix_security_group_rules_account", "account_id", "id"),
    Index("ix_security_group_rules_peer", "peer", "group_id"),
)


class Group(NamedTuple):
    """A security group of one VPC."""

    id: str
    account_id: str
    vpc_id: str
    name: str
    description: str
    created_ms: int

    @property
    def is_default(self) -> bool:
        return self.name == "default"


class Rule(NamedTuple):
    """What a group lets in or out; the fields say what the columns do."""

    id: str
    account_id: str
    group_id: str
    egress: bool
    protocol: str
    from_port: int
    to_port: int
    peer_kind: str
    peer: str
    peer_account: str = ""
    description: str = ""

    @property
    def same(self) -> tuple[bool, str, int, int, str]:
        """Equal for two rules of a group that let the same through."""
        return self.egress, self.protocol, self.from_port, self.to_port, self.peer


class DefaultGroupIds(NamedTuple):
    """The ids that a new VPC's default group needs, made before its transaction."""

    group: str
    ingress: str
    egress: str

    @classmethod
    def make(cls, entropy: Entropy) -> DefaultGroupIds:
        return cls(resource_id(entropy, "sg"), resource_id(entropy, "sgr"), resource_id(entropy, "sgr"))


_G = security_groups.c
_R = security_group_rules.c
_OWN = _G.account_id == bindparam("account")
_BY_IDS = Prepared(select(security_groups).where(_OWN, _G.id.in_(bindparam("ids", expanding=True))))
_BY_NAMES = Prepared(
    select(security_groups).where(
        _OWN, _G.vpc_id == bindparam("vpc"), _G.name.in_(bindparam("names", expanding=True))
    )
)
_PAGE = Prepared(
    select(security_groups).where(_OWN, _G.id > bindparam("after")).order_by(_G.id).limit(bindparam("size"))
)
_RULES = Prepared(
    select(security_group_rules)
    .where(_R.group_id.in_(bindparam("groups", expanding=True)))
    .order_by(_R.group_id, _R.id)
)
_RULES_BY_IDS = Prepared(
    select(security_group_rules).where(
        _R.account_id == bindparam("account"), _R.id.in_(bindparam("ids", expanding=True))
    )
)
_RULE_PAGE = Prepared(
    select(security_group_rules)
    .where(_R.account_id == bindparam("account"), _R.id > bindparam("after"))
    .order_by(_R.id)
    .limit(bindparam("size"))
)
_REFERENCED = Prepared(
    select(exists().where(and_(_R.peer == bindparam("group"), _R.group_id != bindparam("group"))))
)
_DELETE = Prepared(delete(security_groups).where(_G.id == bindparam("b_id"), _OWN))
_DELETE_RULES_OF = Prepared(delete(security_group_rules).where(_R.group_id == bindparam("b_group")))
_DELETE_RULES = Prepared(delete(security_group_rules).where(_R.id.in_(bindparam("ids", expanding=True))))
_DROP_GROUPS = Prepared(delete(security_groups).where(_OWN))
_DROP_RULES = Prepared(delete(security_group_rules).where(_R.account_id == bindparam("account")))


def by_ids(tx: Tx, account: str, ids: Collection[str]) -> list[Group]:
    """Those of `ids` that are the account's."""
    return [Group(*row) for row in tx.execute(_BY_IDS, {"account": account, "ids": list(ids)})]


def by_names(tx: Tx, account: str, vpc_id: str, names: Collection[str]) -> list[Group]:
    """Those of `names` that the account's VPC has."""
    rows = tx.execute(_BY_NAMES, {"account": account, "vpc": vpc_id, "names": list(names)})
    return [Group(*row) for row in rows]


def check_ids(ids: Iterable[str]) -> None:
    """Raises InvalidGroupIdMalformed for what cannot be a group's id."""
    for one in ids:
        if not is_id("sg", one):
            raise InvalidGroupIdMalformed(one)


def resolve(
    tx: Tx, account: str, vpc_id: str, *, ids: Sequence[str] = (), names: Sequence[str] = ()
) -> list[Group]:
    """The groups meant, ids first, each once.

    Raises:
        InvalidGroupIdMalformed
        InvalidGroupNotFound: names all that are not the account's.
        InvalidParameter: a group of another VPC.
        SecurityGroupsPerInterfaceLimitExceeded: more than an interface may have.
    """
    check_ids(ids)
    found = {group.id: group for group in by_ids(tx, account, ids)} if ids else {}
    named = {group.name: group for group in by_names(tx, account, vpc_id, names)} if names else {}
    missing = [one for one in ids if one not in found] + [one for one in names if one not in named]
    if missing:
        raise InvalidGroupNotFound(*missing)
    if any(group.vpc_id != vpc_id for group in found.values()):
        raise InvalidParameter("You have specified two resources that belong to different networks.")
    wanted = [found[one] for one in ids] + [named[one] for one in names]
    groups = list({group.id: group for group in wanted}.values())
    if len(groups) > GROUPS_PER_INTERFACE:
        raise SecurityGroupsPerInterfaceLimitExceeded
    return groups


def get(tx: Tx, account: str, group_id: str) -> Group:
    """The account's group. Raises InvalidGroupIdMalformed, InvalidGroupNotFound."""
    check_ids((group_id,))
    found = by_ids(tx, account, (group_id,))
    if not found:
        raise InvalidGroupNotFound(group_id)
    return found[0]


def default(tx: Tx, account: str, vpc_id: str) -> Group:
    """The VPC's group for whoever names none. Raises InvalidGroupNotFound."""
    found = by_names(tx, account, vpc_id, ("default",))
    if not found:
        raise InvalidGroupNotFound("default")
    return found[0]


def page(tx: Tx, account: str, after: str = "", size: int = 1000) -> list[Group]:
    """The account's groups by id, from behind `after`."""
    return [Group(*row) for row in tx.execute(_PAGE, {"account": account, "after": after, "size": size})]


def rules_of(tx: Tx, group_ids: Collection[str]) -> dict[str, list[Rule]]:
    """The rules of each group, by id."""
    rules: dict[str, list[Rule]] = {group_id: [] for group_id in group_ids}
    for row in tx.execute(_RULES, {"groups": list(group_ids)}):
        rules[row.group_id].append(Rule(*row))
    return rules


def rules_by_ids(tx: Tx, account: str, ids: Collection[str]) -> list[Rule]:
    """Those of `ids` that are rules of the account's groups."""
    return [Rule(*row) for row in tx.execute(_RULES_BY_IDS, {"account": account, "ids": list(ids)})]


def rule_page(tx: Tx, account: str, after: str = "", size: int = 1000) -> list[Rule]:
    """The rules of all the account's groups by id, from behind `after`."""
    return [Rule(*row) for row in tx.execute(_RULE_PAGE, {"account": account, "after": after, "size": size})]


def referenced(tx: Tx, group_id: str) -> bool:
    """Whether a rule of another group names this one."""
    return bool(tx.execute(_REFERENCED, {"group": group_id}).scalar_one())


def add(tx: Tx, group: Group, rules: Iterable[Rule] = ()) -> None:
    """Keep a new group; its name is free in its VPC."""
    tx.execute(insert(security_groups), group._asdict())
    add_rules(tx, rules)


def add_rules(tx: Tx, rules: Iterable[Rule]) -> None:
    """Keep new rules, none of which its group has."""
    rows = [rule._asdict() for rule in rules]
    if rows:
        tx.execute(insert(security_group_rules), rows)


def remove(tx: Tx, account: str, group_id: str) -> None:
    """Forget a group and its rules."""
    tx.execute(_DELETE_RULES_OF, {"b_group": group_id})
    tx.execute(_DELETE, {"b_id": group_id, "account": account})
    settings.count_one(tx, settings.GROUND)


def remove_rules(tx: Tx, ids: Collection[str]) -> None:
    """Forget rules."""
    if ids:
        tx.execute(_DELETE_RULES, {"ids": list(ids)})


def create_default(tx: Tx, account: str, vpc_id: str, ids: DefaultGroupIds, now_ms: int) -> Group:
    """A new VPC's default group: its members reach each other, and everything outside."""
    group = Group(ids.group, account, vpc_id, "default", "default VPC security group", now_ms)
    within = Rule(ids.ingress, account, group.id, False, "-1", -1, -1, "group", group.id, account)
    add(tx, group, (within, all_out(group, ids.egress)))
    return group


def all_out(group: Group, rule_id: str) -> Rule:
    """The rule that every new group has: whatever goes out may go."""
    return Rule(rule_id, group.account_id, group.id, True, "-1", -1, -1, "ipv4", "0.0.0.0/0")


def drop_account(tx: Tx, account: str) -> None:
    """Forget the groups of an account that is no more."""
    tx.execute(_DROP_RULES, {"account": account})
    tx.execute(_DROP_GROUPS, {"account": account})
    settings.count_one(tx, settings.GROUND)
