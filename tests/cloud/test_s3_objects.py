"""Objects as boto3 writes and reads them: headers, checksums, ranges, conditions, copies, encryption."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3

from tests.cloud.conftest import refused

KIB, MIB = 1 << 10, 1 << 20


def body(answer: Any) -> bytes:
    return bytes(answer["Body"].read())


@pytest.mark.parametrize("size", [0, 1, KIB, 16 * KIB, 16 * KIB + 1, MIB - 1, MIB, 3 * MIB + 7])
def test_what_was_put_is_got(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    made = s3.put_object(Bucket=bucket, Key="k", Body=data)
    assert made["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert body(got) == data
    assert (got["ETag"], got["ContentLength"]) == (made["ETag"], size)
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"]) == (made["ETag"], size)


def test_headers_and_metadata_come_back(s3: Any, bucket: str) -> None:
    kept = {
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="ä.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "text/plain; charset=utf-8",
        "WebsiteRedirectLocation": "/other",
    }
    kept["ContentDisposition"] = 'attachment; filename="a.txt"'
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"x", Metadata={"One": "1", "two-words": "a, b"},
        Expires=datetime(2030, 1, 1, tzinfo=UTC), StorageClass="STANDARD_IA", Tagging="a=1&b=%C3%A4", **kept
    )  # fmt: skip
    got = s3.head_object(Bucket=bucket, Key="k")
    assert {name: got[name] for name in kept} == kept
    assert got["Metadata"] == {"one": "1", "two-words": "a, b"}
    assert got["ExpiresString"] == "Tue, 01 Jan 2030 00:00:00 GMT"
    assert got["StorageClass"] == "STANDARD_IA"
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 2
    changed = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="x/y", ResponseCacheControl="no-cache", ResponseContentLanguage="en"
    )  # fmt: skip
    assert (changed["ContentType"], changed["CacheControl"], changed["ContentLanguage"]) == (
        "x/y",
        "no-cache",
        "en",
    )


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_kept_and_told(s3: Any, bucket: str, algorithm: str) -> None:
    data = os.urandom(40_000)
    made = s3.put_object(Bucket=bucket, Key="k", Body=data, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == made[f"Checksum{algorithm}"]
    assert head["ChecksumType"] == "FULL_OBJECT"
    told = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"]
    )  # fmt: skip
    assert told["Checksum"][f"Checksum{algorithm}"] == made[f"Checksum{algorithm}"]
    assert (told["ObjectSize"], told["StorageClass"], told["ETag"]) == (
        40_000,
        "STANDARD",
        made["ETag"].strip('"'),
    )
    assert "ObjectParts" not in told


def test_a_wrong_checksum_leaves_nothing(s3: Any, bucket: str) -> None:
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"data", ChecksumCRC32="AAAAAA==")
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"data", ContentMD5=base64.b64encode(bytes(16)).decode())
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=10-19", 10, 19), ("bytes=99990-", 99_990, 99_999), ("bytes=-5", 99_995, 99_999),
     ("bytes=99990-200000", 99_990, 99_999), ("bytes=-200000", 0, 99_999)],
)  # fmt: skip
def test_ranges(s3: Any, bucket: str, asked: str, first: int, last: int) -> None:
    data = os.urandom(100_000)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert body(got) == data[first : last + 1]
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/100000"


def test_ranges_that_are_none(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    for asked in ("bytes=10-", "bytes=10-12", "bytes=-0"):
        with refused("InvalidRange", 416):
            s3.get_object(Bucket=bucket, Key="k", Range=asked)
    for asked in ("bytes=5-2", "lines=1-2", "bytes=", "bytes=0-1,4-5"):
        got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
        assert (got["ResponseMetadata"]["HTTPStatusCode"], body(got)) == (200, b"0123456789")


def test_conditional_reads(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    when = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    before, after = when - timedelta(hours=1), when + timedelta(hours=1)
    for good in ({"IfMatch": etag}, {"IfNoneMatch": '"other"'}, {"IfModifiedSince": before},
                 {"IfUnmodifiedSince": after}, {"IfMatch": etag, "IfUnmodifiedSince": before}):  # fmt: skip
        assert body(s3.get_object(Bucket=bucket, Key="k", **good)) == b"x"
    for stale in (
        {"IfNoneMatch": etag},
        {"IfModifiedSince": when},
        {"IfNoneMatch": etag, "IfModifiedSince": before},
    ):
        with refused("304", 304) as told:
            s3.get_object(Bucket=bucket, Key="k", **stale)
        assert told.response["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag
    for bad in ({"IfMatch": '"other"'}, {"IfUnmodifiedSince": before}):
        with refused("PreconditionFailed", 412):
            s3.get_object(Bucket=bucket, Key="k", **bad)


def test_conditional_writes(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch='"other"')
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="none", Body=b"2", IfMatch=etag)
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"2"
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfNoneMatch=etag)


def test_copies(s3: Any, bucket: str) -> None:
    data = os.urandom(50_000)
    etag = s3.put_object(
        Bucket=bucket, Key="a/ä +?.txt", Body=data, ContentType="text/a", Metadata={"m": "1"}, Tagging="t=1"
    )["ETag"]
    source = {"Bucket": bucket, "Key": "a/ä +?.txt"}
    copied = s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == etag
    got = s3.get_object(Bucket=bucket, Key="b")
    assert (body(got), got["ContentType"], got["Metadata"]) == (data, "text/a", {"m": "1"})
    assert s3.get_object_tagging(Bucket=bucket, Key="b")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(
        Bucket=bucket, Key="c", CopySource=source, MetadataDirective="REPLACE", ContentType="text/c",
        Metadata={"n": "2"}, TaggingDirective="REPLACE", Tagging="u=2", StorageClass="ONEZONE_IA",
    )  # fmt: skip
    got = s3.head_object(Bucket=bucket, Key="c")
    assert (got["ContentType"], got["Metadata"], got["StorageClass"]) == ("text/c", {"n": "2"}, "ONEZONE_IA")
    assert s3.get_object_tagging(Bucket=bucket, Key="c")["TagSet"] == [{"Key": "u", "Value": "2"}]
    s3.delete_object(Bucket=bucket, Key="a/ä +?.txt")
    assert body(s3.get_object(Bucket=bucket, Key="b")) == data
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "b"})
    s3.copy_object(
        Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "b"}, MetadataDirective="REPLACE", Metadata={"z": "9"}
    )  # fmt: skip
    assert s3.head_object(Bucket=bucket, Key="b")["Metadata"] == {"z": "9"}
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="d", CopySource=source)
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="d", CopySource=f"{bucket}/b", CopySourceIfNoneMatch=etag)
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket=bucket, Key="d", CopySource="no-such-bucket-here/b")


def test_what_is_not_there(s3: Any, bucket: str) -> None:
    with refused("NoSuchKey", 404) as told:
        s3.get_object(Bucket=bucket, Key="none")
    assert told.response["Error"]["Key"] == "none"
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="none")
    with refused("NoSuchBucket", 404):
        s3.get_object(Bucket=f"{bucket}-none", Key="k")
    s3.delete_object(Bucket=bucket, Key="none")


def test_many_are_deleted_at_once(s3: Any, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"x")
    asked = [{"Key": f"k{number}"} for number in range(5)] + [{"Key": "<&>\n"}]
    told = s3.delete_objects(Bucket=bucket, Delete={"Objects": asked})
    assert {one["Key"] for one in told["Deleted"]} == {one["Key"] for one in asked}
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": asked, "Quiet": True})
    assert "Deleted" not in quiet
    with refused("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": str(i)} for i in range(1001)]})


def test_encryption_by_the_service(s3: Any, bucket: str) -> None:
    made = s3.put_object(Bucket=bucket, Key="k", Body=b"secret" * 10_000, ServerSideEncryption="AES256")
    assert made["ServerSideEncryption"] == "AES256"
    got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=30000-30005")
    assert (body(got), got["ServerSideEncryption"]) == (b"secret", "AES256")
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="aws:kms")
    with refused("InvalidEncryptionAlgorithmError", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="rot13")


def test_encryption_by_keys_of_ones_own(s3: Any, bucket: str) -> None:
    own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}
    other = own | {"SSECustomerKey": "x" * 32}
    data = os.urandom(100_000)
    s3.put_object(Bucket=bucket, Key="k", Body=data, **own)
    got = s3.get_object(Bucket=bucket, Key="k", **own)
    assert (body(got), got["SSECustomerAlgorithm"]) == (data, "AES256")
    with refused("InvalidRequest", 400):
        s3.get_object(Bucket=bucket, Key="k")
    with refused("AccessDenied", 403):
        s3.get_object(Bucket=bucket, Key="k", **other)
    with refused("400", 400):
        s3.head_object(Bucket=bucket, Key="k")
    source = {f"CopySource{name}": value for name, value in own.items()}
    s3.copy_object(Bucket=bucket, Key="plain", CopySource=f"{bucket}/k", **source)
    assert body(s3.get_object(Bucket=bucket, Key="plain")) == data


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"StorageClass": "GLACIER"}, "NotImplemented"),
        ({"StorageClass": "FAST"}, "InvalidStorageClass"),
        ({"Metadata": {"m": "x" * 2100}}, "MetadataTooLarge"),
        ({"Tagging": "&".join(f"k{i}=v" for i in range(11))}, "BadRequest"),
        ({"Tagging": "aws:x=1"}, "InvalidTag"),
        ({"ACL": "public-read"}, "AccessControlListNotSupported"),
        ({"SSEKMSKeyId": "x", "ServerSideEncryption": "aws:kms"}, "NotImplemented"),
        ({"ObjectLockLegalHoldStatus": "ON"}, "InvalidRequest"),
    ],
)
def test_what_a_new_object_cannot_be(s3: Any, bucket: str, more: dict[str, Any], code: str) -> None:
    with refused(code):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **more)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "a//b", "/lead", "trail/", ".", "..", "%2e%2e", "ä/日本/🙂", "a+b c&d=e?f#g", "k" * 1024,
            "new\nline", "tab\t", "*", "~", "\\", '"quoted"'],
)  # fmt: skip
def test_keys_are_names_and_not_paths(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body(s3.get_object(Bucket=bucket, Key=key)) == key.encode()
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)


def test_presigned_urls(s3: Any, bucket: str) -> None:
    http = urllib3.PoolManager()
    address = s3.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "a b", "ContentType": "text/x"}
    )
    assert http.request("PUT", address, body=b"by url", headers={"Content-Type": "text/x"}).status == 200
    address = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b"}, ExpiresIn=60)
    got = http.request("GET", address)
    assert (got.status, got.data, got.headers["content-type"]) == (200, b"by url", "text/x")
    assert http.request("GET", address.replace("a%20b", "a%20c")).status == 403
    assert b"AccessDenied" in http.request("GET", address.partition("?")[0]).data
    late = address.replace("X-Amz-Expires=60", "X-Amz-Expires=99")
    assert b"SignatureDoesNotMatch" in http.request("GET", late).data


def test_a_form_upload(s3: Any, bucket: str) -> None:
    http = urllib3.PoolManager()
    form = s3.generate_presigned_post(
        bucket, "up/${filename}", Fields={"Content-Type": "text/plain", "success_action_status": "201"},
        Conditions=[["starts-with", "$key", "up/"], {"Content-Type": "text/plain"}, {"success_action_status": "201"},
                    ["content-length-range", 1, 100]],
    )  # fmt: skip
    fields = form["fields"] | {"file": ("hello.txt", b"from a form")}
    done = http.request("POST", form["url"], fields=fields)
    assert (done.status, b"<Key>up/hello.txt</Key>" in done.data) == (201, True), done.data
    assert body(s3.get_object(Bucket=bucket, Key="up/hello.txt")) == b"from a form"
    fields["file"] = ("big.txt", b"x" * 101)
    done = http.request("POST", form["url"], fields=fields)
    assert (done.status, b"EntityTooLarge" in done.data) == (400, True)
    fields = form["fields"] | {"key": "elsewhere", "file": ("a", b"x")}
    assert http.request("POST", form["url"], fields=fields).status == 403
