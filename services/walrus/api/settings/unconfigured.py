"""Configurations that no bucket of this cloud can have: read as S3 says "not configured".

Terraform and others read them all. Putting one is not built, and says so; removing one that cannot be
there is success, as on S3.
"""

from __future__ import annotations

from typing import Any, Final

from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.api.table import Handler
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result

_MISSING: Final = {
    "GetBucketWebsite": "NoSuchWebsiteConfiguration",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "GetBucketMetadataConfiguration": "MetadataConfigurationNotFound",
    "GetBucketMetadataTableConfiguration": "MetadataConfigurationNotFound",
    "GetBucketAnalyticsConfiguration": "NoSuchConfiguration",
    "GetBucketIntelligentTieringConfiguration": "NoSuchConfiguration",
    "GetBucketInventoryConfiguration": "NoSuchConfiguration",
    "GetBucketMetricsConfiguration": "NoSuchConfiguration",
}
_EMPTY: Final[dict[str, dict[str, Any]]] = {
    "GetBucketLogging": {},
    "GetBucketAccelerateConfiguration": {},
    "GetBucketNotificationConfiguration": {},
    "GetBucketNotification": {},
    "GetBucketRequestPayment": {"Payer": "BucketOwner"},
    "GetBucketAbac": {"AbacStatus": {"Status": "Disabled"}},
    "ListBucketAnalyticsConfigurations": {"IsTruncated": False},
    "ListBucketIntelligentTieringConfigurations": {"IsTruncated": False},
    "ListBucketInventoryConfigurations": {"IsTruncated": False},
    "ListBucketMetricsConfigurations": {"IsTruncated": False},
}
_GONE: Final = ("DeleteBucketWebsite", "DeleteBucketReplication")


def _missing(code: str) -> Handler:
    async def answer(call: Call, _: Req) -> Result:
        raise S3Error(code, BucketName=call.bucket)

    answer.__doc__ = f"Always {code}: no bucket of this cloud has one."
    return answer


def _constant(result: dict[str, Any]) -> Handler:
    async def answer(_call: Call, _: Req) -> Result:
        return result

    answer.__doc__ = "What S3 says of a bucket without the configuration."
    return answer


def _register() -> None:
    for name, code in _MISSING.items():
        accepts = (*BUCKET, "Id") if code == "NoSuchConfiguration" else BUCKET
        s3.operation(name, accepts=accepts)(_missing(code))
    for name, result in _EMPTY.items():
        listing = (*BUCKET, "ContinuationToken") if name.startswith("List") else BUCKET
        accepts = (*BUCKET, "RequestPayer") if "Accelerate" in name else listing
        s3.operation(name, accepts=accepts)(_constant(result))
    for name in _GONE:
        s3.operation(name, accepts=BUCKET)(_constant({}))


_register()


@s3.operation("PutBucketRequestPayment", accepts=(*BUCKET, "RequestPaymentConfiguration"))
async def put_bucket_request_payment(_call: Call, req: Req) -> Result:
    """The owner pays, as always: nobody is charged."""
    if req["RequestPaymentConfiguration"].get("Payer") != "BucketOwner":
        raise S3Error("NotImplemented", "Nobody is charged in this cloud.", Header="Payer")
    return None


@s3.operation("PutBucketNotificationConfiguration", accepts=(*BUCKET, "NotificationConfiguration"))
async def put_bucket_notification_configuration(_call: Call, req: Req) -> Result:
    """No notifications: the empty configuration alone, which is how they are removed."""
    if any(req["NotificationConfiguration"].values()):
        raise S3Error(
            "NotImplemented",
            "This cloud sends no notifications of objects.",
            Header="NotificationConfiguration",
        )
    return None


@s3.operation("PutBucketLogging", accepts=(*BUCKET, "BucketLoggingStatus"))
async def put_bucket_logging(_call: Call, req: Req) -> Result:
    """No logging into buckets: the empty status alone, which is how it is switched off."""
    if req["BucketLoggingStatus"].get("LoggingEnabled"):
        raise S3Error("NotImplemented", "This cloud's access log is its operator's.", Header="LoggingEnabled")
    return None
