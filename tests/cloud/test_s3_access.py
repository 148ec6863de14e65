"""Who may do what: other accounts, users, nobody; policies, grants, and what is told to whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError

from mallee.cli.state import Access
from mallee.kernel.clock import SystemClock
from tests.cloud.clouds import TestCloud
from tests.cloud.conftest import empty, refused


@pytest.fixture(scope="module")
def other(shared_cloud: TestCloud) -> Access:
    """Another account's way in."""
    return shared_cloud.account("s3-other")


@pytest.fixture
def theirs(shared_cloud: TestCloud, other: Access) -> Any:
    return shared_cloud.client("s3", other)


@pytest.fixture
def user(shared_cloud: TestCloud) -> Iterator[tuple[str, Any]]:
    """A user of the first account: the ARN, and a client."""
    import msgspec

    iam = shared_cloud.client("iam")
    made = iam.create_user(UserName="s3-ada")["User"]
    key = iam.create_access_key(UserName="s3-ada")["AccessKey"]
    access = msgspec.structs.replace(
        shared_cloud.access, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"]
    )
    yield made["Arn"], shared_cloud.client("s3", access)
    iam.delete_access_key(UserName="s3-ada", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="s3-ada")


def get(cloud: TestCloud, path: str, **more: Any) -> Any:
    return urllib3.PoolManager().request("GET", f"{cloud.access.endpoint}/{path}", **more)


def policy(s3: Any, bucket: str, *statements: dict[str, Any]) -> None:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def allow(bucket: str, principal: Any, *actions: str, **more: Any) -> dict[str, Any]:
    arns = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    wanted = [f"s3:{action}" for action in actions]
    return {"Effect": "Allow", "Principal": principal, "Action": wanted, "Resource": arns} | more


def opened(s3: Any, bucket: str) -> None:
    """Let the bucket become public, and let grants count."""
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )


def test_a_new_bucket_is_its_owners_alone(s3: Any, theirs: Any, bucket: str, shared_cloud: TestCloud) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for ask in (
        lambda: theirs.get_object(Bucket=bucket, Key="k"),
        lambda: theirs.get_object(Bucket=bucket, Key="none"),
        lambda: theirs.put_object(Bucket=bucket, Key="k", Body=b"y"),
        lambda: theirs.delete_object(Bucket=bucket, Key="k"),
        lambda: theirs.list_objects_v2(Bucket=bucket),
        lambda: theirs.get_bucket_policy(Bucket=bucket),
        lambda: theirs.get_bucket_location(Bucket=bucket),
        lambda: theirs.delete_bucket(Bucket=bucket),
        lambda: theirs.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/k"),
        lambda: theirs.create_multipart_upload(Bucket=bucket, Key="k"),
    ):
        with refused("AccessDenied", 403):
            ask()
    deleted = theirs.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    assert [(one["Key"], one["Code"]) for one in deleted["Errors"]] == [("k", "AccessDenied")]
    with refused("BucketAlreadyExists", 409):
        theirs.create_bucket(Bucket=bucket)
    assert bucket not in [one["Name"] for one in theirs.list_buckets()["Buckets"]]
    for path in (f"{bucket}/k", bucket):
        said = get(shared_cloud, path)
        assert (said.status, b"<Code>AccessDenied</Code>" in said.data) == (403, True)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    rule = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert rule == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def test_whoever_may_not_list_does_not_hear_what_is_missing(
    s3: Any, theirs: Any, other: Access, bucket: str
) -> None:
    policy(s3, bucket, allow(bucket, {"AWS": other.account_id}, "GetObject"))
    with refused("AccessDenied", 403):
        theirs.get_object(Bucket=bucket, Key="none")
    policy(s3, bucket, allow(bucket, {"AWS": other.account_id}, "GetObject", "ListBucket"))
    with refused("NoSuchKey", 404):
        theirs.get_object(Bucket=bucket, Key="none")


def test_another_account_by_policy(s3: Any, theirs: Any, other: Access, bucket: str) -> None:
    root = {"AWS": f"arn:aws:iam::{other.account_id}:root"}
    policy(s3, bucket, allow(bucket, root, "GetObject", "PutObject", "ListBucket"),
           allow(bucket, "*", "*", Effect="Deny", Resource=[f"arn:aws:s3:::{bucket}/secret/*"]))  # fmt: skip
    theirs.put_object(Bucket=bucket, Key="k", Body=b"theirs")
    assert theirs.get_object(Bucket=bucket, Key="k")["Body"].read() == b"theirs"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"theirs"
    with refused("AccessDenied", 403):
        theirs.delete_object(Bucket=bucket, Key="k")
    for client in (s3, theirs):
        with refused("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="secret/k", Body=b"x")
    with refused("AccessDenied", 403):
        theirs.get_bucket_acl(Bucket=bucket)
    s3.delete_bucket_policy(Bucket=bucket)
    with refused("AccessDenied", 403):
        theirs.get_object(Bucket=bucket, Key="k")


def test_conditions_of_a_policy(s3: Any, theirs: Any, other: Access, bucket: str) -> None:
    them = {"AWS": other.account_id}
    home = {"StringLike": {"s3:prefix": ["home/*"]}}
    near, far = (
        {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}},
        {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
    )
    policy(s3, bucket, allow(bucket, them, "ListBucket", Condition=home))
    theirs.list_objects_v2(Bucket=bucket, Prefix="home/ada")
    with refused("AccessDenied", 403):
        theirs.list_objects_v2(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="class=open")
    for condition, may in (
        (near, True), (far, False), ({"Bool": {"aws:SecureTransport": "true"}}, False),
        ({"StringEquals": {"s3:ExistingObjectTag/class": "open"}}, True),
        ({"StringEquals": {"s3:ExistingObjectTag/class": "closed"}}, False),
    ):  # fmt: skip
        policy(s3, bucket, allow(bucket, them, "GetObject", Condition=condition))
        if may:
            assert theirs.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
        else:
            with refused("AccessDenied", 403):
                theirs.get_object(Bucket=bucket, Key="k")


def test_users_need_to_be_named(s3: Any, user: tuple[str, Any], bucket: str, shared_cloud: TestCloud) -> None:
    arn, client = user
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("AccessDenied", 403) as told:
        client.get_object(Bucket=bucket, Key="k")
    assert arn in told.response["Error"]["Message"]
    policy(s3, bucket, allow(bucket, {"AWS": shared_cloud.access.account_id}, "GetObject"))
    with refused("AccessDenied", 403):
        client.get_object(Bucket=bucket, Key="k")
    policy(s3, bucket, allow(bucket, {"AWS": arn}, "GetObject"))
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    with refused("AccessDenied", 403):
        client.list_buckets()


def test_nobody_locks_the_root_out_of_the_policy(s3: Any, bucket: str) -> None:
    policy(s3, bucket, allow(bucket, "*", "*", Effect="Deny"))
    with refused("AccessDenied", 403):
        s3.list_objects_v2(Bucket=bucket)
    assert "Deny" in s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    s3.list_objects_v2(Bucket=bucket)
    with refused("MalformedPolicy", 400):
        s3.put_bucket_policy(Bucket=bucket, Policy="{}")


def test_a_public_bucket_by_policy(s3: Any, bucket: str, shared_cloud: TestCloud) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"for all")
    with refused("AccessDenied", 403):
        policy(s3, bucket, allow(bucket, "*", "GetObject"))
    s3.delete_public_access_block(Bucket=bucket)
    policy(s3, bucket, allow(bucket, "*", "GetObject"))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    assert get(shared_cloud, f"{bucket}/k").data == b"for all"
    assert get(shared_cloud, f"{bucket}/none").status == 403
    assert get(shared_cloud, f"{bucket}/k?response-content-type=a").status == 400
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
    assert get(shared_cloud, f"{bucket}/k").status == 403


def test_grants(s3: Any, theirs: Any, other: Access, bucket: str, shared_cloud: TestCloud) -> None:
    mine = s3.get_bucket_acl(Bucket=bucket)
    assert [grant["Permission"] for grant in mine["Grants"]] == ["FULL_CONTROL"]
    with refused("AccessControlListNotSupported", 400):
        s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    opened(s3, bucket)
    s3.put_object(Bucket=bucket, Key="open", Body=b"open", ACL="public-read")
    s3.put_object(Bucket=bucket, Key="closed", Body=b"closed")
    assert get(shared_cloud, f"{bucket}/open").data == b"open"
    assert get(shared_cloud, f"{bucket}/closed").status == 403
    assert theirs.get_object(Bucket=bucket, Key="open")["Body"].read() == b"open"
    their_id = theirs.list_buckets()["Owner"]["ID"]
    s3.put_object_acl(Bucket=bucket, Key="closed", GrantRead=f'id="{their_id}"')
    assert theirs.get_object(Bucket=bucket, Key="closed")["Body"].read() == b"closed"
    with refused("AccessDenied", 403):
        theirs.get_object_acl(Bucket=bucket, Key="closed")
    told = s3.get_object_acl(Bucket=bucket, Key="closed")["Grants"]
    assert told == [
        {
            "Grantee": {"ID": their_id, "Type": "CanonicalUser", "DisplayName": "s3-other"},
            "Permission": "READ",
        }
    ]
    assert get(shared_cloud, bucket).status == 403
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert get(shared_cloud, bucket).status == 200
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"IgnorePublicAcls": True})
    assert get(shared_cloud, bucket).status == 403
    assert theirs.get_object(Bucket=bucket, Key="closed")["Body"].read() == b"closed"
    with refused("InvalidArgument", 400):
        s3.put_object_acl(Bucket=bucket, Key="closed", GrantRead='id="' + "f" * 64 + '"')


def test_what_another_account_wrote_is_its_own(s3: Any, theirs: Any, other: Access, bucket: str) -> None:
    opened(s3, bucket)
    their_id = theirs.list_buckets()["Owner"]["ID"]
    my_id = s3.list_buckets()["Owner"]["ID"]
    s3.put_bucket_acl(Bucket=bucket, GrantWrite=f"id={their_id}", GrantFullControl=f"id={my_id}")
    theirs.put_object(Bucket=bucket, Key="k", Body=b"theirs")
    with refused("AccessDenied", 403):
        s3.get_object(Bucket=bucket, Key="k")
    assert theirs.get_object(Bucket=bucket, Key="k")["Body"].read() == b"theirs"
    theirs.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"theirs"
    s3.delete_object(Bucket=bucket, Key="k")


def test_the_owner_that_was_expected(s3: Any, bucket: str, shared_cloud: TestCloud) -> None:
    s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner=shared_cloud.access.account_id)
    with refused("AccessDenied", 403):
        s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="111111111111")


def test_nobody_makes_or_lists_buckets_unsigned(shared_cloud: TestCloud) -> None:
    http, where = urllib3.PoolManager(), shared_cloud.access.s3_endpoint
    assert http.request("GET", f"{where}/").status == 403
    assert http.request("PUT", f"{where}/anybodys-bucket").status == 403


def test_a_deleted_key_is_refused_within_a_second(shared_cloud: TestCloud) -> None:
    import msgspec

    iam = shared_cloud.client("iam")
    key = iam.create_access_key()["AccessKey"]
    access = msgspec.structs.replace(
        shared_cloud.access, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"]
    )
    s3 = shared_cloud.client("s3", access)
    for _ in range(3):
        s3.list_buckets()
    iam.delete_access_key(AccessKeyId=key["AccessKeyId"])
    clock = SystemClock()
    ends, code = clock.monotonic() + 1, ""
    while not code and clock.monotonic() < ends:
        try:
            s3.list_buckets()
        except ClientError as error:
            code = error.response["Error"]["Code"]
    assert code == "InvalidAccessKeyId", "a deleted key is still good after a second"


def test_accounts_see_their_own_buckets(theirs: Any, s3: Any) -> None:
    theirs.create_bucket(Bucket="only-theirs")
    try:
        assert [one["Name"] for one in theirs.list_buckets()["Buckets"]] == ["only-theirs"]
        assert "only-theirs" not in [one["Name"] for one in s3.list_buckets()["Buckets"]]
        with refused("403", 403):
            s3.head_bucket(Bucket="only-theirs")
    finally:
        empty(theirs, "only-theirs")
