"""Each family as boto3 asks and as bytes on the wire: who asks, in which form, what is never told."""

from __future__ import annotations

import base64
import http.client
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import urlencode, urlsplit

import msgspec
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from mallee.cli.state import Access
from tests.cloud.clouds import TestCloud

VERSIONS = {"ec2": "2016-11-15", "iam": "2010-05-08", "sts": "2011-06-15"}
QUESTIONS = {"ec2": "DescribeRegions", "iam": "ListUsers", "sts": "GetCallerIdentity"}
UNKNOWN_KEY = {"access_key_id": "AKIAUNKNOWNUNKNOWN00"}
WRONG_SECRET = {"secret_access_key": "wrong"}


class Answer(NamedTuple):
    status: int
    body: str
    header_id: str

    @property
    def code(self) -> str:
        found = re.search("<Code>([^<]*)</Code>", self.body)
        return found[1] if found else ""

    @property
    def body_id(self) -> str:
        found = re.search("<(?:requestId|RequestId|RequestID)>([^<]*)<", self.body)
        return found[1] if found else ""


def ask(
    access: Access,
    service: str,
    action: str = "",
    *,
    method: str = "POST",
    presigned: bool = False,
    skew: timedelta = timedelta(),
    token: str | None = None,
    headers: dict[str, str] | None = None,
    **parameters: str,
) -> Answer:
    """One request, signed as an SDK signs it at a clock that is off by `skew`."""
    named = {"Action": action or QUESTIONS[service], "Version": VERSIONS[service]}
    form = urlencode(named | parameters)
    sent = AWSRequest(method, f"{access.endpoint}/" + (f"?{form}" if method == "GET" else ""))
    if method == "POST":
        sent.data = form
        sent.headers["Content-Type"] = "application/x-www-form-urlencoded; charset=utf-8"
    for name, value in (headers or {}).items():
        sent.headers[name] = value
    keys = Credentials(access.access_key_id, access.secret_access_key, token)
    signer = SigV4QueryAuth(keys, service, access.region, expires=60) if presigned else SigV4Auth(keys, service, access.region)  # fmt: skip
    then = (datetime.now(UTC) + skew).replace(tzinfo=None)  # noqa: TID251 - the clock of a client
    with patch("botocore.auth.get_current_datetime", lambda *_, **__: then):
        signer.add_auth(sent)
    return _send(sent)


def _send(sent: AWSRequest) -> Answer:
    prepared = sent.prepare()
    where = urlsplit(prepared.url)
    link = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        link.request(prepared.method, f"{where.path}?{where.query}", prepared.body, dict(prepared.headers))
        answer = link.getresponse()
        return Answer(answer.status, answer.read().decode(), answer.headers["x-amzn-requestid"])
    finally:
        link.close()


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.fixture
def ada(cloud: TestCloud) -> Iterator[Access]:
    """A user's key."""
    iam = cloud.client("iam")
    iam.create_user(UserName="ada")
    key = iam.create_access_key(UserName="ada")["AccessKey"]
    yield msgspec.structs.replace(
        cloud.access, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"]
    )
    for left in iam.list_access_keys(UserName="ada")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="ada", AccessKeyId=left["AccessKeyId"])
    iam.delete_user(UserName="ada")


# --- who asks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("service", VERSIONS)
@pytest.mark.parametrize(
    ("method", "presigned"),
    [("POST", False), ("GET", False), ("GET", True)],
    ids=["POST", "GET", "presigned"],
)
def test_every_way_to_sign_is_good(cloud: TestCloud, service: str, method: str, presigned: bool) -> None:
    for off in (timedelta(), timedelta(minutes=4)):
        answer = ask(cloud.access, service, method=method, presigned=presigned, skew=off)
        assert answer.status == 200, answer.body
        assert answer.body_id == answer.header_id != ""


@pytest.mark.parametrize(
    ("service", "how", "status", "code"),
    [
        ("ec2", WRONG_SECRET, 401, "AuthFailure"),
        ("iam", WRONG_SECRET, 403, "SignatureDoesNotMatch"),
        ("sts", WRONG_SECRET, 403, "SignatureDoesNotMatch"),
        ("ec2", UNKNOWN_KEY, 401, "AuthFailure"),
        ("iam", UNKNOWN_KEY, 403, "InvalidClientTokenId"),
        ("sts", UNKNOWN_KEY, 403, "InvalidClientTokenId"),
    ],
)
def test_a_bad_signature(cloud: TestCloud, service: str, how: dict[str, str], status: int, code: str) -> None:
    answer = ask(msgspec.structs.replace(cloud.access, **how), service)

    assert (answer.status, answer.code) == (status, code)
    assert answer.body_id == answer.header_id != ""


@pytest.mark.parametrize("service", VERSIONS)
def test_a_clock_that_is_off(cloud: TestCloud, service: str) -> None:
    for minutes in (-6, 6):
        answer = ask(cloud.access, service, skew=timedelta(minutes=minutes))
        assert (answer.status, answer.code) == (400, "RequestExpired")
    old = ask(cloud.access, service, method="GET", presigned=True, skew=-timedelta(seconds=90))
    assert (old.status, old.code) == (400, "RequestExpired")


@pytest.mark.parametrize("service", VERSIONS)
def test_without_a_signature(cloud: TestCloud, service: str) -> None:
    form = urlencode({"Action": QUESTIONS[service], "Version": VERSIONS[service]})
    answer = _send(AWSRequest("GET", f"{cloud.access.endpoint}/?{form}"))

    assert (answer.status, answer.code) == (403, "MissingAuthenticationToken")
    assert ("<ErrorResponse" in answer.body) == (service != "ec2"), "in the words of the service asked"


def test_a_token_that_the_key_does_not_have(cloud: TestCloud) -> None:
    assert ask(cloud.access, "ec2", token="stolen").code == "AuthFailure"
    assert ask(cloud.access, "sts", token="stolen").code == "InvalidClientTokenId"


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("ec2", "describe_regions", {}),
        ("ec2", "describe_instances", {}),
        ("ec2", "describe_instances", {"DryRun": True}),
        ("ec2", "create_key_pair", {"KeyName": "ada's"}),
        ("ec2", "delete_security_group", {"GroupName": "default"}),
        ("ec2", "terminate_instances", {"InstanceIds": ["i-0123456789abcdef0"]}),
        ("iam", "list_users", {}),
        ("iam", "get_user", {}),
        ("iam", "create_access_key", {}),
        ("iam", "create_account", {"AccountName": "ada"}),
    ],
)
def test_a_user_may_nothing_until_a_policy_allows_it(
    cloud: TestCloud, ada: Access, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(cloud.client(service, ada), operation)(**parameters)
    assert code_of(refused) == (403, "UnauthorizedOperation" if service == "ec2" else "AccessDenied")
    assert f"User: arn:aws:iam::{ada.account_id}:user/ada is not authorized" in str(refused.value)


def test_a_user_may_ask_who_it_is_until_its_key_is_off(cloud: TestCloud, ada: Access) -> None:
    iam, sts = cloud.client("iam"), cloud.client("sts", ada)
    assert sts.get_caller_identity()["Arn"].endswith(":user/ada")
    key = {"UserName": "ada", "AccessKeyId": ada.access_key_id}
    for change, works in (("Inactive", False), ("Active", True), ("Inactive", False)):
        iam.update_access_key(**key, Status=change)
        assert (ask(ada, "sts").status == 200) is works
    assert ask(ada, "sts").code == "InvalidClientTokenId"
    assert ask(ada, "ec2").code == "AuthFailure"
    iam.update_access_key(**key, Status="Active")
    iam.delete_access_key(**key)
    assert ask(ada, "sts").code == "InvalidClientTokenId"


# --- in which form ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [("2006-06-26", 200, ""), ("2014-10-01", 200, ""), ("2016-11-16", 400, "NoSuchVersion"), ("x", 400, "NoSuchVersion")],
)  # fmt: skip
def test_versions(cloud: TestCloud, version: str, status: int, code: str) -> None:
    answer = ask(cloud.access, "ec2", Version=version)

    assert (answer.status, answer.code) == (status, code)
    if status == 200:
        assert f'xmlns="http://ec2.amazonaws.com/doc/{version}/"' in answer.body


@pytest.mark.parametrize(
    ("service", "action", "parameters", "code"),
    [
        ("ec2", "Nonsense", {}, "InvalidAction"),
        ("sts", "Nonsense", {}, "InvalidAction"),
        ("ec2", "DescribeVolumes", {}, "UnsupportedOperation"),
        ("ec2", "DescribeRegions", {"Colour": "red"}, "UnknownParameter"),
        ("ec2", "RegisterImage", {"Name": "abc", "BootMode": "uefi"}, "UnsupportedOperation"),
        ("ec2", "CreateKeyPair", {}, "MissingParameter"),
        ("ec2", "DescribeTags", {"MaxResults": "4"}, "InvalidParameterValue"),
        ("ec2", "DescribeTags", {"MaxResults": "1001"}, "InvalidParameterValue"),
        ("ec2", "DescribeTags", {"NextToken": "mine"}, "InvalidNextToken"),
        ("ec2", "DescribeTags", {"Filter.1.Name": "colour", "Filter.1.Value.1": "red"}, "InvalidParameterValue"),
        ("iam", "CreateUser", {}, "ValidationError"),
        ("iam", "ListUsers", {"MaxItems": "0"}, "ValidationError"),
        ("iam", "ListUsers", {"Marker": "mine"}, "ValidationError"),
        ("iam", "CreateUser", {"UserName": "a", "PermissionsBoundary": "arn"}, "UnsupportedOperation"),
    ],
)  # fmt: skip
def test_a_bad_form(
    cloud: TestCloud, service: str, action: str, parameters: dict[str, str], code: str
) -> None:
    answer = ask(cloud.access, service, action, **parameters)

    assert (answer.status, answer.code) == (400, code)
    assert answer.body_id == answer.header_id != ""


def test_a_list_may_begin_at_nought_and_have_gaps(cloud: TestCloud) -> None:
    first, *_, last = cloud.access.zones
    answer = ask(
        cloud.access, "ec2", "DescribeAvailabilityZones", **{"ZoneName.0": first, "ZoneName.7": last}
    )

    assert re.findall("<zoneName>([^<]*)<", answer.body) == [first, last]


def test_a_region_is_where_it_was_reached(cloud: TestCloud) -> None:
    (region,) = cloud.ec2.describe_regions(AllRegions=True)["Regions"]

    assert f"http://{region['Endpoint']}" == cloud.access.endpoint


def test_an_sdks_second_attempt_is_the_first_one(cloud: TestCloud) -> None:
    attempt = {"headers": {"amz-sdk-invocation-id": "4d3c2b1a-0000-4000-8000-000000000001"}}
    form = {"KeyName": "attempted", "KeyType": "ed25519"}

    first, second = (ask(cloud.access, "ec2", "CreateKeyPair", **form, **attempt) for _ in range(2))  # type: ignore[arg-type]

    assert first.status == second.status == 200
    assert first.body.replace(first.body_id, "") == second.body.replace(second.body_id, "")
    assert first.body_id != second.body_id, "each answer has an id of its own"
    assert ask(cloud.access, "ec2", "CreateKeyPair", **form).code == "InvalidKeyPair.Duplicate"
    cloud.ec2.delete_key_pair(KeyName="attempted")


# --- what is another's, and what is never told ------------------------------------------------


def test_another_accounts_things_are_as_if_they_were_not(cloud: TestCloud) -> None:
    group = cloud.ec2.create_security_group(GroupName="mine", Description="mine")["GroupId"]
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="images-of-families")
    s3.put_object(Bucket="images-of-families", Key="disk.raw", Body=bytes(1024))
    image = cloud.ec2.register_image(Name="mine", ImageLocation="images-of-families/disk.raw")["ImageId"]
    vpc = cloud.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    cloud.ec2.create_key_pair(KeyName="mine", KeyType="ed25519")
    stranger = cloud.client("ec2", cloud.account("stranger-of-families"))
    for operation, parameters, code in (
        ("describe_security_groups", {"GroupIds": [group]}, "InvalidGroup.NotFound"),
        ("delete_security_group", {"GroupId": group}, "InvalidGroup.NotFound"),
        ("describe_images", {"ImageIds": [image]}, "InvalidAMIID.NotFound"),
        ("deregister_image", {"ImageId": image}, "InvalidAMIID.NotFound"),
        ("describe_key_pairs", {"KeyNames": ["mine"]}, "InvalidKeyPair.NotFound"),
        ("describe_vpcs", {"VpcIds": [vpc]}, "InvalidVpcID.NotFound"),
        ("create_tags", {"Resources": [group], "Tags": [{"Key": "a"}]}, "InvalidGroup.NotFound"),
        ("delete_tags", {"Resources": [vpc]}, "InvalidVpcID.NotFound"),
    ):
        with pytest.raises(ClientError) as refused:
            getattr(stranger, operation)(**parameters)
        assert code_of(refused) == (400, code)
    stranger.delete_key_pair(KeyName="mine")  # is done, and does nothing
    assert cloud.ec2.describe_key_pairs(KeyNames=["mine"])["KeyPairs"]
    cloud.ec2.delete_key_pair(KeyName="mine")
    cloud.ec2.deregister_image(ImageId=image)
    cloud.ec2.delete_security_group(GroupId=group)


def test_no_secret_is_kept_where_it_can_be_read(cloud: TestCloud, ada: Access) -> None:
    """Neither a log nor a database has them; the first key alone is kept, for the one who owns the folder."""
    private = cloud.ec2.create_key_pair(KeyName="secret")["KeyMaterial"]
    cloud.ec2.delete_key_pair(KeyName="secret")
    ask(ada, "ec2", method="GET", presigned=True)
    told = {private.splitlines()[3].encode(), ada.secret_access_key.encode()}
    told |= {base64.b64encode(ada.secret_access_key.encode()).rstrip(b"=")[:-1]}

    files = [path for path in cloud.folder.root.rglob("*") if path.is_file()]

    assert any(path.suffix == ".db" for path in files)
    assert any(b"CreateKeyPair" in path.read_bytes() for path in files if path.suffix == ".log")
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in told), path
        if cloud.access.secret_access_key.encode() in content:
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.name in {"access.json", "first-key.json"}
