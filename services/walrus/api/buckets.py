"""Buckets: made, found, listed, deleted; where they are and whether they keep versions."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from mallee.domain.disk_image import IMAGES_OF
from mallee.walrus.access import acl
from mallee.walrus.access.authorise import ACL, ENFORCED, OWNERSHIP, PUBLIC_ACCESS
from mallee.walrus.access.public import ALL_ON, are_public
from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result

OWNERSHIPS: Final = (ENFORCED, "BucketOwnerPreferred", "ObjectWriter")
MOST: Final = 10_000  # buckets of an account, as on S3
_PAGE: Final = 10_000
_is_name = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", re.ASCII).fullmatch
_is_address = re.compile(r"\d+\.\d+\.\d+\.\d+", re.ASCII).fullmatch
_RESERVED: Final = (
    ("xn--", "sthree-", "amzn-s3-demo-"),
    ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"),
)


def check_name(name: str) -> None:
    """Source: "General purpose bucket naming rules". Raises S3Error InvalidBucketName."""
    starts, ends = _RESERVED
    if not _is_name(name) or _is_address(name) or name.startswith(starts) or name.endswith(ends):
        raise S3Error("InvalidBucketName", BucketName=name[:63])


def new_bucket_config(ownership: str = ENFORCED) -> dict[str, bytes]:
    """What a bucket begins with: closed to the public."""
    return {OWNERSHIP: ownership.encode(), PUBLIC_ACCESS: msgspec.json.encode(ALL_ON)}


@s3.operation(
    "CreateBucket",
    accepts=(
        *("Bucket", "CreateBucketConfiguration.LocationConstraint", "ObjectLockEnabledForBucket"),
        *(
            "ObjectOwnership",
            "ACL",
            "GrantFullControl",
            "GrantRead",
            "GrantReadACP",
            "GrantWrite",
            "GrantWriteACP",
        ),
    ),
)
async def create_bucket(call: Call, req: Req) -> Result:
    """A bucket of the caller's account. As on S3 today it begins without grants to others and closed to the public."""
    assert call.principal is not None
    check_name(req["Bucket"])
    region, owner = call.identity.region, call.principal.account_id
    asked = (req.get("CreateBucketConfiguration") or {}).get("LocationConstraint")
    if req["Bucket"].startswith(IMAGES_OF) and req["Bucket"] != f"{IMAGES_OF}{owner}":
        raise S3Error("AccessDenied", f"Buckets that begin with {IMAGES_OF} are the cloud's own to make.")
    if asked and asked != region:
        raise S3Error("InvalidLocationConstraint", LocationConstraint=asked[:64])
    ownership = req.get("ObjectOwnership") or ENFORCED
    if ownership not in OWNERSHIPS:
        raise S3Error("InvalidArgument", ArgumentName="x-amz-object-ownership", ArgumentValue=ownership[:64])
    config = new_bucket_config(ownership)
    grants = await acl.asked(req, owner, owner, call.identity)
    if grants is not None and grants != acl.canned("private", owner, owner):
        if ownership == ENFORCED:
            raise S3Error("InvalidBucketAclWithObjectOwnership")
        if are_public(grants):
            raise S3Error("AccessDenied", "A new bucket is closed to the public. Open it first, then grant.")
        config[ACL] = acl.packed(grants)
    locked = bool(req.get("ObjectLockEnabledForBucket"))
    made = await call.store.create_bucket(
        req["Bucket"], owner, region, object_lock=locked, config=config, most=MOST
    )
    return {"Location": f"/{made.name}", "BucketArn": f"arn:aws:s3:::{made.name}"}


@s3.operation("HeadBucket", accepts=BUCKET)
async def head_bucket(call: Call, _: Req) -> Result:
    """Whether the bucket is there and may be listed."""
    return {"BucketRegion": call.home.region, "BucketArn": f"arn:aws:s3:::{call.home.name}"}


@s3.operation("DeleteBucket", accepts=BUCKET)
async def delete_bucket(call: Call, _: Req) -> Result:
    """Forget an empty bucket: no objects, no versions, no delete markers. Open uploads end."""
    await call.store.delete_bucket(call.bucket)
    return None


@s3.operation("ListBuckets", accepts=("Prefix", "MaxBuckets", "ContinuationToken", "BucketRegion"))
async def list_buckets(call: Call, req: Req) -> Result:
    """The account's buckets by name."""
    assert call.principal is not None
    owner, size, prefix = call.principal.account_id, req.get("MaxBuckets", _PAGE), req.get("Prefix") or ""
    if not 1 <= size <= _PAGE:
        raise S3Error("InvalidArgument", ArgumentName="max-buckets", ArgumentValue=str(size))
    found: list[Any] = []
    if req.get("BucketRegion") in {None, "", call.identity.region}:
        after = req.get("ContinuationToken") or ""
        found = await call.store.list_buckets(owner, prefix=prefix, after=after, limit=size + 1)
    shown = await call.identity.shown(owner)
    listed = [
        {
            "Name": one.name,
            "CreationDate": one.created,
            "BucketRegion": one.region,
            "BucketArn": f"arn:aws:s3:::{one.name}",
        }
        for one in found[:size]
    ]
    answer: dict[str, Any] = {"Buckets": listed, "Owner": acl.owner_of(shown)}
    if prefix:
        answer["Prefix"] = prefix
    if len(found) > size:
        answer["ContinuationToken"] = found[size - 1].name
    return answer


@s3.operation("GetBucketLocation", accepts=BUCKET)
async def get_bucket_location(call: Call, _: Req) -> Result:
    """The region; the first one of AWS has no name here."""
    region = call.home.region
    return {"LocationConstraint": "" if region == "us-east-1" else region}


@s3.operation("GetBucketVersioning", accepts=BUCKET)
async def get_bucket_versioning(call: Call, _: Req) -> Result:
    """Whether the bucket keeps versions; nothing for one that never did."""
    return {"Status": call.home.versioning} if call.home.versioning else {}


@s3.operation("PutBucketVersioning", accepts=(*BUCKET, "VersioningConfiguration"))
async def put_bucket_versioning(call: Call, req: Req) -> Result:
    """Begin to keep versions, or suspend it; what there is stays."""
    asked = req["VersioningConfiguration"]
    if asked.get("MFADelete") == "Enabled":
        raise S3Error("NotImplemented", "This cloud has no multi-factor authentication.", Header="MfaDelete")
    if asked.get("Status") not in {"Enabled", "Suspended"}:
        raise S3Error("IllegalVersioningConfigurationException")
    await call.store.set_versioning(call.bucket, asked["Status"])
    return None
