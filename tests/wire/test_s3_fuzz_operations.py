"""Every operation of the object store, asked with whatever its model allows: typed errors, never a bug of ours.

The requests are written by botocore's own serializer and signed; behind the front are the real handlers, the real
access check and a real store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import botocore.session
import msgspec
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import Shape
from botocore.serialize import create_serializer

from mallee.aws import model
from mallee.aws.context import Principal
from mallee.aws.rest_xml import RestXml
from mallee.aws.sigv4 import signing_key
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SeededEntropy
from mallee.walrus.access.gate import Gate
from mallee.walrus.access.public import OFF
from mallee.walrus.api import operations
from mallee.walrus.front.pipeline import S3Front
from mallee.walrus.identity import Account, SigningKey, canonical_id
from mallee.walrus.store import NewObject, Store
from tests.unit.walrus.a_store import a_store, etag_of, put
from tests.wire.model_values import chance, scalar

ME, OTHER = "111111111111", "222222222222"
SECRET, REGION = "secret", "mallee-1"
THEIRS = botocore.session.get_session().get_service_model("s3")
TABLE, WIRE = operations(), RestXml(model.load("s3"))
TEXTS = (
    *(
        "",
        "a",
        "ä/日本",
        "a b+c%",
        "x" * 3000,
        "\n",
        "0",
        "-1",
        "99999999999999999999",
        "null",
        "*",
        '"',
        "<&>",
    ),
    *(
        "id=" + canonical_id(OTHER),
        'uri="http://acs.amazonaws.com/groups/global/AllUsers"',
        "id=,,",
        "private",
    ),
    *(
        "b/k",
        "/b/k?versionId=null",
        "b/k?versionId=zz",
        "none/k",
        "%ff/k",
        "bytes=0-4",
        "bytes=9-",
        "a=1&b=2",
        "a&a",
    ),
    *("1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "AES256", "aws:kms", "COPY", "REPLACE", "url"),
    *(
        "YWJj",
        "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",
        canonical_id(ME),
        "STANDARD",
        "REDUCED_REDUNDANCY",
    ),
    '{"Version":"2012-10-17","Statement":[]}',
    '{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:Get*","Resource":"arn:aws:s3:::b/secret/*"}}',
)
_OPEN = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
TRIES = 60
# Where nothing is ever done, nothing is tried: these must succeed now and then.
EASY = {
    "CreateBucket",
    "DeleteObject",
    "GetObject",
    "HeadObject",
    "ListObjectsV2",
    "ListObjectVersions",
    "PutObject",
}


class Known:
    """What the cloud controller knows."""

    region = REGION

    async def find(self, _: str, date: str, region: str) -> SigningKey:
        who = Principal(ME, f"arn:aws:iam::{ME}:root", ME, "AKIA", is_root=True)
        return SigningKey(signing_key(SECRET, date, region, "s3"), who)

    async def account(self, name: str) -> Account | None:
        return next((one for one in map(_account, (ME, OTHER)) if name in one), None)

    async def shown(self, account_id: str) -> Account:
        return _account(account_id)


def _account(account_id: str) -> Account:
    return Account(account_id, "name", canonical_id(account_id))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store", clock=SystemClock()) as opened:
        yield opened


@pytest.fixture
async def front(store: Store) -> AsyncIterator[S3Front]:
    identity, entropy = Known(), SeededEntropy(3)
    made = S3Front(
        TABLE,
        wire=WIRE,
        keys=identity,
        access=Gate(),
        clock=SystemClock(),
        entropy=entropy,
        store=store,
        identity=identity,
        access_log=False,
    )
    yield made
    made.close()


async def furnished(store: Store) -> list[str]:
    """Buckets as bare and as full as they can be; ids of open uploads."""
    await store.create_bucket("b", ME, REGION)
    await store.create_bucket("versions", ME, REGION)
    await store.set_versioning("versions", "Enabled")
    await store.create_bucket("locks", ME, REGION, object_lock=True)
    rule = {"ID": "x", "Status": "Enabled", "Prefix": "old/", "Expiration": {"Days": 1}}
    for name, document in {
        "public-access-block": OFF,
        "cors": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
        "encryption": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
        "tagging": {"team": "one"},
        "lifecycle": {"Rules": [rule]},
        "policy": {"Statement": [_OPEN]},
    }.items():
        await store.set_config("b", name, msgspec.json.encode(document))
    await store.set_config("b", "ownership", b"ObjectWriter")
    await store.set_config("locks", "ownership", b"BucketOwnerEnforced")
    uploads = []
    for bucket in ("b", "versions", "locks"):
        for body in (b"0123456789", b"x" * 30_000):
            await put(store, "k", body, bucket=bucket, new=NewObject(owner=ME, etag=etag_of(body)))
        begun = await store.begin_upload(bucket, "k", NewObject(owner=ME), initiator="me")
        uploads.append(begun.upload_id)
    await store.delete("versions", "gone", owner=ME)
    return uploads


def sample(shape: Shape, dice: SeededEntropy, above: tuple[str, ...] = (), keep: float = 0.5) -> Any:
    """A value of the shape, often a likely one; each optional member with the probability `keep`."""
    if shape.type_name == "structure":
        names = [
            name for name in shape.members if name in shape.required_members or dice.uniform(0, 1) < keep
        ]
        inside = (*above, shape.name)
        return {name: sample(shape.members[name], dice, inside) for name in names if shape.name not in above}
    if shape.type_name == "list":
        return [sample(shape.member, dice, above) for _ in range(int(dice.uniform(0, 4)))]
    if shape.type_name == "map":
        return {"one": "1", "two": TEXTS[int(dice.uniform(0, len(TEXTS)))].strip() or "x"}
    if shape.type_name == "string":
        known = getattr(shape, "enum", None)
        words = known if known and dice.uniform(0, 1) < 0.8 else TEXTS
        return words[int(dice.uniform(0, len(words)))]
    if shape.type_name in {"integer", "long"} and dice.uniform(0, 1) < 0.7:
        return int(dice.uniform(-1, 4))
    return scalar(shape.type_name, dice)


def parameters(operation: str, dice: SeededEntropy, uploads: list[str]) -> dict[str, Any]:
    """For what the operation takes; what it refuses is refused by the reader, and tried elsewhere."""
    shape = THEIRS.operation_model(operation).input_shape
    taken = TABLE.operations[operation].accepts
    made = sample(shape, dice, keep=dice.uniform(0, 0.5))
    made = {name: value for name, value in made.items() if any(one.split(".")[0] == name for one in taken)}
    likely = {
        "Bucket": ("b", "versions", "locks", "none", "New-Bucket", "new-bucket"),
        "Key": ("k", "k", "k", "gone", "none", "a/ä b"),
        "UploadId": (*uploads, "forged", ""),
        "VersionId": ("null", "null", "forged", ""),
        "ExpectedBucketOwner": (ME, ME, OTHER),
        "CopySource": ("b/k", "versions/k?versionId=null", "b/k?versionId=x", "none/k", "b"),
    }
    for name, values in likely.items():
        if name in shape.members and (name in made or name in shape.required_members):
            made[name] = values[int(dice.uniform(0, len(values)))]
    if "Body" in shape.members:
        made["Body"] = dice.token(int(dice.uniform(0, 5000)))
    return made


def scope_of(operation: str, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The request as a server gets it, well signed."""
    serializer = create_serializer("rest-xml", include_validation=False)
    sent = serializer.serialize_to_request(asked, THEIRS.operation_model(operation))
    body = sent["body"] or b""
    body = body.encode() if isinstance(body, str) else body
    path, _, more = sent["url_path"].partition("?")
    query = "&".join(filter(None, [more, urlencode(sent["query_string"], quote_via=quote)]))
    headers = {
        name: _clean(value) for name, value in sent["headers"].items() if name.lower() != "content-length"
    }
    headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    request = AWSRequest(sent["method"], f"http://h{path}{'?' + query if query else ''}", headers, body)
    S3SigV4Auth(Credentials("AKIA", SECRET), "s3", REGION).add_auth(request)
    pairs = [(b"host", b"h"), (b"content-length", str(len(body)).encode())]
    pairs += [
        (name.lower().encode(), _text(value).encode("latin-1", "replace"))
        for name, value in request.headers.items()
    ]
    return {
        "type": "http",
        "method": sent["method"],
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": pairs,
        "client": ("127.0.0.1", 1),
        "scheme": "http",
    }, body


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _clean(value: Any) -> str:
    """As a header can carry it; a client's library refuses the rest."""
    return re.sub(r"[^\x20-\x7e]", "?", _text(value)).strip()


async def ask(front: S3Front, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await front(scope, receive, send)
    return said[0]["status"], b"".join(bytes(message.get("body", b"")) for message in said[1:])


@pytest.mark.parametrize("operation", sorted(TABLE.operations))
async def test_no_request_is_a_bug_of_ours(front: S3Front, store: Store, operation: str) -> None:
    uploads = await furnished(store)
    dice = chance(operation)
    seen = set()
    for _ in range(TRIES):
        asked = parameters(operation, dice, uploads)
        scope, body = scope_of(operation, asked)
        status, answer = await ask(front, scope, body)
        seen.add(status)
        assert status != 500, (asked, answer)
        assert status != 501 or b"NotImplemented" in answer
        if status < 300:  # the world is as it was for the next one
            await _mended(store)
    assert operation not in EASY or any(status < 300 for status in seen), f"all in vain: {seen}"


async def _mended(store: Store) -> None:
    """What a request may have taken away or closed."""
    there = {bucket.name: bucket for bucket in await store.list_buckets(ME)}
    if "b" not in there:
        await store.create_bucket("b", ME, REGION)
    for name in ("b", "versions", "locks"):
        home = await store.head_bucket(name)
        if b"Deny" in home.config.get("policy", b""):
            await store.set_config(name, "policy", None)
    for name in there:
        if name not in {"b", "versions", "locks"} and not (await store.list_versions(name)).entries:
            await store.delete_bucket(name)


# On the wire these are requests of operations that are built: the deprecated spelling of one, and S3 Express's ListBuckets.
ALIASES = {"GetBucketLifecycle", "PutBucketLifecycle", "PutBucketNotification", "ListDirectoryBuckets"}


@pytest.mark.parametrize("operation", sorted(set(model.load("s3").operations) - set(TABLE.operations)))
async def test_what_is_not_built_says_so(front: S3Front, store: Store, operation: str) -> None:
    await furnished(store)
    dice = chance(operation)
    shape = THEIRS.operation_model(operation).input_shape
    asked = {name: sample(shape.members[name], dice, keep=0) for name in shape.required_members}
    asked |= {name: value for name, value in {"Bucket": "b", "Key": "k"}.items() if name in asked}
    asked |= {name: f"some-{name}" for name, value in asked.items() if value == ""}
    status, answer = await ask(front, *scope_of(operation, asked))
    if operation == "WriteGetObjectResponse":  # no operation on a bucket; it has a host of its own
        assert (status, b"<Code>MethodNotAllowed</Code>" in answer) == (405, True), answer
    elif operation not in ALIASES:
        assert (status, b"<Code>NotImplemented</Code>" in answer) == (501, True), answer
    assert status != 500, answer
