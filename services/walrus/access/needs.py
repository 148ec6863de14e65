"""What each operation needs: which action on what, and which grant gives it too.

Source: "Required permissions for Amazon S3 API operations" and the table of ACL permissions and
policy permissions in "Access control list (ACL) overview".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from mallee.walrus.access.acl import READ, READ_ACP, WRITE, WRITE_ACP

Level = Literal["service", "bucket", "object"]


class Need(NamedTuple):
    """One permission.

    Attributes:
        action: as policies name it.
        level: what its resource is.
        grant: the permission of an ACL that gives it too; empty for none.
        listed: on whose ACL: the bucket's or the object's.
    """

    action: str
    level: Level
    grant: str = ""
    listed: Literal["bucket", "object"] = "bucket"


def _bucket(action: str, grant: str = "") -> Need:
    return Need(f"s3:{action}", "bucket", grant)


def _written(action: str) -> Need:
    """Making and removing objects: WRITE on the bucket."""
    return Need(f"s3:{action}", "object", WRITE)


def _of_object(action: str, grant: str = "") -> Need:
    return Need(f"s3:{action}", "object", grant, "object")


LIST: Final = _bucket("ListBucket", READ)
GET: Final = _of_object("GetObject", READ)
DELETE: Final = _written("DeleteObject")
_PUT: Final = _written("PutObject")
_VERSIONED: Final = frozenset(
    {
        *("GetObject", "HeadObject", "DeleteObject", "GetObjectAttributes", "GetObjectAcl", "PutObjectAcl"),
        *("GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging", "RestoreObject"),
    }
)
# Configurations that the operations call otherwise than the actions do.
_CONFIGURATIONS: Final = {
    "BucketCors": "BucketCORS",
    "BucketLifecycle": "LifecycleConfiguration",
    "BucketLifecycleConfiguration": "LifecycleConfiguration",
    "BucketEncryption": "EncryptionConfiguration",
    "BucketReplication": "ReplicationConfiguration",
    "BucketAccelerateConfiguration": "AccelerateConfiguration",
    "BucketNotificationConfiguration": "BucketNotification",
    "BucketAnalyticsConfiguration": "AnalyticsConfiguration",
    "BucketInventoryConfiguration": "InventoryConfiguration",
    "BucketMetricsConfiguration": "MetricsConfiguration",
    "BucketIntelligentTieringConfiguration": "IntelligentTieringConfiguration",
    "PublicAccessBlock": "BucketPublicAccessBlock",
    "ObjectLockConfiguration": "BucketObjectLockConfiguration",
    "BucketTagging": "BucketTagging",
    "BucketOwnershipControls": "BucketOwnershipControls",
}
_NEEDS: Final[Mapping[str, Need]] = {
    "ListBuckets": Need("s3:ListAllMyBuckets", "service"),
    "CreateBucket": Need("s3:CreateBucket", "service"),
    "HeadBucket": LIST,
    "ListObjects": LIST,
    "ListObjectsV2": LIST,
    "ListObjectVersions": _bucket("ListBucketVersions", READ),
    "ListMultipartUploads": _bucket("ListBucketMultipartUploads", READ),
    "GetBucketAcl": _bucket("GetBucketAcl", READ_ACP),
    "PutBucketAcl": _bucket("PutBucketAcl", WRITE_ACP),
    "GetObject": GET,
    "HeadObject": GET,
    "GetObjectAttributes": GET,
    "PutObject": _PUT,
    "CopyObject": _PUT,
    "CreateMultipartUpload": _PUT,
    "UploadPart": _PUT,
    "UploadPartCopy": _PUT,
    "CompleteMultipartUpload": _PUT,
    "AbortMultipartUpload": _written("AbortMultipartUpload"),
    "ListParts": _written("ListMultipartUploadParts"),
    "DeleteObject": DELETE,
    "GetObjectAcl": _of_object("GetObjectAcl", READ_ACP),
    "PutObjectAcl": _of_object("PutObjectAcl", WRITE_ACP),
    "GetObjectTagging": _of_object("GetObjectTagging"),
    "PutObjectTagging": _of_object("PutObjectTagging"),
    "DeleteObjectTagging": _of_object("DeleteObjectTagging"),
    "GetObjectRetention": _of_object("GetObjectRetention"),
    "PutObjectRetention": _of_object("PutObjectRetention"),
    "GetObjectLegalHold": _of_object("GetObjectLegalHold"),
    "PutObjectLegalHold": _of_object("PutObjectLegalHold"),
}
_ACL_PARAMETERS: Final = ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP")
_WRITING: Final = frozenset({"PutObject", "CopyObject", "CreateMultipartUpload"})
# Each key of DeleteObjects is asked for by itself, and refused by itself.
ASKED_EACH: Final = frozenset({"DeleteObjects"})


def needs(operation: str, req: Mapping[str, Any]) -> Iterator[Need]:
    """Everything that must be allowed for a request, but for the source of a copy."""
    if operation in ASKED_EACH:
        return
    need = _NEEDS.get(operation) or _bucket(_configuration(operation))
    if operation in _VERSIONED and req.get("VersionId"):
        need = need._replace(action=f"{need.action}Version")
    yield need
    if operation == "GetObjectAttributes":
        yield need._replace(action=need.action.replace("GetObject", "GetObjectAttributes"))
    if operation in _WRITING:
        yield from _along_with(req)
    if req.get("BypassGovernanceRetention"):
        yield _written("BypassGovernanceRetention")


def _along_with(req: Mapping[str, Any]) -> Iterator[Need]:
    """What a new object is given at once, which is an operation of its own on an object that is there."""
    if any(req.get(name) for name in _ACL_PARAMETERS):
        yield _written("PutObjectAcl")
    if req.get("Tagging"):
        yield _written("PutObjectTagging")
    if req.get("ObjectLockMode"):
        yield _written("PutObjectRetention")
    if req.get("ObjectLockLegalHoldStatus"):
        yield _written("PutObjectLegalHold")


def _configuration(operation: str) -> str:
    """The action of an operation on a bucket's configuration: removing one is putting none."""
    for verb in ("Get", "List", "Put", "Delete"):
        name = operation.removeprefix(verb)
        found = _CONFIGURATIONS.get(name) or _CONFIGURATIONS.get(name.removesuffix("s"))
        if name != operation and found:
            return f"Get{found}" if verb in {"Get", "List"} else f"Put{found}"
    return operation


def is_policys_own(action: str) -> bool:
    """What the root of a bucket's account may do whatever the policy says, lest it lock itself out."""
    return action in {"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"}
