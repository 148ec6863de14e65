"""Objects, written: PutObject, and what a new object of any kind is begun with."""

from __future__ import annotations

from typing import Any, Final

from mallee.walrus.access import acl
from mallee.walrus.access.authorise import ENFORCED, block_of, ownership_of
from mallee.walrus.access.public import are_public
from mallee.walrus.api import CUSTOMER_KEY, OBJECT, Req, s3
from mallee.walrus.api.conditions import writing
from mallee.walrus.api.headers import (
    CHECKSUMS,
    KEPT,
    checksums,
    encrypted,
    encryption,
    etag,
    header_tags,
    kept,
    storage_class,
    version_id,
)
from mallee.walrus.api.settings.encryption import encrypts_by_default
from mallee.walrus.api.settings.lifecycle_rules import expiration
from mallee.walrus.api.settings.locks import LOCKING, new_lock
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.front.digests import HEADERS
from mallee.walrus.store import Bucket, NewObject

GRANTS: Final = ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP")
NEW: Final = (*KEPT, *GRANTS, *CUSTOMER_KEY, *LOCKING, "ServerSideEncryption", "StorageClass", "Tagging")
DEFAULT_CHECKSUM: Final = "CRC64NVME"  # what an object gets that came without any, as on S3
_OWNERS_OWN: Final = ("bucket-owner-full-control", "bucket-owner-read")


async def new_object(call: Call, req: Req, *, tags: bool = True) -> NewObject:
    """What a request says of the object that it makes: everything but the bytes and what they hash to.

    Raises:
        S3Error: for whatever in it cannot be.
    """
    home: Bucket = call.home
    owner = owner_of_new(call, req)
    return NewObject(
        owner=owner,
        headers=kept(req),
        storage_class=storage_class(req),
        acl=await new_acl(call, req, owner),
        tags=header_tags(req.get("Tagging")) if tags else {},
        lock=new_lock(req, home, call.now),
    )


def owner_of_new(call: Call, req: Req) -> str:
    """Whose a new object is: the writer's account, unless the bucket's owner takes everything."""
    home: Bucket = call.home
    ownership = ownership_of(home)
    given = ownership == "BucketOwnerPreferred" and req.get("ACL") == _OWNERS_OWN[0]
    if ownership == ENFORCED or given or call.principal is None:
        return home.owner
    return call.principal.account_id


async def new_acl(call: Call, req: Req, owner: str) -> bytes:
    """The list of grants that a new object is given; empty for its owner's alone.

    Raises:
        S3Error: AccessControlListNotSupported, AccessDenied, and as `acl.asked`.
    """
    home: Bucket = call.home
    grants = await acl.asked(req, owner, home.owner, call.identity)
    if grants is None:
        return b""
    if ownership_of(home) == ENFORCED:
        if req.get("ACL") not in _OWNERS_OWN and grants != acl.canned("private", home.owner, home.owner):
            raise S3Error("AccessControlListNotSupported")
        return b""
    if are_public(grants) and block_of(home).block_public_acls:
        raise S3Error("AccessDenied", "The bucket's public access block refuses public grants.")
    return acl.packed(grants)


@s3.operation(
    "PutObject",
    accepts=(*OBJECT, "Body", *NEW, "IfMatch", "IfNoneMatch", *(f"Checksum{name}" for name in CHECKSUMS)),
)
async def put_object(call: Call, req: Req) -> Result:
    """A new object, or a new version of one: visible when all of it is durable and verified."""
    new = await new_object(call, req)
    conditions = writing(req)
    keeping = encryption(req, by_default=encrypts_by_default(call.home))
    if not states_checksum(call):
        call.body.also(DEFAULT_CHECKSUM)
    checking = (call.bucket, call.key, conditions) if conditions else None
    bytes_in = await call.store.begin(call.body.length, encryption=keeping, checking=checking)
    try:
        await call.body.pour(bytes_in)
        version = await call.store.commit(call.bucket, call.key, bytes_in, _hashed(call, new), conditions)
    finally:
        await bytes_in.discard()
    answer: dict[str, Any] = {
        "ETag": etag(version),
        **checksums(version),
        **encrypted(req, version.encryption),
        **version_id(version.version_id, call.home.versioning),
    }
    ends = expiration(call.home, version)
    return answer | {"Expiration": ends} if ends else answer


def states_checksum(call: Call) -> bool:
    """Whether the body comes with a checksum, before it or behind it."""
    return b"x-amz-trailer" in call.headers or not HEADERS.keys().isdisjoint(call.headers)


def _hashed(call: Call, new: NewObject) -> NewObject:
    new.etag, new.checksums, new.checksum_type = call.body.md5.hex(), call.body.checksums, "FULL_OBJECT"
    return new
