"""The rules for pages of other origins, read and replaced."""

from __future__ import annotations

from mallee.walrus.access.cors import CORS, check
from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.api.settings import documents
from mallee.walrus.front.call import Call, Result


@s3.operation("GetBucketCors", accepts=BUCKET)
async def get_bucket_cors(call: Call, _: Req) -> Result:
    """The rules."""
    found: Result = documents.required(call.home, CORS, "NoSuchCORSConfiguration")
    return found


@s3.operation("PutBucketCors", accepts=(*BUCKET, "CORSConfiguration"))
async def put_bucket_cors(call: Call, req: Req) -> Result:
    """Replace the rules."""
    rules = req["CORSConfiguration"].get("CORSRules") or []
    check(rules)
    await documents.put(call, CORS, {"CORSRules": rules})
    return None


@s3.operation("DeleteBucketCors", accepts=BUCKET)
async def delete_bucket_cors(call: Call, _: Req) -> Result:
    """No page of another origin any more."""
    await documents.remove(call, CORS)
    return None
