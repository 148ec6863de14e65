"""Uploads by a browser's form: the policy holds, the file streams, the answer is what was asked for."""

import hmac
import json
import os
from base64 import b64encode
from hashlib import md5

import boto3
import pytest
from botocore.config import Config
from s3_house import KEY, SECRET, House
from s3_requests import crc32c, raw, say

from mallee.aws.sigv4 import signing_key
from mallee.kernel.clock import SystemClock

EDGE = "----edge"


@pytest.fixture
async def house():
    async with House().open() as opened:
        yield opened


def form(fields, file=b"content", *, filename="a.txt", after=(), end=b"--\r\n"):
    """The body of a form; a file of None is left out."""
    parts = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode()
        for n, v in fields.items()
    ]
    for one in (file,) if not isinstance(file, list) else file:
        if one is not None:
            head = f'--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
            parts.append(head.encode() + one + b"\r\n")
    parts += [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in after
    ]
    return b"".join(parts) + f"--{EDGE}".encode() + end


async def post(house, body, *, target="/bucket", **headers):
    given = {
        "Host": house.url[7:],
        "Content-Type": f"multipart/form-data; boundary={EDGE}",
        "Content-Length": str(len(body)),
        **headers,
    }
    return await say(house, raw("POST", target, given, body))


def signed(conditions, fields, *, expiration="2099-01-01T00:00:00Z", secret=SECRET, policy=None):
    """The fields with a policy and its signature."""
    now = SystemClock().now()
    date = f"{now:%Y%m%d}"
    credential = f"{KEY}/{date}/mallee-1/s3/aws4_request"
    signing = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": credential,
        "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
    }
    document = {"expiration": expiration, "conditions": [*conditions, *({n: v} for n, v in signing.items())]}
    text = json.dumps(document) if policy is None else policy
    encoded = b64encode(text.encode()).decode()
    key = signing_key(secret, date, "mallee-1", "s3")
    return (
        fields
        | signing
        | {"policy": encoded, "x-amz-signature": hmac.digest(key, encoded.encode(), "sha256").hex()}
    )


ALLOWED = [{"bucket": "bucket"}, ["starts-with", "$key", "up/"], ["content-length-range", 2, 1_000_000]]


@pytest.mark.parametrize("size", [2, 5000, 900_000])
async def test_what_boto3_presigns_is_taken(house, size) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=house.url,
        region_name="mallee-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    made = s3.generate_presigned_post(
        "bucket",
        "up/${filename}",
        Fields={"x-amz-meta-colour": "red", "Content-Type": "text/plain"},
        Conditions=[{"x-amz-meta-colour": "red"}, ["starts-with", "$Content-Type", "text/"]],
    )
    body = os.urandom(size)
    answer = await post(house, form(made["fields"], body, filename="C:\\x\\photo.png"))
    assert answer.status == 204, answer
    thing = house.store["bucket", "up/photo.png"]
    assert thing.body == body
    assert thing.fields["Metadata"] == {"colour": "red"}
    assert thing.fields["ContentType"] == "text/plain"
    assert answer.headers["etag"] == f'"{md5(body).hexdigest()}"'
    assert answer.headers["location"] == f"{house.url}/bucket/up/photo.png"
    assert house.policy.asked[-1][0].principal.access_key_id == KEY
    assert house.policy.asked[-1][0].signed == "form"


async def test_an_anonymous_form_is_asked_for_leave(house) -> None:
    assert (await post(house, form({"key": "k"}))).status == 204
    house.policy.anonymous = False
    answer = await post(house, form({"key": "l"}))
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert list(house.store) == [("bucket", "k")]


@pytest.mark.parametrize(("wanted", "status"), [("200", 200), ("201", 201), ("204", 204), ("500", 204)])
async def test_the_form_says_how_it_is_answered(house, wanted, status) -> None:
    answer = await post(house, form({"key": "a&b", "success_action_status": wanted}))
    assert answer.status == status
    assert (b"<Key>a&amp;b</Key>" in answer.body) == (status == 201)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://a.example/x?y=z", 303),
        ("javascript:alert(1)", 204),
        ("https://a\r\nb/", 204),
        ("//a.example", 204),
    ],
)
async def test_the_browser_is_sent_on(house, url, status) -> None:
    answer = await post(house, form({"key": "a b", "success_action_redirect": url}))
    assert answer.status == status
    if status == 303:
        assert answer.headers["location"].startswith("https://a.example/x?y=z&bucket=bucket&key=a+b&etag=%22")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"key": "other/k"}, "AccessDenied", "Policy Condition failed"),
        ({"key": "up/k", "acl": "public-read"}, "AccessDenied", "Extra input fields: acl"),
        ({"key": "up/k", "x-amz-meta-a": "b"}, "AccessDenied", "Extra input fields: x-amz-meta-a"),
        ({}, "InvalidArgument", "named 'key'"),
        ({"key": "up/" + "k" * 1022}, "KeyTooLongError", ""),
        ({"key": "up/\0"}, "InvalidURI", ""),
        ({"key": "up/k", "AWSAccessKeyId": KEY, "signature": "x"}, "InvalidRequest", "not supported"),
    ],
)
async def test_what_the_policy_does_not_allow_is_refused(house, fields, code, words) -> None:
    answer = await post(house, form(signed(ALLOWED, fields)))
    assert answer.code == code, answer
    assert words in answer.body.decode()
    assert not house.store


async def test_free_fields_and_fields_after_the_file_do_not_count(house) -> None:
    body = form(signed(ALLOWED, {"key": "up/k", "x-ignore-a": "1"}), after=[("acl", "public-read")])
    assert (await post(house, body)).status == 204
    assert "ACL" not in house.store["bucket", "up/k"].fields


@pytest.mark.parametrize(("size", "code"), [(1, "EntityTooSmall"), (1_000_001, "EntityTooLarge")])
async def test_a_file_outside_the_range_is_refused(house, size, code) -> None:
    answer = await post(house, form(signed(ALLOWED, {"key": "up/k"}), b"x" * size))
    assert (answer.status, answer.code) == (400, code)
    assert not house.store


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"expiration": "2001-01-01T00:00:00Z"}, "AccessDenied"),
        ({"expiration": "soon"}, "InvalidPolicyDocument"),
        ({"secret": "wrong"}, "SignatureDoesNotMatch"),
        ({"policy": "{"}, "InvalidPolicyDocument"),
        ({"policy": "[]"}, "InvalidPolicyDocument"),
        ({"policy": '{"conditions": []}'}, "InvalidPolicyDocument"),
        ({"policy": '{"expiration": "2099-01-01T00:00:00Z"}'}, "InvalidPolicyDocument"),
        (
            {"policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [], "more": 1}'},
            "InvalidPolicyDocument",
        ),
        (
            {"policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [["like", "$key", "k"]]}'},
            "InvalidPolicyDocument",
        ),
        (
            {"policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [["eq", "key", "k"]]}'},
            "InvalidPolicyDocument",
        ),
        (
            {"policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [["eq", "$key"]]}'},
            "InvalidPolicyDocument",
        ),
        (
            {"policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [{"key": 1}, 7]}'},
            "InvalidPolicyDocument",
        ),
        (
            {
                "policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [["content-length-range", 5, 1]]}'
            },
            "InvalidPolicyDocument",
        ),
        (
            {
                "policy": '{"expiration": "2099-01-01T00:00:00Z", "conditions": [["content-length-range", "a", 1]]}'
            },
            "InvalidPolicyDocument",
        ),
    ],
)
async def test_a_policy_that_is_none_is_refused(house, change, code) -> None:
    answer = await post(house, form(signed(ALLOWED, {"key": "up/k"}, **change)))
    assert answer.code == code, answer
    assert not house.store


@pytest.mark.parametrize(
    "name", ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "policy"]
)
async def test_half_a_signature_is_refused(house, name) -> None:
    fields = signed(ALLOWED, {"key": "up/k"})
    del fields[name]
    answer = await post(house, form(fields))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert not house.store


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form({"key": "k"}, None), "IncorrectNumberOfFilesInPostRequest"),
        (form({"key": "k"}, [b"one", b"two"]), "IncorrectNumberOfFilesInPostRequest"),
        (form({"key": "k", "x-amz-meta-a": "b" * 30_000}), "MaxPostPreDataLengthExceededError"),
        (form({f"x-ignore-{n}": "" for n in range(300)} | {"key": "k"}), "MaxPostPreDataLengthExceededError"),
        (form({"key": "k"}, end=b""), "MalformedPOSTRequest"),
        (b"no form at all", "MalformedPOSTRequest"),
        (b"", "IncorrectNumberOfFilesInPostRequest"),
        (form({"key": "k"})[:-12], "MalformedPOSTRequest"),
        (
            form({"key": "k"}).replace(b"Content-Disposition", b"Content\x00Disposition"),
            "MalformedPOSTRequest",
        ),
        (form({"key": "k\xff"}).replace("\xff".encode(), b"\xff"), "InvalidArgument"),
    ],
    ids=[
        "no file",
        "two",
        "a long field",
        "many fields",
        "no end",
        "no form",
        "nothing",
        "half",
        "header",
        "bytes",
    ],
)
async def test_what_is_no_form_is_refused(house, body, code) -> None:
    answer = await post(house, body)
    assert (answer.status, answer.code) == (400, code), answer
    assert not house.store


async def test_a_key_is_not_empty(house) -> None:
    assert (await post(house, form({"key": ""}))).code == "InvalidArgument"


async def test_a_form_needs_a_boundary_and_no_other_signature(house) -> None:
    answer = await post(house, form({"key": "k"}), **{"Content-Type": "multipart/form-data"})
    assert answer.code == "MalformedPOSTRequest"
    answer = await post(house, form({"key": "k"}), Authorization="AWS4-HMAC-SHA256 x")
    assert answer.code == "InvalidArgument"


async def test_a_checksum_in_a_field_is_verified(house) -> None:
    good = {"key": "k", "x-amz-checksum-crc32c": crc32c(b"content")}
    assert (await post(house, form(good))).status == 204
    bad = {"key": "l", "x-amz-checksum-crc32c": crc32c(b"other")}
    assert (await post(house, form(bad))).code == "BadDigest"
    assert list(house.store) == [("bucket", "k")]


async def test_tags_of_a_form_are_xml(house) -> None:
    tags = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>"
    assert (await post(house, form({"key": "k", "tagging": tags}))).status == 204
    assert house.store["bucket", "k"].fields["Tagging"] == "a+b=1%262"
    bomb = '<!DOCTYPE t [<!ENTITY a "a">]><Tagging>&a;</Tagging>'
    assert (await post(house, form({"key": "l", "tagging": bomb}))).code == "MalformedXML"
