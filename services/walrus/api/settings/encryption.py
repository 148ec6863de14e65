"""How new objects of a bucket are encrypted when their requests do not say."""

from __future__ import annotations

from typing import Final

from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.api.headers import check_algorithm
from mallee.walrus.api.settings import documents
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Bucket

ENCRYPTION: Final = "encryption"


def encrypts_by_default(home: Bucket) -> bool:
    """Whether the bucket asks for SSE-S3."""
    return ENCRYPTION in home.config


@s3.operation("GetBucketEncryption", accepts=BUCKET)
async def get_bucket_encryption(call: Call, _: Req) -> Result:
    """The default encryption."""
    found = documents.required(call.home, ENCRYPTION, "ServerSideEncryptionConfigurationNotFoundError")
    return {"ServerSideEncryptionConfiguration": found}


@s3.operation("PutBucketEncryption", accepts=(*BUCKET, "ServerSideEncryptionConfiguration"))
async def put_bucket_encryption(call: Call, req: Req) -> Result:
    """Encrypt new objects with SSE-S3 from now on; what there is stays as it is."""
    rules = req["ServerSideEncryptionConfiguration"].get("Rules") or []
    if len(rules) != 1:
        raise S3Error("MalformedXML")
    default = rules[0].get("ApplyServerSideEncryptionByDefault") or {"SSEAlgorithm": "AES256"}
    check_algorithm(default.get("SSEAlgorithm"))
    if default.get("KMSMasterKeyID"):
        raise S3Error(
            "InvalidArgument",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
        )
    if rules[0].get("BlockedEncryptionTypes"):
        raise S3Error("NotImplemented", Header="BlockedEncryptionTypes")
    kept = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"},
        "BucketKeyEnabled": bool(rules[0].get("BucketKeyEnabled", False)),
    }
    await documents.put(call, ENCRYPTION, {"Rules": [kept]})
    return None


@s3.operation("DeleteBucketEncryption", accepts=BUCKET)
async def delete_bucket_encryption(call: Call, _: Req) -> Result:
    """Encrypt only what asks for it from now on."""
    await documents.remove(call, ENCRYPTION)
    return None
