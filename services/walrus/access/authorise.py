"""Whether a request may be made: policy, grants, ownership and the public access block together.

Source: "How Amazon S3 authorizes a request". A Deny of the bucket's policy wins. Within the bucket's own
account its root may do everything, and a user what the policy allows it by name: this cloud has no
identity policies yet. Another account needs the policy or a grant; its users have no right to use either.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from mallee.aws.context import Principal
from mallee.walrus.access import acl
from mallee.walrus.access.facts import RequestFacts
from mallee.walrus.access.needs import GET, LIST, Need, is_policys_own, needs
from mallee.walrus.access.policy import Decision, Policy, Who, read
from mallee.walrus.access.public import OFF, PublicAccessBlock, is_public
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call
from mallee.walrus.identity import canonical_id
from mallee.walrus.store import Bucket, Version

ENFORCED: Final = "BucketOwnerEnforced"  # lists of grants are off: every object is the bucket owner's
# The names of configuration documents that matter here.
POLICY, ACL, OWNERSHIP, PUBLIC_ACCESS = "policy", "acl", "ownership", "public-access-block"


def policy_of(bucket: Bucket) -> Policy | None:
    """The bucket's policy, if it has one."""
    document = bucket.config.get(POLICY)
    return read(document, bucket.name) if document else None


def ownership_of(bucket: Bucket) -> str:
    """`BucketOwnerEnforced`, `BucketOwnerPreferred` or `ObjectWriter`, which is what was before there was a choice."""
    return bucket.config.get(OWNERSHIP, b"ObjectWriter").decode()


def block_of(bucket: Bucket) -> PublicAccessBlock:
    """The four switches; a bucket without the document has them all off."""
    document = bucket.config.get(PUBLIC_ACCESS)
    return _block(document) if document else OFF


@lru_cache(maxsize=64)
def _block(document: bytes) -> PublicAccessBlock:
    return msgspec.json.decode(document, type=PublicAccessBlock)


def source_of(copy_source: str) -> tuple[str, str, str | None]:
    """Bucket, key and version of `x-amz-copy-source`.

    Raises:
        S3Error: InvalidArgument.
    """
    path, found, query = copy_source.partition("?versionId=")
    try:
        name = unquote(path, errors="strict").removeprefix("/")
    except UnicodeDecodeError:
        name = ""
    bucket, _, key = name.partition("/")
    if not bucket or not key:
        raise S3Error(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
            ArgumentValue=copy_source[:128],
        )
    return bucket, key, query if found else None


async def check(call: Call, req: Mapping[str, Any]) -> None:
    """Return if the request may be made; `call.home` is its bucket then.

    Raises:
        S3Error: AccessDenied, NoSuchBucket.
    """
    wanted = list(needs(call.operation, req))
    if wanted and wanted[0].level == "service":
        if call.principal is None or not call.principal.is_root:
            raise denied(call, wanted[0].action, "*")
        return
    home = call.home = await call.store.head_bucket(call.bucket)
    _check_expected(req.get("ExpectedBucketOwner"), home)
    for need in wanted:
        if not await permits(call, home, need, call.key, req.get("VersionId"), req):
            raise denied(call, need.action, _arn(home, need, call.key))
    if req.get("CopySource"):
        await _check_source(call, req)


async def _check_source(call: Call, req: Mapping[str, Any]) -> None:
    bucket, key, version = source_of(req["CopySource"])
    source = call.home if bucket == call.bucket else await call.store.head_bucket(bucket)
    _check_expected(req.get("ExpectedSourceBucketOwner"), source)
    need = GET._replace(action="s3:GetObjectVersion") if version else GET
    if not await permits(call, source, need, key, version, {}):
        raise denied(call, need.action, _arn(source, need, key))


def _check_expected(owner: str | None, bucket: Bucket) -> None:
    if owner is not None and owner != bucket.owner:
        raise S3Error("AccessDenied")


async def permits(
    call: Call,
    home: Bucket,
    need: Need,
    key: str = "",
    version_id: str | None = None,
    req: Mapping[str, Any] | None = None,
) -> bool:
    """Whether whoever calls has one permission on a bucket or one of its objects."""
    caller, policy = call.principal, policy_of(home)
    enforced = ownership_of(home) == ENFORCED
    own = caller is not None and caller.account_id == home.owner
    if own and caller and caller.is_root and policy is None and enforced:
        return True
    version = await _existing(call, home, need, key, version_id, policy, enforced=enforced)
    said = _said(call, home, need, key, req or {}, policy, version)
    if said is Decision.DENIED:
        return own and caller is not None and caller.is_root and is_policys_own(need.action)
    foreign = version is not None and not enforced and version.owner != home.owner
    if caller is not None and not caller.is_root:
        return own and said is Decision.ALLOWED and not foreign
    if not foreign and (own or said is Decision.ALLOWED):
        return True
    if foreign and version and caller and version.owner == caller.account_id:
        return True
    return not enforced and need.grant != "" and await _granted(call, home, need, version, caller)


async def _existing(
    call: Call,
    home: Bucket,
    need: Need,
    key: str,
    version_id: str | None,
    policy: Policy | None,
    *,
    enforced: bool,
) -> Version | None:
    """The object that is there, where its owner, grants or tags decide; None where not, or where there is none."""
    if need.listed != "object" or (enforced and not (policy and policy.asks_for_tags)):
        return None
    try:
        found: Version = await call.store.find(home.name, key, version_id)
    except S3Error:
        return None  # the handler says so, in the words that this caller may hear
    return None if found.is_delete_marker else found


def _said(
    call: Call,
    home: Bucket,
    need: Need,
    key: str,
    req: Mapping[str, Any],
    policy: Policy | None,
    version: Version | None,
) -> Decision:
    """What the policy says, without what the public access block takes from it."""
    if policy is None:
        return Decision.SILENT
    caller = call.principal
    who = Who(caller, canonical_id(caller.account_id) if caller else "")
    facts = RequestFacts(call, req, home.owner, version.tags if version else None)
    said = policy.judge(who, need.action, _arn(home, need, key), facts)
    outside = caller is None or caller.account_id != home.owner
    if said is Decision.ALLOWED and outside and block_of(home).restrict_public_buckets and is_public(policy):
        return Decision.SILENT
    return said


async def _granted(
    call: Call, home: Bucket, need: Need, version: Version | None, caller: Principal | None
) -> bool:
    if need.listed == "bucket":
        grants = acl.unpacked(home.config.get(ACL, b""), home.owner)
    elif version is not None:
        grants = acl.unpacked(version.acl, version.owner)
    else:
        # There is nothing to read: who may list may know so, and hears it from the handler.
        return await permits(call, home, LIST)
    if block_of(home).ignore_public_acls:
        grants = tuple(grant for grant in grants if not grant.is_group)
    return acl.allow(grants, need.grant, canonical_id(caller.account_id) if caller else "")


async def absent(call: Call, error: S3Error, home: Bucket | None = None) -> S3Error:
    """The error for a key or version that is not there: only who may list may know that."""
    bucket = home or call.home
    return error if await permits(call, bucket, LIST) else denied(call, "", "")


def _arn(home: Bucket, need: Need, key: str) -> str:
    return f"arn:aws:s3:::{home.name}/{key}" if need.level == "object" else f"arn:aws:s3:::{home.name}"


def denied(call: Call, action: str, resource: str) -> S3Error:
    """The refusal. A user of the bucket's own account hears what is missing; others hear nothing."""
    caller, home = call.principal, call.home
    if (
        caller is None
        or caller.is_root
        or not action
        or (home is not None and home.owner != caller.account_id)
    ):
        return S3Error("AccessDenied")
    return S3Error(
        "AccessDenied",
        f'User: {caller.arn} is not authorized to perform: {action} on resource: "{resource}" because no '
        f"identity-based policy allows the {action} action. This cloud has no identity policies yet: name the "
        "user in the bucket's policy, or use a key of the account's root.",
    )
