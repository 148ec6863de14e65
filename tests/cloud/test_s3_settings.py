"""What is set on buckets: made and found, versions, locks, tags, rules; and what no bucket has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import urllib3

from mallee.kernel.clock import SystemClock
from tests.cloud.clouds import TestCloud
from tests.cloud.conftest import empty, refused

CLOCK = SystemClock()


def test_a_bucket_is_made_found_and_deleted(s3: Any, bucket: str, shared_cloud: TestCloud) -> None:
    region = shared_cloud.access.region
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == region
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == region
    assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    listed = s3.list_buckets(Prefix=bucket, MaxBuckets=1)
    assert [one["BucketRegion"] for one in listed["Buckets"]] == [region]
    with refused("BucketAlreadyOwnedByYou", 409):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    with refused("404", 404):
        s3.head_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    "name", ["ab", "Upper", "a..b", "-a-b", "a_b", "192.168.1.1", "xn--abc", "a" * 64, "a-s3alias"]
)
def test_names_that_no_bucket_has(s3: Any, name: str) -> None:
    s3 = _unchecked(s3)
    with refused("InvalidBucketName", 400):
        s3.create_bucket(Bucket=name)


def _unchecked(s3: Any) -> Any:
    """A client that leaves the check of names to the service."""
    s3.meta.events.unregister("before-parameter-build.s3", _validate())
    return s3


def _validate() -> Any:
    from botocore.handlers import validate_bucket_name

    return validate_bucket_name


def test_pages_of_buckets(s3: Any) -> None:
    names = [f"paged-{number}" for number in range(3)]
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = s3.get_paginator("list_buckets").paginate(Prefix="paged-", PaginationConfig={"PageSize": 2})
    assert [one["Name"] for page in pages for one in page["Buckets"]] == names
    for name in names:
        s3.delete_bucket(Bucket=name)


def test_elsewhere_is_nowhere(s3: Any, shared_cloud: TestCloud) -> None:
    with refused("InvalidLocationConstraint", 400):
        s3.create_bucket(Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "eu-west-9"})
    here = {"LocationConstraint": shared_cloud.access.region}
    s3.create_bucket(Bucket="here-it-is", CreateBucketConfiguration=here)
    s3.delete_bucket(Bucket="here-it-is")


def test_versions_and_delete_markers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0")
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first, second = (s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] for body in (b"1", b"2"))
    assert first != second
    for version, body in ((None, b"2"), (second, b"2"), (first, b"1"), ("null", b"0")):
        more = {"VersionId": version} if version else {}
        assert s3.get_object(Bucket=bucket, Key="k", **more)["Body"].read() == body
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"] is True
    with refused("NoSuchKey", 404) as told:
        s3.get_object(Bucket=bucket, Key="k")
    assert told.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    with refused("MethodNotAllowed", 405):
        s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    listed = s3.list_object_versions(Bucket=bucket)
    assert [(one["VersionId"], one["IsLatest"]) for one in listed["Versions"]] == [
        (second, False), (first, False), ("null", False)]  # fmt: skip
    assert [one["IsLatest"] for one in listed["DeleteMarkers"]] == [True]
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    assert sum(len(page.get("Versions", [])) + len(page.get("DeleteMarkers", [])) for page in pages) == 4
    gone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert (gone["DeleteMarker"], gone["VersionId"]) == (True, marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"null again")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"null again"
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    with refused("InvalidArgument", 400):
        s3.get_object(Bucket=bucket, Key="k", VersionId="forged")
    copied = s3.copy_object(
        Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k", "VersionId": first}
    )
    assert copied["CopySourceVersionId"] == first
    assert s3.get_object(Bucket=bucket, Key="c")["Body"].read() == b"1"


def test_locks(s3: Any) -> None:
    name = "locked-bucket"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    try:
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        default = {"Mode": "GOVERNANCE", "Days": 1}
        s3.put_object_lock_configuration(
            Bucket=name,
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}},
        )
        read = s3.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]
        assert read == {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}}
        version = s3.put_object(Bucket=name, Key="k", Body=b"x")["VersionId"]
        kept = s3.get_object_retention(Bucket=name, Key="k")["Retention"]
        assert kept["Mode"] == "GOVERNANCE"
        assert kept["RetainUntilDate"] > CLOCK.now() + timedelta(hours=23)
        assert s3.head_object(Bucket=name, Key="k")["ObjectLockMode"] == "GOVERNANCE"
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=name, Key="k", VersionId=version)
        s3.put_object_legal_hold(Bucket=name, Key="k", LegalHold={"Status": "ON"})
        assert s3.get_object_legal_hold(Bucket=name, Key="k")["LegalHold"]["Status"] == "ON"
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=name, Key="k", VersionId=version, BypassGovernanceRetention=True)
        s3.put_object_legal_hold(Bucket=name, Key="k", LegalHold={"Status": "OFF"})
        shorter = {"Mode": "GOVERNANCE", "RetainUntilDate": CLOCK.now() + timedelta(minutes=1)}
        with refused("AccessDenied", 403):
            s3.put_object_retention(Bucket=name, Key="k", Retention=shorter)
        s3.put_object_retention(Bucket=name, Key="k", Retention=shorter, BypassGovernanceRetention=True)
        s3.delete_object(Bucket=name, Key="k", VersionId=version, BypassGovernanceRetention=True)
        with refused("InvalidBucketState", 409):
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    finally:
        empty(s3, name)


def test_compliance_is_for_everybody(s3: Any) -> None:
    name = "compliant-bucket"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    until = CLOCK.now().replace(microsecond=0) + timedelta(seconds=20)
    version = s3.put_object(
        Bucket=name, Key="k", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    for more in ({}, {"BypassGovernanceRetention": True}):
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=name, Key="k", VersionId=version, **more)
        with refused("AccessDenied", 403):
            s3.put_object_retention(
                Bucket=name, Key="k", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}, **more
            )
    longer = {"Mode": "COMPLIANCE", "RetainUntilDate": until + timedelta(seconds=1)}
    s3.put_object_retention(Bucket=name, Key="k", Retention=longer)
    assert s3.get_object_retention(Bucket=name, Key="k")["Retention"] == longer
    s3.delete_object(Bucket=name, Key="k")  # a marker hides it; the version stays
    assert s3.get_object(Bucket=name, Key="k", VersionId=version)["Body"].read() == b"x"


def test_tags(s3: Any, bucket: str) -> None:
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    tags = [{"Key": "team", "Value": "größe & co"}, {"Key": "empty", "Value": ""}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with refused("NoSuchKey", 404):
        s3.put_object_tagging(Bucket=bucket, Key="none", Tagging={"TagSet": tags})
    with refused("InvalidTag", 400):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [tags[0], tags[0]]})


def test_default_encryption(s3: Any, bucket: str) -> None:
    with refused("ServerSideEncryptionConfigurationNotFoundError", 404):
        s3.get_bucket_encryption(Bucket=bucket)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"] == {"Rules": [rule]}
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 50_000)["ServerSideEncryption"] == "AES256"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x" * 50_000
    kms = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    with refused("NotImplemented", 501):
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [kms]})
    s3.delete_bucket_encryption(Bucket=bucket)
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="k", Body=b"x")


def test_cors(s3: Any, bucket: str, shared_cloud: TestCloud) -> None:
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    rules = [
        {"ID": "one", "AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example"],
         "AllowedHeaders": ["x-amz-*"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 60},
        {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]},
    ]  # fmt: skip
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    http, where = urllib3.PoolManager(), f"{shared_cloud.access.endpoint}/{bucket}/k"
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT",
             "Access-Control-Request-Headers": "x-amz-date, X-Amz-Meta-A"}  # fmt: skip
    said = http.request("OPTIONS", where, headers=asked)
    assert said.status == 200
    assert said.headers["access-control-allow-origin"] == "https://a.example"
    assert said.headers["access-control-allow-methods"] == "GET, PUT"
    assert said.headers["access-control-allow-headers"] == "x-amz-date, x-amz-meta-a"
    assert said.headers["access-control-max-age"] == "60"
    for change in ({"Origin": "https://a.other"}, {"Access-Control-Request-Method": "DELETE"},
                   {"Access-Control-Request-Headers": "authorization"}):  # fmt: skip
        said = http.request("OPTIONS", where, headers=asked | change)
        assert (said.status, b"AccessForbidden" in said.data) == (403, True)
    said = http.request("GET", where, headers={"Origin": "https://a.example"})
    assert (said.status, said.headers["access-control-expose-headers"]) == (403, "ETag")
    assert http.request("HEAD", where, headers={"Origin": "x"}).headers["access-control-allow-origin"] == "*"
    with refused("InvalidRequest", 400):
        s3.put_bucket_cors(
            Bucket=bucket,
            CORSConfiguration={"CORSRules": [{"AllowedMethods": ["OPTIONS"], "AllowedOrigins": ["*"]}]},
        )
    s3.delete_bucket_cors(Bucket=bucket)
    assert http.request("OPTIONS", where, headers=asked).status == 403


def test_lifecycle(s3: Any, bucket: str) -> None:
    with refused("NoSuchLifecycleConfiguration", 404):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    rules: list[dict[str, Any]] = [
        {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 10},
         "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2}},
        {"ID": "day", "Status": "Enabled", "Filter": {"And": {"Prefix": "a", "Tags": [{"Key": "t", "Value": "1"}]}},
         "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}},
        {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    ]  # fmt: skip
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    assert 'rule-id="logs"' in s3.put_object(Bucket=bucket, Key="logs/1", Body=b"x")["Expiration"]
    assert 'rule-id="logs"' in s3.head_object(Bucket=bucket, Key="logs/1")["Expiration"]
    assert "Expiration" not in s3.put_object(Bucket=bucket, Key="other", Body=b"x")
    assert s3.create_multipart_upload(Bucket=bucket, Key="u")["AbortRuleId"] == "uploads"
    base = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}}
    for wrong, code in (
        ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, "NotImplemented"),
        ({"Expiration": {"Days": 0}}, "InvalidArgument"),
        ({"Expiration": {"Date": datetime(2030, 1, 1, 12, tzinfo=UTC)}}, "InvalidArgument"),
        ({"Status": "Perhaps", "Expiration": {"Days": 1}}, "MalformedXML"),
        ({}, "MalformedXML"),
    ):
        with refused(code):
            s3.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": [base | wrong]}
            )
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with refused("NoSuchLifecycleConfiguration", 404):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


@pytest.mark.parametrize(
    ("operation", "more", "code"),
    [
        ("get_bucket_website", {}, "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", {}, "ReplicationConfigurationNotFoundError"),
        ("get_bucket_policy", {}, "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", {}, "NoSuchBucketPolicy"),
        ("get_object_lock_configuration", {}, "ObjectLockConfigurationNotFoundError"),
        ("get_bucket_metrics_configuration", {"Id": "x"}, "NoSuchConfiguration"),
        ("get_bucket_inventory_configuration", {"Id": "x"}, "NoSuchConfiguration"),
        ("get_bucket_analytics_configuration", {"Id": "x"}, "NoSuchConfiguration"),
        ("get_bucket_intelligent_tiering_configuration", {"Id": "x"}, "NoSuchConfiguration"),
    ],
)
def test_what_is_not_configured_says_so(
    s3: Any, bucket: str, operation: str, more: dict[str, str], code: str
) -> None:
    with refused(code, 404):
        getattr(s3, operation)(Bucket=bucket, **more)


def test_what_reads_as_empty(s3: Any, bucket: str) -> None:
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    assert set(s3.get_bucket_notification_configuration(Bucket=bucket)) == {"ResponseMetadata"}
    assert s3.list_bucket_metrics_configurations(Bucket=bucket)["IsTruncated"] is False
    s3.delete_bucket_website(Bucket=bucket)
    s3.delete_bucket_replication(Bucket=bucket)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("put_bucket_website", {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "i.html"}}}),
        ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
        (
            "put_bucket_logging",
            {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": "x", "TargetPrefix": ""}}},
        ),
        ("restore_object", {"Key": "k", "RestoreRequest": {"Days": 1}}),
        ("get_object_torrent", {"Key": "k"}),
        ("put_object", {"Key": "k", "Body": b"x", "WriteOffsetBytes": 3}),
    ],
)
def test_what_is_not_built_says_so(s3: Any, bucket: str, operation: str, more: dict[str, Any]) -> None:
    with refused("NotImplemented", 501):
        getattr(s3, operation)(Bucket=bucket, **more)
