"""The bucket's policy, its public access block and whose its objects are."""

from __future__ import annotations

from typing import Final

import msgspec

from mallee.walrus.access import acl
from mallee.walrus.access.authorise import (
    ACL,
    ENFORCED,
    OWNERSHIP,
    POLICY,
    PUBLIC_ACCESS,
    block_of,
    ownership_of,
    policy_of,
)
from mallee.walrus.access.policy import read
from mallee.walrus.access.public import PublicAccessBlock, is_public
from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.api.buckets import OWNERSHIPS
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result

_SWITCHES: Final = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}


@s3.operation("GetBucketPolicy", accepts=BUCKET)
async def get_bucket_policy(call: Call, _: Req) -> Result:
    """The policy, as it was put."""
    if POLICY not in call.home.config:
        raise S3Error("NoSuchBucketPolicy", BucketName=call.bucket)
    return {"Policy": call.home.config[POLICY].decode()}


@s3.operation("PutBucketPolicy", accepts=(*BUCKET, "Policy", "ConfirmRemoveSelfBucketAccess"))
async def put_bucket_policy(call: Call, req: Req) -> Result:
    """Replace the policy. Nobody locks the account's root out of it, confirmed or not."""
    document = req["Policy"].encode()
    policy = read(document, call.bucket)
    if block_of(call.home).block_public_policy and is_public(policy):
        raise S3Error("AccessDenied", "The bucket's public access block refuses public policies.")
    await call.store.set_config(call.bucket, POLICY, document)
    return None


@s3.operation("DeleteBucketPolicy", accepts=BUCKET)
async def delete_bucket_policy(call: Call, _: Req) -> Result:
    """Forget the policy."""
    if POLICY in call.home.config:
        await call.store.set_config(call.bucket, POLICY, None)
    return None


@s3.operation("GetBucketPolicyStatus", accepts=BUCKET)
async def get_bucket_policy_status(call: Call, _: Req) -> Result:
    """Whether the policy lets in everybody."""
    policy = policy_of(call.home)
    if policy is None:
        raise S3Error("NoSuchBucketPolicy", BucketName=call.bucket)
    return {"PolicyStatus": {"IsPublic": is_public(policy)}}


@s3.operation("GetPublicAccessBlock", accepts=BUCKET)
async def get_public_access_block(call: Call, _: Req) -> Result:
    """The four switches."""
    if PUBLIC_ACCESS not in call.home.config:
        raise S3Error("NoSuchPublicAccessBlockConfiguration", BucketName=call.bucket)
    block = block_of(call.home)
    return {"PublicAccessBlockConfiguration": {name: getattr(block, own) for name, own in _SWITCHES.items()}}


@s3.operation("PutPublicAccessBlock", accepts=(*BUCKET, "PublicAccessBlockConfiguration"))
async def put_public_access_block(call: Call, req: Req) -> Result:
    """Set the four switches; what is not said is off."""
    asked = req["PublicAccessBlockConfiguration"]
    block = PublicAccessBlock(**{own: bool(asked.get(name, False)) for name, own in _SWITCHES.items()})
    await call.store.set_config(call.bucket, PUBLIC_ACCESS, msgspec.json.encode(block))
    return None


@s3.operation("DeletePublicAccessBlock", accepts=BUCKET)
async def delete_public_access_block(call: Call, _: Req) -> Result:
    """All four off: the bucket may become public, by policy or by grants."""
    if PUBLIC_ACCESS in call.home.config:
        await call.store.set_config(call.bucket, PUBLIC_ACCESS, None)
    return None


@s3.operation("GetBucketOwnershipControls", accepts=BUCKET)
async def get_bucket_ownership_controls(call: Call, _: Req) -> Result:
    """Whose new objects are."""
    if OWNERSHIP not in call.home.config:
        raise S3Error("OwnershipControlsNotFoundError", BucketName=call.bucket)
    return {"OwnershipControls": {"Rules": [{"ObjectOwnership": ownership_of(call.home)}]}}


@s3.operation("PutBucketOwnershipControls", accepts=(*BUCKET, "OwnershipControls"))
async def put_bucket_ownership_controls(call: Call, req: Req) -> Result:
    """Choose whose new objects are. Lists are switched off only where nobody would lose a right by it."""
    rules = req["OwnershipControls"].get("Rules") or []
    if len(rules) != 1 or rules[0].get("ObjectOwnership") not in OWNERSHIPS:
        raise S3Error("MalformedXML")
    asked = rules[0]["ObjectOwnership"]
    grants = acl.unpacked(call.home.config.get(ACL, b""), call.home.owner)
    if asked == ENFORCED and grants != acl.canned("private", call.home.owner, call.home.owner):
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    await call.store.set_config(call.bucket, OWNERSHIP, asked.encode())
    return None


@s3.operation("DeleteBucketOwnershipControls", accepts=BUCKET)
async def delete_bucket_ownership_controls(call: Call, _: Req) -> Result:
    """As before there was a choice: a new object is its writer's, and lists of grants are on."""
    if OWNERSHIP in call.home.config:
        await call.store.set_config(call.bucket, OWNERSHIP, None)
    return None
