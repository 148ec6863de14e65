"""Signatures of S3: AWS's published examples, botocore's, and those that must not pass."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode
from hypothesis import given, settings
from hypothesis import strategies as st
from s3_house import ADA, KEY, SECRET, Keys

from mallee.aws.rest_xml import RestError
from mallee.aws.sigv4 import Arrived, signing_key
from mallee.aws.sigv4_s3 import UNSIGNED, Chain, S3Verifier
from mallee.kernel.clock import ManualClock

NOW = datetime(2013, 5, 24, tzinfo=UTC)
EMPTY = sha256(b"").hexdigest()
SCOPE = "20130524/us-east-1/s3/aws4_request"
HOST = "examplebucket.s3.amazonaws.com"


def verifier(*, keys=None, at=NOW, **more) -> S3Verifier:
    return S3Verifier(keys or Keys(), ManualClock(at), **more)


def published(method, target, headers, signed, signature, *, host=HOST) -> Arrived:
    """A request as the API reference prints it."""
    path, _, query = target.partition("?")
    given = {"host": host, "x-amz-date": "20130524T000000Z", **headers}
    given["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={KEY}/{SCOPE},SignedHeaders={signed},Signature={signature}"
    )
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    return Arrived(method, path.encode(), query.encode(), pairs)


PLAIN = "host;x-amz-content-sha256;x-amz-date"
CHUNKED = (
    "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
    "x-amz-storage-class"
)
PUBLISHED = {
    "a range of an object": published(
        "GET",
        "/test.txt",
        {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY},
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "an upload": published(
        "PUT",
        "/test$file.text",
        {
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": sha256(b"Welcome to Amazon S3.").hexdigest(),
        },
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "a configuration": published(
        "GET",
        "/?lifecycle",
        {"x-amz-content-sha256": EMPTY},
        PLAIN,
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "a listing": published(
        "GET",
        "/?max-keys=2&prefix=J",
        {"x-amz-content-sha256": EMPTY},
        PLAIN,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
    "chunks": published(
        "PUT",
        "/examplebucket/chunkObject.txt",
        {
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "content-length": "66824",
        },
        CHUNKED,
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        host="s3.amazonaws.com",
    ),
    "chunks with a trailer": published(
        "PUT",
        "/examplebucket/chunkObject.txt",
        {
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": "66560",
            "x-amz-trailer": "x-amz-checksum-crc32c",
        },
        CHUNKED.replace("content-length;host", "host") + ";x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        host="s3.amazonaws.com",
    ),
}


@pytest.mark.parametrize("request_", PUBLISHED.values(), ids=PUBLISHED)
async def test_the_published_examples_verify(request_) -> None:
    signed = await verifier().verify(request_)
    assert signed.principal == ADA
    assert (signed.how, signed.region) == ("header", "us-east-1")


async def test_the_published_presigned_example_verifies_for_a_day() -> None:
    query = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    made = Arrived("GET", b"/test.txt", query.encode(), [(b"host", HOST.encode())])
    signed = await verifier(at=NOW + timedelta(hours=24)).verify(made)
    assert (signed.how, signed.payload, signed.age) == ("query", UNSIGNED, 86400)
    with pytest.raises(RestError, match="AccessDenied: Request has expired"):
        await verifier(at=NOW + timedelta(hours=24, seconds=1)).verify(made)
    with pytest.raises(RestError, match="not valid yet"):
        await verifier(at=NOW - timedelta(minutes=16)).verify(made)


async def test_the_published_chunks_and_trailer_have_these_signatures() -> None:
    plain = (await verifier().verify(PUBLISHED["chunks"])).chain
    parts = [sha256(b"a" * size).hexdigest() for size in (65536, 1024, 0)]
    assert [plain.chunk(part) for part in parts] == [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    trailing = (await verifier().verify(PUBLISHED["chunks with a trailer"])).chain
    assert [trailing.chunk(part) for part in parts] == [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]
    assert (
        trailing.trailer(b"x-amz-checksum-crc32c:sOO8/Q==\n")
        == "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    )


# --- botocore's -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def at_noon(monkeypatch):
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: NOW.replace(tzinfo=None))


def arrived(made: AWSRequest) -> Arrived:
    prepared = made.prepare()
    parts = urlsplit(prepared.url)
    headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else str(value).encode())
        for name, value in prepared.headers.items()
    ]
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", parts.netloc.encode()))
    return Arrived(prepared.method, parts.path.encode(), parts.query.encode(), headers)


def signed(
    url="http://s3.test:8774/b/k",
    *,
    method="GET",
    token=None,
    secret=SECRET,
    key=KEY,
    service="s3",
    **headers,
):
    made = AWSRequest(method=method, url=url, data=b"" if method == "GET" else b"body")
    for name, value in headers.items():
        made.headers[name.replace("_", "-")] = value
    S3SigV4Auth(Credentials(key, secret, token), service, "us-east-1").add_auth(made)
    return arrived(made)


def presigned(url="http://s3.test:8774/b/k", *, method="GET", expires=3600, token=None, **headers):
    made = AWSRequest(method=method, url=url)
    for name, value in headers.items():
        made.headers[name.replace("_", "-")] = value
    S3SigV4QueryAuth(Credentials(KEY, SECRET, token), "s3", "us-east-1", expires).add_auth(made)
    return arrived(made)


PATHS = ["/b/k", "/b/a//b/../c/./d/", "/b/%C3%A4%20%2B%25", "/b/a~b_c-d.e", "/b/%2A%27%28%29%21%3D"]


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("path", PATHS)
async def test_what_botocore_signs_verifies(path, method) -> None:
    url = "http://s3.test:8774" + path
    assert (await verifier().verify(signed(url + "?a=b%20c&acl", method=method))).how == "header"
    assert (await verifier().verify(presigned(url + "?a=b%20c&acl", method=method))).how == "query"


@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40)
)
@settings(deadline=None, max_examples=60)
def test_any_key_that_botocore_signs_verifies(key) -> None:
    at_noon = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *_, **__: NOW.replace(tzinfo=None)
    try:
        made = signed("http://s3.test/b/" + percent_encode(key, safe="/~"))
    finally:
        botocore.auth.get_current_datetime = at_noon
    assert asyncio.run(verifier().verify(made)) is not None


async def test_an_anonymous_request_is_nobodys() -> None:
    assert await verifier().verify(Arrived("GET", b"/b/k", b"versionId=1", [(b"host", b"x")])) is None


async def test_a_temporary_key_needs_its_token() -> None:
    keys = Keys(token="t" * 300)
    assert await verifier(keys=keys).verify(signed(token="t" * 300))
    assert await verifier(keys=keys).verify(presigned(token="t" * 300))
    with pytest.raises(RestError, match="InvalidAccessKeyId"):
        await verifier(keys=keys).verify(signed())
    with pytest.raises(RestError, match="InvalidToken"):
        await verifier(keys=keys).verify(signed(token="u" * 300))
    with pytest.raises(RestError, match="InvalidToken"):
        await verifier().verify(signed(token="t" * 300))


# --- what must not pass -----------------------------------------------------------------------


def changed(made: Arrived, *, header=None, drop=None, **fields) -> Arrived:
    headers = [pair for pair in made.headers if pair[0] != drop]
    if header is not None:
        headers = [pair for pair in headers if pair[0] != header[0]] + [header]
    fresh = Arrived(made.method, made.path, made.query, headers)
    return dataclasses.replace(fresh, **fields) if fields else fresh


def authorization(made: Arrived, old: bytes, new: bytes) -> Arrived:
    return changed(made, header=(b"authorization", dict(made.headers)[b"authorization"].replace(old, new)))


FORGERIES = {
    "another path": (lambda m: changed(m, path=b"/b/l"), "SignatureDoesNotMatch"),
    "a normalised path": (lambda m: changed(m, path=b"/b/./k"), "SignatureDoesNotMatch"),
    "another method": (lambda m: changed(m, method="DELETE"), "SignatureDoesNotMatch"),
    "another query": (lambda m: changed(m, query=m.query + b"&acl="), "SignatureDoesNotMatch"),
    "another host": (lambda m: changed(m, header=(b"host", b"evil.test")), "SignatureDoesNotMatch"),
    "an unsigned header": (lambda m: changed(m, header=(b"x-amz-acl", b"public-read")), "AccessDenied"),
}
OF_HEADERS = {
    "another payload": (
        lambda m: changed(m, header=(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")),
        "SignatureDoesNotMatch",
    ),
    "no payload": (
        lambda m: changed(m, drop=b"x-amz-content-sha256"),
        "InvalidRequest: Missing required header",
    ),
    "a strange payload": (lambda m: changed(m, header=(b"x-amz-content-sha256", b"NONE")), "InvalidArgument"),
    "no date": (lambda m: changed(m, drop=b"x-amz-date"), "AccessDenied: AWS authentication requires"),
    "a bad date": (
        lambda m: changed(m, header=(b"x-amz-date", b"20139999T000000Z")),
        "AuthorizationHeaderMalformed",
    ),
    "another day": (
        lambda m: changed(m, header=(b"x-amz-date", b"20130523T235900Z")),
        "AuthorizationHeaderMalformed",
    ),
    "another signature": (
        lambda m: authorization(m, b"Signature=", b"Signature=0"),
        "AuthorizationHeaderMalformed",
    ),
    "a flipped signature": (
        lambda m: changed(m, header=(b"authorization", dict(m.headers)[b"authorization"][:-64] + b"0" * 64)),
        "SignatureDoesNotMatch",
    ),
    "another key": (lambda m: authorization(m, KEY.encode(), b"AKIAOTHER"), "InvalidAccessKeyId"),
    "another region": (lambda m: authorization(m, b"us-east-1", b"eu-west-1"), "SignatureDoesNotMatch"),
    "another service": (lambda m: authorization(m, b"/s3/", b"/ec2/"), "AuthorizationHeaderMalformed"),
    "another terminator": (lambda m: authorization(m, b"aws4_request", b"aws5_request"), "Malformed"),
    "an unsorted list": (
        lambda m: authorization(m, b"host;x-amz-content-sha256", b"x-amz-content-sha256;host"),
        "AuthorizationHeaderMalformed",
    ),
    "host unsigned": (
        lambda m: authorization(m, b"host;x-amz", b"x-amz"),
        "AccessDenied: There were headers",
    ),
    "version 2": (
        lambda m: changed(m, header=(b"authorization", b"AWS " + KEY.encode() + b":c2lnbmF0dXJl")),
        "InvalidRequest: The authorization mechanism",
    ),
    "both ways": (
        lambda m: changed(m, query=b"X-Amz-Algorithm=AWS4-HMAC-SHA256"),
        "InvalidArgument: Only one auth",
    ),
    "two headers": (
        lambda m: Arrived(
            m.method, m.path, m.query, [*m.headers, (b"authorization", b"AWS4-HMAC-SHA256 a=b")]
        ),
        "AuthorizationHeaderMalformed",
    ),
}
OF_QUERIES = {
    "for ever": (lambda m: changed(m, query=m.query.replace(b"Expires=3600", b"Expires=604801")), "Query"),
    "for never": (lambda m: changed(m, query=m.query.replace(b"Expires=3600", b"Expires=0")), "Query"),
    "for longer": (
        lambda m: changed(m, query=m.query.replace(b"Expires=3600", b"Expires=3601")),
        "SignatureDoesNotMatch",
    ),
    "for a word": (lambda m: changed(m, query=m.query.replace(b"Expires=3600", b"Expires=soon")), "Query"),
    "given twice": (lambda m: changed(m, query=m.query + b"&X-Amz-Expires=1"), "Query"),
    "version 2": (
        lambda m: changed(m, query=b"AWSAccessKeyId=" + KEY.encode() + b"&Expires=1&Signature=x%3D"),
        "InvalidRequest: The authorization mechanism",
    ),
    "half": (lambda m: changed(m, query=b"X-Amz-Algorithm=AWS4-HMAC-SHA256"), "Query|Missing"),
}


@pytest.mark.parametrize("make", [signed, presigned])
@pytest.mark.parametrize(("forge", "code"), FORGERIES.values(), ids=FORGERIES)
async def test_a_changed_request_is_refused(make, forge, code) -> None:
    made = make(url="http://s3.test:8774/b/k?b=c")
    assert await verifier().verify(made)
    with pytest.raises(RestError, match=code):
        await verifier().verify(forge(made))


@pytest.mark.parametrize(("forge", "code"), OF_HEADERS.values(), ids=OF_HEADERS)
async def test_a_forged_header_is_refused(forge, code) -> None:
    with pytest.raises(RestError, match=code) as caught:
        await verifier().verify(forge(signed()))
    assert 400 <= caught.value.status < 500


@pytest.mark.parametrize(("forge", "code"), OF_QUERIES.values(), ids=OF_QUERIES)
async def test_a_forged_query_is_refused(forge, code) -> None:
    with pytest.raises(RestError, match=code):
        await verifier().verify(forge(presigned()))


@pytest.mark.parametrize("minutes", [-16, 16])
async def test_a_clock_that_is_wrong_by_more_than_fifteen_minutes_is_refused(minutes) -> None:
    made = signed()
    assert await verifier(at=NOW + timedelta(minutes=minutes * 14 / 16)).verify(made)
    with pytest.raises(RestError, match="RequestTimeTooSkewed") as caught:
        await verifier(at=NOW + timedelta(minutes=minutes)).verify(made)
    assert caught.value.status == 403
    assert caught.value.details["MaxAllowedSkewMilliseconds"] == "900000"


async def test_a_key_that_is_not_active_is_nobodys() -> None:
    with pytest.raises(RestError, match="InvalidAccessKeyId"):
        await verifier(keys=Keys(active=False)).verify(signed())


async def test_a_region_of_another_cloud_is_named() -> None:
    with pytest.raises(RestError, match="AuthorizationHeaderMalformed") as caught:
        await verifier(regions=("mallee-1",)).verify(signed())
    assert caught.value.details["Region"] == "mallee-1"


async def test_chunks_cannot_be_presigned() -> None:
    made = presigned(method="PUT", x_amz_content_sha256="STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    with pytest.raises(RestError, match="InvalidRequest"):
        await verifier().verify(made)


async def test_no_refusal_tells_a_header_or_a_key() -> None:
    with pytest.raises(RestError) as caught:
        await verifier().verify(changed(signed(x_amz_secret="hush"), path=b"/x"))
    told = str(caught.value) + str(caught.value.details)
    assert "hush" not in told
    assert signing_key(SECRET, "20130524", "us-east-1", "s3").hex() not in told


def test_a_chain_that_is_shown_hides_its_key() -> None:
    assert "secret" not in repr(Chain(b"secret", "t", "s", "l"))
