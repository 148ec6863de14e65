"""Uploads in parts as boto3 makes them."""

from __future__ import annotations

import hashlib
import io
import os
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from tests.cloud.conftest import refused

MIB = 1 << 20
PART = 5 * MIB


def begin(s3: Any, bucket: str, key: str = "k", **more: Any) -> str:
    made: str = s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]
    return made


def fill(
    s3: Any, bucket: str, upload: str, parts: list[bytes], key: str = "k", **more: Any
) -> list[dict[str, Any]]:
    made = []
    for number, data in enumerate(parts, 1):
        told = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=data, **more)
        sums = {name: value for name, value in told.items() if name.startswith("Checksum")}
        made.append({"PartNumber": number, "ETag": told["ETag"], **sums})
    return made


def complete(
    s3: Any, bucket: str, upload: str, parts: list[dict[str, Any]], key: str = "k", **more: Any
) -> Any:
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **more
    )


def test_parts_become_one_object(s3: Any, bucket: str) -> None:
    data = [os.urandom(PART), os.urandom(PART), os.urandom(1000)]
    upload = begin(s3, bucket, ContentType="x/y", Metadata={"m": "1"}, Tagging="t=1")
    parts = fill(s3, bucket, upload, data)
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")
    done = complete(s3, bucket, upload, parts)
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in data)).hexdigest()
    assert done["ETag"] == f'"{digest}-3"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(data)
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("x/y", {"m": "1"}, 1)
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (data[1], 3)
    with refused("InvalidPartNumber", 416):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=4)
    again = complete(s3, bucket, upload, parts)
    assert again["ETag"] == done["ETag"]


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("CRC32C", "COMPOSITE"), ("CRC32C", "FULL_OBJECT"),
     ("CRC64NVME", "FULL_OBJECT"), ("SHA1", "COMPOSITE"), ("SHA256", "COMPOSITE")],
)  # fmt: skip
def test_checksums_of_parts_and_of_the_whole(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    data = [os.urandom(PART), os.urandom(2000)]
    upload = begin(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = fill(s3, bucket, upload, data, ChecksumAlgorithm=algorithm)
    done = complete(s3, bucket, upload, parts)
    name = f"Checksum{algorithm}"
    assert (name in done, done["ChecksumType"]) == (True, kind)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[name] == done[name]
    if kind == "COMPOSITE":
        assert done[name].endswith("-2")
    else:
        whole = s3.put_object(Bucket=bucket, Key="whole", Body=b"".join(data), ChecksumAlgorithm=algorithm)
        assert whole[name] == done[name]
    told = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "Checksum"], MaxParts=1
    )
    assert told["ObjectParts"]["TotalPartsCount"] == 2
    assert told["ObjectParts"]["IsTruncated"] is True
    assert told["ObjectParts"]["Parts"][0][name] == parts[0][name]


def test_what_a_completion_refuses(s3: Any, bucket: str) -> None:
    upload = begin(s3, bucket)
    parts = fill(s3, bucket, upload, [b"small", b"last"])
    with refused("EntityTooSmall", 400):
        complete(s3, bucket, upload, parts)
    with refused("InvalidPartOrder", 400):
        complete(s3, bucket, upload, parts[::-1])
    with refused("InvalidPart", 400):
        complete(s3, bucket, upload, [parts[0] | {"ETag": '"0123"'}])
    with refused("InvalidPart", 400):
        complete(s3, bucket, upload, [{"PartNumber": 9, "ETag": parts[0]["ETag"]}])
    with refused("MalformedXML", 400):
        complete(s3, bucket, upload, [])
    with refused("NoSuchUpload", 404):
        complete(s3, bucket, "forged", parts)
    with refused("NoSuchUpload", 404):
        complete(s3, bucket, upload, parts, key="other")
    with refused("InvalidArgument", 400):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=10_001, Body=b"x")
    complete(s3, bucket, upload, parts[:1])
    with refused("PreconditionFailed", 412):
        other = begin(s3, bucket)
        complete(s3, bucket, other, fill(s3, bucket, other, [b"x"]), IfNoneMatch="*")


def test_uploads_and_parts_are_listed_and_aborted(s3: Any, bucket: str) -> None:
    uploads = {key: begin(s3, bucket, key) for key in ("a", "b/1", "b/2")}
    fill(s3, bucket, uploads["a"], [b"1", b"22", b"333"], key="a")
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="a", UploadId=uploads["a"], PaginationConfig={"PageSize": 2}
    )
    assert [part["Size"] for page in pages for part in page["Parts"]] == [1, 2, 3]
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    assert [one["UploadId"] for page in pages for one in page["Uploads"]] == list(uploads.values())
    folded = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in folded["CommonPrefixes"]] == ["b/"]
    for key, upload in uploads.items():
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with refused("NoSuchUpload", 404):
        s3.abort_multipart_upload(Bucket=bucket, Key="a", UploadId=uploads["a"])
    with refused("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="a", UploadId=uploads["a"], PartNumber=1, Body=b"x")


def test_parts_from_other_objects(s3: Any, bucket: str) -> None:
    data = os.urandom(PART + 3000)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    upload = begin(s3, bucket)
    spans = [f"bytes=0-{PART - 1}", f"bytes={PART}-{PART + 2999}"]
    parts = []
    for number, span in enumerate(spans, 1):
        told = s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, CopySource=f"{bucket}/source", CopySourceRange=span
        )["CopyPartResult"]  # fmt: skip
        parts.append({"PartNumber": number, "ETag": told["ETag"]})
    complete(s3, bucket, upload, parts)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == data
    with refused("InvalidArgument", 400):
        s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId=begin(s3, bucket), PartNumber=1, CopySource=f"{bucket}/source",
            CopySourceRange=f"bytes=0-{PART + 3000}",
        )  # fmt: skip


def test_an_encrypted_upload(s3: Any, bucket: str) -> None:
    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    data = [os.urandom(PART), os.urandom(100)]
    upload = begin(s3, bucket, **own)
    with refused("InvalidRequest", 400):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    parts = fill(s3, bucket, upload, data, **own)
    complete(s3, bucket, upload, parts)
    got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={PART - 5}-{PART + 4}", **own)
    assert got["Body"].read() == b"".join(data)[PART - 5 : PART + 5]


def test_boto3s_own_transfers(s3: Any, bucket: str) -> None:
    data = os.urandom(20 * MIB)
    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(data), bucket, "k", Config=config)
    found = io.BytesIO()
    s3.download_fileobj(bucket, "k", found, Config=config)
    assert found.getvalue() == data
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"].endswith('-4"')
