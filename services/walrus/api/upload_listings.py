"""Uploads in parts, listed: those that are open in a bucket, and the parts of one."""

from __future__ import annotations

from typing import Any

from mallee.walrus.access import acl
from mallee.walrus.api import BUCKET, CUSTOMER_KEY, OBJECT, Req, s3
from mallee.walrus.api.listings import common, moment, page_size
from mallee.walrus.api.settings.lifecycle_rules import aborting
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import PartsPage, Upload, UploadsPage


async def _initiator(call: Call, upload: Upload) -> dict[str, str]:
    """A user is shown by its ARN, an account by its canonical id."""
    arn = upload.initiator
    if arn and not arn.endswith(":root"):
        return {"ID": arn, "DisplayName": arn.rpartition("/")[2]}
    account = arn.split(":")[4] if arn else upload.new.owner
    return acl.owner_of(await call.identity.shown(account))


async def _described(call: Call, upload: Upload) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Owner": acl.owner_of(await call.identity.shown(upload.new.owner)),
        "Initiator": await _initiator(call, upload),
        "StorageClass": upload.new.storage_class,
    }
    if upload.checksum_algorithm:
        found |= {"ChecksumAlgorithm": upload.checksum_algorithm, "ChecksumType": upload.checksum_type}
    return found


@s3.operation(
    "ListMultipartUploads",
    accepts=(
        *(*BUCKET, "RequestPayer", "Prefix", "Delimiter", "EncodingType"),
        *("KeyMarker", "UploadIdMarker", "MaxUploads"),
    ),
)
async def list_multipart_uploads(call: Call, req: Req) -> Result:
    """The open uploads of a bucket, by key, then by age."""
    size, after, upload = (
        page_size(req, "MaxUploads"),
        req.get("KeyMarker") or "",
        req.get("UploadIdMarker") or "",
    )
    page = UploadsPage(())
    if size:
        page = await call.store.list_uploads(
            call.bucket,
            prefix=req.get("Prefix") or "",
            delimiter=req.get("Delimiter") or "",
            after=after,
            after_upload=upload if after else "",
            limit=size,
        )
    listed = [
        {"Key": one.key, "UploadId": one.upload_id, "Initiated": one.initiated, **await _described(call, one)}
        for one in page.uploads
    ]
    answer = common(req, page.prefixes) | {
        "Bucket": call.bucket,
        "KeyMarker": after,
        "UploadIdMarker": upload,
        "MaxUploads": size,
        "IsTruncated": page.truncated,
        "Uploads": listed,
    }
    if page.truncated:
        answer |= {"NextKeyMarker": page.next_key, "NextUploadIdMarker": page.next_upload}
    return answer


@s3.operation("ListParts", accepts=(*OBJECT, *CUSTOMER_KEY, "UploadId", "PartNumberMarker", "MaxParts"))
async def list_parts(call: Call, req: Req) -> Result:
    """The parts of an upload that came, by number."""
    size, marker = page_size(req, "MaxParts"), req.get("PartNumberMarker") or 0
    if marker < 0:
        raise S3Error("InvalidArgument", ArgumentName="part-number-marker", ArgumentValue=str(marker))
    page: PartsPage = await call.store.list_parts(
        call.bucket, call.key, req["UploadId"], after=marker, limit=max(size, 1)
    )
    parts = page.parts[:size]
    answer: dict[str, Any] = {
        "Bucket": call.bucket,
        "Key": call.key,
        "UploadId": req["UploadId"],
        "PartNumberMarker": marker,
        "MaxParts": size,
        "IsTruncated": page.truncated and size > 0,
        **await _described(call, page.upload),
        "Parts": [
            {
                "PartNumber": part.number,
                "LastModified": moment(part.modified_ms),
                "ETag": f'"{part.etag}"',
                "Size": part.size,
                **{f"Checksum{name}": value for name, value in part.checksums.items()},
            }
            for part in parts
        ],
    }
    if parts:
        answer["NextPartNumberMarker"] = parts[-1].number
    found = aborting(call.home, call.key, page.upload.initiated)
    return answer | ({"AbortDate": found[0], "AbortRuleId": found[1]} if found else {})
