"""Tags of buckets and of objects."""

from __future__ import annotations

from typing import Any, Final

from mallee.walrus.api import BUCKET, OBJECT, Req, s3
from mallee.walrus.api.finding import find
from mallee.walrus.api.headers import checked_tags, version_id
from mallee.walrus.api.settings import documents
from mallee.walrus.front.call import Call, Result

TAGGING: Final = "tagging"


def _tags(req: Req, most: int) -> dict[str, str]:
    listed = req["Tagging"].get("TagSet") or []
    return checked_tags([(tag["Key"], tag["Value"]) for tag in listed], most=most)


def _set(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@s3.operation("GetBucketTagging", accepts=BUCKET)
async def get_bucket_tagging(call: Call, _: Req) -> Result:
    """The tags of the bucket."""
    return {"TagSet": _set(documents.required(call.home, TAGGING, "NoSuchTagSet"))}


@s3.operation("PutBucketTagging", accepts=(*BUCKET, "Tagging"))
async def put_bucket_tagging(call: Call, req: Req) -> Result:
    """Replace the tags of the bucket; no tags are none."""
    tags = _tags(req, most=50)
    if tags:
        await documents.put(call, TAGGING, tags)
    else:
        await documents.remove(call, TAGGING)
    return None


@s3.operation("DeleteBucketTagging", accepts=BUCKET)
async def delete_bucket_tagging(call: Call, _: Req) -> Result:
    """Remove the tags of the bucket."""
    await documents.remove(call, TAGGING)
    return None


@s3.operation("GetObjectTagging", accepts=(*OBJECT, "VersionId"))
async def get_object_tagging(call: Call, req: Req) -> Result:
    """The tags of an object."""
    version = await find(call, req.get("VersionId"))
    return {"TagSet": _set(dict(version.tags)), **version_id(version.version_id, call.home.versioning)}


@s3.operation("PutObjectTagging", accepts=(*OBJECT, "VersionId", "Tagging"))
async def put_object_tagging(call: Call, req: Req) -> Result:
    """Replace the tags of an object."""
    return await _replace(call, req, _tags(req, most=10))


@s3.operation("DeleteObjectTagging", accepts=(*BUCKET, "Key", "VersionId"))
async def delete_object_tagging(call: Call, req: Req) -> Result:
    """Remove the tags of an object."""
    return await _replace(call, req, {})


async def _replace(call: Call, req: Req, tags: dict[str, str]) -> Result:
    await find(call, req.get("VersionId"))  # for its errors, which say no more than the caller may know
    version = await call.store.set_tags(call.bucket, call.key, req.get("VersionId"), tags)
    return version_id(version.version_id, call.home.versioning)
