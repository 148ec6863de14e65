"""What counts as public, for the public access block: open to more than a fixed set of callers.

Source: "Blocking public access to your Amazon S3 storage: The meaning of 'public'".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mallee.walrus.access.acl import ALL_USERS, AUTHENTICATED_USERS, Grant
from mallee.walrus.access.conditions import network
from mallee.walrus.access.policy import Policy, Statement

# Conditions on these with fixed values name a closed circle.
_CIRCLES = """
    aws:sourcearn aws:sourcevpc aws:sourcevpce aws:sourceowner aws:sourceaccount aws:principalaccount
    aws:principalarn aws:principalorgid aws:principalorgpaths aws:userid
    s3:x-amz-server-side-encryption-aws-kms-key-id s3:dataaccesspointarn
"""
_CLOSING: Final = frozenset(_CIRCLES.split())
_POSITIVE: Final = frozenset(
    {"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike", "IpAddress"}
)
_WIDEST: Final = {4: 8, 6: 32}  # a prefix that is shorter holds too much of the Internet to be a circle


class PublicAccessBlock(msgspec.Struct, frozen=True):
    """The four switches of a bucket; all are on for a new one, as on S3 since April 2023."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False


OFF: Final = PublicAccessBlock()
ALL_ON: Final = PublicAccessBlock(True, True, True, True)


def are_public(grants: Iterable[Grant]) -> bool:
    """Whether any grant is for everybody, or for every account."""
    return any(grant.grantee in {ALL_USERS, AUTHENTICATED_USERS} for grant in grants)


def is_public(policy: Policy) -> bool:
    """Whether any statement lets in more than a fixed set of callers."""
    return any(_is_open(statement) for statement in policy.statements)


def _is_open(statement: Statement) -> bool:
    if not statement.allows or not (statement.principals.everybody or statement.not_principal):
        return False
    return not any(
        _closes(name, key.lower(), values if isinstance(values, list) else [values])
        for name, keys in statement.block.items()
        for key, values in keys.items()
    )


def _closes(operator: str, key: str, values: list[Any]) -> bool:
    if operator not in _POSITIVE:
        return False
    if key == "aws:sourceip":
        ranges = [network(str(value)) for value in values]
        return all(each.prefixlen >= _WIDEST[each.version] for each in ranges)
    return key in _CLOSING and not any(mark in str(value) for value in values for mark in ("*", "?", "${"))
