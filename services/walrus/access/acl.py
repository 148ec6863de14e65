"""Access control lists: who was granted what on a bucket or an object.

Source: "Access control list (ACL) overview". A list is kept as JSON beside what it is for; an empty
document is the private list, which only its owner is on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from mallee.walrus.errors import S3Error
from mallee.walrus.identity import Identities, canonical_id

_GROUPS: Final = "http://acs.amazonaws.com/groups/"
ALL_USERS: Final = f"{_GROUPS}global/AllUsers"
AUTHENTICATED_USERS: Final = f"{_GROUPS}global/AuthenticatedUsers"
LOG_DELIVERY: Final = f"{_GROUPS}s3/LogDelivery"
READ, WRITE, READ_ACP, WRITE_ACP, FULL = "READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"
PERMISSIONS: Final = frozenset({READ, WRITE, READ_ACP, WRITE_ACP, FULL})
MOST: Final = 100  # grants of one list
_HEADERS: Final = {
    "GrantFullControl": FULL,
    "GrantRead": READ,
    "GrantWrite": WRITE,
    "GrantReadACP": READ_ACP,
    "GrantWriteACP": WRITE_ACP,
}
_ASKING: Final = frozenset({*_HEADERS, "ACL", "AccessControlPolicy"})
_grantee = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*(?:"([^"]*)"|([^",\s]*))\s*', re.IGNORECASE).fullmatch


class Grant(NamedTuple):
    """One permission; `grantee` is a canonical user id or a group's URI."""

    grantee: str
    permission: str

    @property
    def is_group(self) -> bool:
        return self.grantee.startswith("http")


Grants = tuple[Grant, ...]


def packed(grants: Grants) -> bytes:
    """As it is kept."""
    return msgspec.json.encode(grants)


def unpacked(document: bytes, owner: str) -> Grants:
    """The grants of a kept list; `owner` is the account's id, whose alone is an empty one."""
    if not document:
        return (Grant(canonical_id(owner), FULL),)
    return msgspec.json.decode(document, type=Grants)


def allow(grants: Grants, permission: str, canonical: str) -> bool:
    """Whether a caller has the permission.

    Args:
        grants: of the bucket or object.
        permission: one of `PERMISSIONS` but `FULL_CONTROL`.
        canonical: the caller's canonical id; empty for an anonymous one.
    """
    groups = {ALL_USERS, AUTHENTICATED_USERS, canonical} if canonical else {ALL_USERS}
    return any(grant.grantee in groups and grant.permission in {permission, FULL} for grant in grants)


def canned(name: str, owner: str, bucket_owner: str) -> Grants:
    """A canned list; both owners are accounts' ids.

    Raises:
        S3Error: InvalidArgument for a name that is none.
    """
    mine = Grant(canonical_id(owner), FULL)
    more: Mapping[str, Grants] = {
        "private": (),
        "public-read": (Grant(ALL_USERS, READ),),
        "public-read-write": (Grant(ALL_USERS, READ), Grant(ALL_USERS, WRITE)),
        "authenticated-read": (Grant(AUTHENTICATED_USERS, READ),),
        "aws-exec-read": (),
        "bucket-owner-read": (Grant(canonical_id(bucket_owner), READ),),
        "bucket-owner-full-control": (Grant(canonical_id(bucket_owner), FULL),),
        "log-delivery-write": (Grant(LOG_DELIVERY, WRITE), Grant(LOG_DELIVERY, READ_ACP)),
    }
    if name not in more:
        raise S3Error("InvalidArgument", ArgumentName="x-amz-acl", ArgumentValue=name[:64])
    return (mine, *(grant for grant in more[name] if grant.grantee != mine.grantee))


async def asked(req: Mapping[str, Any], owner: str, bucket_owner: str, identity: Identities) -> Grants | None:
    """The list that a request's headers or body ask for; None when they say nothing.

    Args:
        req: the parameters: `ACL`, the `Grant...` headers, `AccessControlPolicy`.
        owner: the account that will own what the list is for.
        bucket_owner: the bucket's.
        identity: knows whether grantees exist.

    Raises:
        S3Error: InvalidArgument, InvalidRequest, MalformedACLError, UnresolvableGrantByEmailAddress.
    """
    if _ASKING.isdisjoint(req):
        return None
    headers = [name for name in _HEADERS if req.get(name)]
    ways = [bool(req.get("ACL")), bool(headers), bool(req.get("AccessControlPolicy"))]
    if sum(ways) > 1:
        raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    if ways[0]:
        return canned(req["ACL"], owner, bucket_owner)
    if ways[1]:
        return await _known(
            [grant for name in headers for grant in _of_header(req[name], _HEADERS[name])], identity
        )
    if ways[2]:
        return await _known(_of_body(req["AccessControlPolicy"], owner), identity)
    return None


def _of_header(value: str, permission: str) -> Sequence[Grant]:
    grants = []
    for part in value.split(","):
        found = _grantee(part)
        if found is None:
            raise S3Error("InvalidArgument", "Argument format not recognized", ArgumentValue=part[:128])
        grants.append(_grant(found[1].lower(), found[2] or found[3] or "", permission))
    return grants


def _of_body(document: Mapping[str, Any], owner: str) -> Sequence[Grant]:
    said = document.get("Owner") or {}
    if said.get("ID") not in {None, canonical_id(owner)}:
        raise S3Error("AccessDenied", "The owner of a list of grants cannot be changed.")
    if "Owner" not in document:
        raise S3Error("MalformedACLError")
    kinds = {
        "CanonicalUser": ("id", "ID"),
        "Group": ("uri", "URI"),
        "AmazonCustomerByEmail": ("emailaddress", "EmailAddress"),
    }
    grants = []
    for each in document.get("Grants") or ():
        grantee = each.get("Grantee") or {}
        kind = kinds.get(grantee.get("Type", ""))
        if kind is None or each.get("Permission") not in PERMISSIONS:
            raise S3Error("MalformedACLError")
        grants.append(_grant(kind[0], grantee.get(kind[1], ""), each["Permission"]))
    return grants


def _grant(kind: str, name: str, permission: str) -> Grant:
    if kind == "emailaddress":
        raise S3Error("UnresolvableGrantByEmailAddress")
    if kind == "uri" and name not in {ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY}:
        raise S3Error("InvalidArgument", "Invalid group uri", ArgumentName="uri", ArgumentValue=name[:128])
    return Grant(name, permission)


async def _known(grants: Sequence[Grant], identity: Identities) -> Grants:
    """Each once, and no grantee that nobody is."""
    if len(grants) > MOST:
        raise S3Error("MalformedACLError", f"A list may have at most {MOST} grants.")
    for grant in grants:
        if not grant.is_group and (len(grant.grantee) != 64 or await identity.account(grant.grantee) is None):
            raise S3Error(
                "InvalidArgument",
                "Invalid id",
                ArgumentName="CanonicalUser/ID",
                ArgumentValue=grant.grantee[:64],
            )
    return tuple(dict.fromkeys(grants))


async def shown(grants: Grants, owner: str, identity: Identities) -> Mapping[str, Any]:
    """The list as GetBucketAcl and GetObjectAcl answer it; `owner` is the account's id."""
    account = await identity.shown(owner)
    listed = []
    for grant in grants:
        if grant.is_group:
            grantee: dict[str, str] = {"Type": "Group", "URI": grant.grantee}
        else:
            known = account if grant.grantee == account.canonical else await _named(grant.grantee, identity)
            grantee = {"Type": "CanonicalUser", "ID": grant.grantee}
            if known is not None and known.name:
                grantee["DisplayName"] = known.name
        listed.append({"Grantee": grantee, "Permission": grant.permission})
    return {"Owner": owner_of(account), "Grants": listed}


async def _named(canonical: str, identity: Identities) -> Any:
    return await identity.account(canonical)


def owner_of(account: Any) -> dict[str, str]:
    """An `Owner` or `Initiator` element."""
    shown = {"ID": account.canonical}
    return shown | {"DisplayName": account.name} if account.name else shown
