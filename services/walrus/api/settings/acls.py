"""Lists of grants of buckets and objects, read and replaced."""

from __future__ import annotations

from typing import Final

from mallee.walrus.access import acl
from mallee.walrus.access.acl import Grants
from mallee.walrus.access.authorise import ACL, ENFORCED, block_of, ownership_of
from mallee.walrus.access.public import are_public
from mallee.walrus.api import BUCKET, OBJECT, Req, s3
from mallee.walrus.api.finding import find
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result

_GRANTS: Final = (
    *("ACL", "AccessControlPolicy", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite"),
    "GrantWriteACP",
)


async def _asked(call: Call, req: Req, owner: str) -> Grants | None:
    """The new list; None where lists are off and the request says what then holds anyway.

    Raises:
        S3Error: AccessControlListNotSupported, AccessDenied, MissingSecurityHeader, and as `acl.asked`.
    """
    home = call.home
    grants = await acl.asked(req, owner, home.owner, call.identity)
    if grants is None:
        raise S3Error(
            "MissingSecurityHeader",
            "Your request was missing a required header",
            MissingHeaderName="x-amz-acl",
        )
    if ownership_of(home) == ENFORCED:
        if grants != acl.canned("bucket-owner-full-control", home.owner, home.owner):
            raise S3Error("AccessControlListNotSupported")
        return None
    if are_public(grants) and block_of(home).block_public_acls:
        raise S3Error("AccessDenied", "The bucket's public access block refuses public grants.")
    return grants


@s3.operation("GetBucketAcl", accepts=BUCKET)
async def get_bucket_acl(call: Call, _: Req) -> Result:
    """Who was granted what on the bucket; its owner everything, where lists are off."""
    home = call.home
    kept = b"" if ownership_of(home) == ENFORCED else home.config.get(ACL, b"")
    return await acl.shown(acl.unpacked(kept, home.owner), home.owner, call.identity)


@s3.operation("PutBucketAcl", accepts=(*BUCKET, *_GRANTS))
async def put_bucket_acl(call: Call, req: Req) -> Result:
    """Replace the list of the bucket."""
    grants = await _asked(call, req, call.home.owner)
    if grants is not None:
        await call.store.set_config(call.bucket, ACL, acl.packed(grants))
    return None


@s3.operation("GetObjectAcl", accepts=(*OBJECT, "VersionId"))
async def get_object_acl(call: Call, req: Req) -> Result:
    """Who was granted what on the object."""
    version = await find(call, req.get("VersionId"))
    if ownership_of(call.home) == ENFORCED:
        return await acl.shown(acl.unpacked(b"", call.home.owner), call.home.owner, call.identity)
    return await acl.shown(acl.unpacked(version.acl, version.owner), version.owner, call.identity)


@s3.operation("PutObjectAcl", accepts=(*OBJECT, *_GRANTS, "VersionId"))
async def put_object_acl(call: Call, req: Req) -> Result:
    """Replace the list of the object."""
    version = await find(call, req.get("VersionId"))
    grants = await _asked(call, req, version.owner)
    if grants is not None:
        await call.store.set_acl(call.bucket, call.key, req.get("VersionId"), acl.packed(grants))
    return None
