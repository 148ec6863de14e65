"""Uploads in parts: begun, filled, completed, aborted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mallee.walrus.api import CUSTOMER_KEY, OBJECT, Req, s3
from mallee.walrus.api.conditions import byte_range, writing
from mallee.walrus.api.copies import SOURCE, source
from mallee.walrus.api.headers import (
    CHECKSUMS,
    checksums,
    customer_key,
    encrypted,
    encryption,
    etag,
    unquoted,
    version_id,
)
from mallee.walrus.api.settings.encryption import encrypts_by_default
from mallee.walrus.api.settings.lifecycle_rules import aborting, expiration
from mallee.walrus.api.writes import DEFAULT_CHECKSUM, NEW, new_object, states_checksum
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Claim, Encryption, Part, Upload
from mallee.walrus.store.documents import ChecksumType

MOST_PARTS: Final = 10_000
_COMPOSITE: Final = ("CRC32", "CRC32C", "SHA1", "SHA256")  # may be a checksum of the parts' checksums
_FULL: Final = ("CRC32", "CRC32C", "CRC64NVME")  # may be put together to one of the whole


@s3.operation("CreateMultipartUpload", accepts=(*OBJECT, *NEW, "ChecksumType"))
async def create_multipart_upload(call: Call, req: Req) -> Result:
    """Begin an upload; what the object will be besides its bytes is said here."""
    algorithm, kind = _checksum(req)
    keeping = encryption(req, by_default=encrypts_by_default(call.home))
    upload: Upload = await call.store.begin_upload(
        call.bucket,
        call.key,
        replace(await new_object(call, req), checksum_type=kind),
        initiator=call.principal.arn if call.principal else "",
        encryption=keeping,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )
    answer: dict[str, Any] = {
        "Bucket": call.bucket,
        "Key": call.key,
        "UploadId": upload.upload_id,
        **encrypted(req, upload.encryption),
    }
    if req.get("ChecksumAlgorithm"):
        answer |= {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
    return answer | _abort(call, upload)


def _checksum(req: Req) -> tuple[str, ChecksumType]:
    """Which checksum the object gets, of the parts' or of the whole; CRC64NVME when nothing is said."""
    algorithm, kind = req.get("ChecksumAlgorithm"), req.get("ChecksumType")
    if algorithm is None:
        if kind is not None:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return DEFAULT_CHECKSUM, "FULL_OBJECT"
    algorithm = algorithm.upper()
    if algorithm not in CHECKSUMS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    kind = kind or ("FULL_OBJECT" if algorithm == DEFAULT_CHECKSUM else "COMPOSITE")
    if algorithm not in {"COMPOSITE": _COMPOSITE, "FULL_OBJECT": _FULL}.get(kind, ()):
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    return algorithm, "FULL_OBJECT" if kind == "FULL_OBJECT" else "COMPOSITE"


def _abort(call: Call, upload: Upload) -> dict[str, Any]:
    found = aborting(call.home, upload.key, upload.initiated)
    return {"AbortDate": found[0], "AbortRuleId": found[1]} if found else {}


@s3.operation(
    "UploadPart",
    accepts=(
        *(*OBJECT, *CUSTOMER_KEY, "Body", "UploadId", "PartNumber"),
        *(f"Checksum{name}" for name in CHECKSUMS),
    ),
)
async def upload_part(call: Call, req: Req) -> Result:
    """One part; a second of the same number takes its place."""
    number = _number(req)
    upload: Upload = await call.store.find_upload(call.bucket, call.key, req["UploadId"])
    keeping = _as_begun(upload, req)
    if not states_checksum(call) or upload.checksum_type == "FULL_OBJECT":
        call.body.also(upload.checksum_algorithm or DEFAULT_CHECKSUM)
    bytes_in = await call.store.begin(call.body.length, encryption=keeping)
    try:
        await call.body.pour(bytes_in)
        part: Part = await call.store.put_part(
            upload, number, bytes_in, etag=call.body.md5.hex(), checksums=dict(call.body.checksums)
        )
    finally:
        await bytes_in.discard()
    return {"ETag": f'"{part.etag}"', **_of_part(part), **encrypted(req, upload.encryption)}


def _number(req: Req) -> int:
    number: int = req["PartNumber"]
    if not 1 <= number <= MOST_PARTS:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=str(number),
        )
    return number


def _as_begun(upload: Upload, req: Req) -> Encryption | None:
    """How a part is encrypted: as the upload says. A customer's key must come with each part."""
    key = customer_key(req)
    if (key is not None) is not (upload.encryption == "customer"):
        raise S3Error(
            "InvalidRequest",
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate "
            "encryption parameters."
            if key is None
            else "The multipart upload was not initiated with encryption by keys of your own.",
        )
    return Encryption(key) if upload.encryption else None


def _of_part(part: Part) -> dict[str, str]:
    return {f"Checksum{name}": value for name, value in part.checksums.items()}


@s3.operation(
    "UploadPartCopy",
    accepts=(*OBJECT, *CUSTOMER_KEY, *SOURCE, "UploadId", "PartNumber", "CopySourceRange"),
)
async def upload_part_copy(call: Call, req: Req) -> Result:
    """One part from bytes of an object."""
    number = _number(req)
    upload: Upload = await call.store.find_upload(call.bucket, call.key, req["UploadId"])
    keeping = _as_begun(upload, req)
    home, original = await source(call, req)
    asked = req.get("CopySourceRange")
    span = byte_range(asked, original.size)
    if asked and (span is None or int(asked.rpartition("-")[2] or -1) >= original.size):
        raise S3Error(
            "InvalidArgument",
            f"Range specified is not valid for source object of size: {original.size}",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=asked[:64],
        )
    first, last = span or (0, None)
    part: Part = await call.store.copy_part(
        upload,
        number,
        original,
        first,
        last,
        encryption=keeping,
        source_key=customer_key(req, "CopySource"),
    )
    result = {"ETag": f'"{part.etag}"', "LastModified": call.now, **_of_part(part)}
    answer: dict[str, Any] = {"CopyPartResult": result, **encrypted(req, upload.encryption)}
    return answer | ({"CopySourceVersionId": original.version_id} if home.versioning else {})


@s3.operation(
    "CompleteMultipartUpload",
    accepts=(
        *(*OBJECT, *CUSTOMER_KEY, "UploadId", "MultipartUpload", "IfMatch", "IfNoneMatch"),
        *("MpuObjectSize", "ChecksumType", *(f"Checksum{name}" for name in CHECKSUMS)),
    ),
)
async def complete_multipart_upload(call: Call, req: Req) -> Result:
    """The named parts become the object, at once and whole."""
    named = (req.get("MultipartUpload") or {}).get("Parts") or []
    if not named:
        raise S3Error("MalformedXML")
    if len(named) > MOST_PARTS:
        raise S3Error("InvalidArgument", f"An upload has at most {MOST_PARTS} parts.", ArgumentName="Part")
    claims = []
    for part in named:
        said = {name: part[f"Checksum{name}"] for name in CHECKSUMS if part.get(f"Checksum{name}")}
        if part.get("PartNumber") is None or part.get("ETag") is None:
            raise S3Error("MalformedXML")
        claims.append(Claim(part["PartNumber"], unquoted(part["ETag"]) or "", said))
    version = await call.store.complete_upload(
        call.bucket,
        call.key,
        req["UploadId"],
        claims,
        conditions=writing(req),
        checksums={name: req[f"Checksum{name}"] for name in CHECKSUMS if req.get(f"Checksum{name}")},
        size=req.get("MpuObjectSize"),
    )
    ends = expiration(call.home, version)
    return {
        "Location": f"http{'s' if call.secure else ''}://{call.host}/{call.bucket}/{call.key}",
        "Bucket": call.bucket,
        "Key": call.key,
        "ETag": etag(version),
        **checksums(version),
        **({"ServerSideEncryption": "AES256"} if version.encryption == "AES256" else {}),
        **version_id(version.version_id, call.home.versioning),
        **({"Expiration": ends} if ends else {}),
    }


@s3.operation("AbortMultipartUpload", accepts=(*OBJECT, "UploadId", "IfMatchInitiatedTime"))
async def abort_multipart_upload(call: Call, req: Req) -> Result:
    """Forget an upload and all its parts."""
    asked = req.get("IfMatchInitiatedTime")
    if asked is not None:
        upload: Upload = await call.store.find_upload(call.bucket, call.key, req["UploadId"])
        if upload.initiated.replace(microsecond=0) != asked.replace(microsecond=0):
            raise S3Error("PreconditionFailed", Condition="x-amz-if-match-initiated-time")
    await call.store.abort_upload(call.bucket, call.key, req["UploadId"])
    return None
