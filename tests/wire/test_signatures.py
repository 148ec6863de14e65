"""Signatures made by AWS's own vectors and by botocore, and a hundred that must not pass."""

import dataclasses
from base64 import b64encode
from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import urlencode, urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV2Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore_source import source
from hypothesis import given, settings
from hypothesis import strategies as st

from mallee.aws import canonical, sigv2
from mallee.aws.context import Principal
from mallee.aws.errors import AwsError
from mallee.aws.sigv4 import Arrived, Key, Verifier, signing_key
from mallee.kernel.clock import ManualClock

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ADA = Principal("000000000001", "arn:aws:iam::000000000001:user/ada", "AIDA1", "AKIDEXAMPLE")


class Keys:
    """A key store in a dict that counts its questions."""

    def __init__(self, **keys: Key) -> None:
        self.keys = {"AKIDEXAMPLE": Key(SECRET, ADA), **keys}
        self.asked: Counter[str] = Counter()

    async def find(self, access_key_id: str) -> Key | None:
        self.asked[access_key_id] += 1
        return self.keys.get(access_key_id)


@pytest.fixture
def at_noon(monkeypatch):
    """botocore signs at NOW."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: NOW.replace(tzinfo=None))


def verifier(keys: Keys | None = None, clock: ManualClock | None = None, **more) -> Verifier:
    return Verifier(keys or Keys(), clock or ManualClock(NOW), **more)


def arrived(request: AWSRequest) -> Arrived:
    """A prepared botocore request as it would come in."""
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else str(value).encode())
        for name, value in prepared.headers.items()
    ]
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", parts.netloc.encode()))
    body = prepared.body or b""
    body = body.encode() if isinstance(body, str) else body
    return Arrived(prepared.method, parts.path.encode(), parts.query.encode(), headers, body)


def signed(
    *, service="ec2", region="mallee-1", key="AKIDEXAMPLE", secret=SECRET, token=None, **request
) -> Arrived:
    """A POST, signed by header."""
    made = AWSRequest(
        **{"method": "POST", "url": "http://localhost:8773/", "data": "Action=X&Version=1"} | request
    )
    made.headers["Content-Type"] = "application/x-www-form-urlencoded"
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(made)
    return arrived(made)


def presigned(
    *, expires=3600, service="ec2", token=None, url="http://localhost:8773/?Action=X&b=2&a=%20+", method="GET"
):
    made = AWSRequest(method=method, url=url)
    SigV4QueryAuth(Credentials("AKIDEXAMPLE", SECRET, token), service, "mallee-1", expires).add_auth(made)
    return arrived(made)


# --- AWS's vectors ----------------------------------------------------------------------------


def vector(path) -> Arrived:
    head, _, body = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, target = first.removesuffix(b" HTTP/1.1").split(b" ", 1)
    raw, _, query = target.partition(b"?")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line.startswith(b" "):
            name, value = headers.pop()
            headers.append((name, value + b" " + line.strip()))
        else:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value))
    headers = [h for h in headers if h[0] != b"authorization"]  # one .sreq has a placeholder there
    headers.append((b"authorization", path.with_suffix(".authz").read_bytes()))
    return Arrived(method.decode(), raw, query, headers, body)


async def test_every_vector_of_the_suite() -> None:
    tried = 0
    for path in sorted((source() / "auth" / "aws4_testsuite").rglob("*.sreq")):
        request = vector(path)
        token = dict(request.headers).get(b"x-amz-security-token", b"").decode() or None
        keys = Keys(AKIDEXAMPLE=Key(SECRET, ADA, session_token=token))
        if path.stem == "post-sts-header-after":  # the suite leaves a token unsigned; here it must not be
            with pytest.raises(AwsError, match="x-amz-security-token"):
                await verifier(keys).verify(request)
            continue
        assert (await verifier(keys).verify(request)).principal == ADA, path.stem
        tried += 1
    assert tried >= 30


def test_the_derived_key_of_the_documentation() -> None:
    derived = signing_key(SECRET, "20120215", "us-east-1", "iam")
    assert derived.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


# --- what clients send ------------------------------------------------------------------------


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("service", ["ec2", "iam", "sts"])
async def test_a_client_signs_by_header(service) -> None:
    check = verifier()
    for _ in range(2):  # the second time by the cached key
        got = await check.verify(signed(service=service))
        assert (got.principal, got.region, got.service) == (ADA, "mallee-1", service)


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_signs_a_query(method) -> None:
    assert (await verifier().verify(presigned(method=method))).principal == ADA


@pytest.mark.usefixtures("at_noon")
async def test_get_with_a_query_signed_by_header() -> None:
    request = signed(method="GET", url="http://localhost/?b=2&a=&a=%C3%A4&Filter.1.Value.1=%2A", data="")
    assert (await verifier().verify(request)).principal == ADA


@pytest.mark.usefixtures("at_noon")
async def test_a_temporary_key_needs_its_token() -> None:
    keys = Keys(AKIDEXAMPLE=Key(SECRET, ADA, session_token="a+token/="))
    check = verifier(keys)
    assert (await check.verify(signed(token="a+token/="))).principal == ADA
    assert (await check.verify(presigned(token="a+token/="))).principal == ADA
    for wrong in (signed(), signed(token="other"), presigned(), presigned(token="other")):
        assert await refused(check, wrong) == "AuthFailure"
    assert await refused(verifier(), signed(token="a+token/=")) == "AuthFailure"


@pytest.mark.usefixtures("at_noon")
async def test_a_new_secret_ends_the_cached_key() -> None:
    keys = Keys()
    check = verifier(keys)
    await check.verify(signed())
    keys.keys["AKIDEXAMPLE"] = Key("new", ADA, version=2)
    assert await refused(check, signed()) == "AuthFailure"
    assert (await check.verify(signed(secret="new"))).principal == ADA


@pytest.mark.usefixtures("at_noon")
async def test_the_cache_of_keys_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr("mallee.aws.sigv4._CACHED_KEYS", 3)
    check = verifier()
    for n in range(9):
        await check.verify(signed(region=f"r-{n}"))
        await refused(check, signed(region=f"wrong-{n}", secret="guess"))
    assert [name[3] for name in check._derived] == ["r-6", "r-7", "r-8"]


@pytest.mark.usefixtures("at_noon")
async def test_regions_can_be_listed() -> None:
    assert (await verifier(regions={"mallee-1"}).verify(signed())).region == "mallee-1"
    assert await refused(verifier(regions={"mallee-1"}), signed(region="other")) == "AuthFailure"


# --- time -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize(
    ("seconds", "code"), [(300, ""), (301, "RequestExpired"), (-300, ""), (-301, "RequestExpired")]
)
async def test_the_window_is_five_minutes(seconds, code) -> None:
    clock = ManualClock(NOW + timedelta(seconds=seconds))
    assert await refused(verifier(clock=clock), signed()) == code


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize(
    ("seconds", "code"), [(3600, ""), (3601, "RequestExpired"), (-300, ""), (-301, "RequestExpired")]
)
async def test_a_presigned_request_ends(seconds, code) -> None:
    clock = ManualClock(NOW + timedelta(seconds=seconds))
    assert await refused(verifier(clock=clock), presigned()) == code


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize(
    ("expires", "code"),
    [(1, ""), (604_800, ""), (604_801, "IncompleteSignature"), (0, "IncompleteSignature")],
)
async def test_how_long_a_presigned_request_may_live(expires, code) -> None:
    assert await refused(verifier(), presigned(expires=expires)) == code


# --- a hundred that must not pass -------------------------------------------------------------


async def refused(check, request) -> str:
    """The code of the refusal, or nothing."""
    try:
        await check.verify(request)
    except AwsError as error:
        return error.code if 400 <= error.status < 500 else f"{error.status} {error.code}"
    return ""


def header(name: bytes, change):
    """A variant with one header changed by a function, or left out."""

    def vary(request: Arrived) -> Arrived:
        kept = [(n, v) for n, v in request.headers if n != name]
        old = dict(request.headers).get(name, b"")
        new = change(old)
        return dataclasses.replace(request, headers=kept + ([(name, new)] if new is not None else []))

    return vary


def more(*headers):
    return lambda request: dataclasses.replace(request, headers=[*request.headers, *headers])


def swap(old: bytes, new: bytes):
    """A change of the Authorization header."""
    return header(b"authorization", lambda value: value.replace(old, new))


def replaced(**fields):
    return lambda request: dataclasses.replace(request, **fields)


def flip(position: int):
    """One digit of the signature changed."""

    def change(value: bytes) -> bytes:
        at = len(value) - 64 + position
        return value[:at] + (b"0" if value[at : at + 1] != b"0" else b"1") + value[at + 1 :]

    return header(b"authorization", change)


BY_HEADER = {
    **{f"digit {n} of the signature": flip(n) for n in range(0, 64, 2)},
    "no authorization": header(b"authorization", lambda _: None),
    "empty authorization": header(b"authorization", lambda _: b""),
    "basic authorization": header(b"authorization", lambda _: b"Basic YTpi"),
    "only the algorithm": header(b"authorization", lambda _: b"AWS4-HMAC-SHA256"),
    "s3's version 2": header(b"authorization", lambda _: b"AWS AKIDEXAMPLE:AAAA"),
    "binary authorization": header(b"authorization", lambda _: bytes(range(128, 256))),
    "authorization twice": lambda r: dataclasses.replace(r, headers=r.headers + [h for h in r.headers if h[0] == b"authorization"]),
    "other algorithm": swap(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA1"),
    "asymmetric algorithm": swap(b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256"),
    "no credential": swap(b"Credential=", b"X="),
    "no signed headers": swap(b"SignedHeaders=", b"X="),
    "no signature": swap(b"Signature=", b"X="),
    "signature twice": header(b"authorization", lambda v: v + b", Signature=" + b"0" * 64),
    "credential twice": header(b"authorization", lambda v: v + b", Credential=AKIDEXAMPLE/20150830/mallee-1/ec2/aws4_request"),
    "short signature": header(b"authorization", lambda v: v[:-1]),
    "long signature": header(b"authorization", lambda v: v + b"0"),
    "upper-case signature": header(b"authorization", lambda v: v[:-64] + v[-64:].upper()),
    "signature of nothing": header(b"authorization", lambda v: v[:-64] + sha256(b"").hexdigest().encode()),
    "unknown key": swap(b"AKIDEXAMPLE", b"AKIDNOBODY"),
    "inactive key": swap(b"AKIDEXAMPLE", b"AKIDASLEEP"),
    "another's key": swap(b"AKIDEXAMPLE", b"AKIDOTHER"),
    "empty key": swap(b"AKIDEXAMPLE", b""),
    "key of 1 KiB": swap(b"AKIDEXAMPLE", b"A" * 1024),
    "yesterday's scope": swap(b"20150830/", b"20150829/"),
    "tomorrow's scope": swap(b"20150830/", b"20150831/"),
    "scope without date": swap(b"20150830/", b""),
    "impossible date": swap(b"20150830/", b"20151345/"),
    "other region": swap(b"mallee-1", b"us-east-1"),
    "empty region": swap(b"mallee-1", b""),
    "region with a slash": swap(b"mallee-1", b"mallee/1"),
    "other service": swap(b"/ec2/", b"/iam/"),
    "empty service": swap(b"/ec2/", b"//"),
    "other terminator": swap(b"aws4_request", b"aws4_requesT"),
    "no terminator": swap(b"/aws4_request", b""),
    "long terminator": swap(b"aws4_request", b"aws4_request/x"),
    "host not signed": swap(b"host;", b""),
    "date not signed": swap(b"SignedHeaders=content-type;host;x-amz-date", b"SignedHeaders=content-type;host"),
    "nothing signed": swap(b"SignedHeaders=content-type;host;x-amz-date", b"SignedHeaders=;"),
    "unsorted": swap(b"content-type;host", b"host;content-type"),
    "a header twice": swap(b"host;", b"host;host;"),
    "upper case": swap(b"host;", b"Host;"),
    "a header that was not sent": swap(b"host;", b"host;x-absent;"),
    "empty name": swap(b"host;", b"host;;"),
    "host changed": header(b"host", lambda _: b"evil.example"),
    "host of another port": header(b"host", lambda v: v.replace(b"8773", b"80")),
    "host gone": header(b"host", lambda _: None),
    "host twice": more((b"host", b"evil.example")),
    "content type changed": header(b"content-type", lambda _: b"text/plain"),
    "content type twice": more((b"content-type", b"text/plain")),
    "later by a second": header(b"x-amz-date", lambda _: b"20150830T123601Z"),
    "earlier by a second": header(b"x-amz-date", lambda _: b"20150830T123559Z"),
    "date gone": header(b"x-amz-date", lambda _: None),
    "date in words": header(b"x-amz-date", lambda _: b"noon"),
    "date twice": more((b"x-amz-date", b"20150830T123600Z")),
    "date of year 0": header(b"x-amz-date", lambda _: b"00000830T123600Z"),
    "date of year 9999": header(b"x-amz-date", lambda _: b"99991231T235959Z"),
    "hour 25": header(b"x-amz-date", lambda _: b"20150830T253600Z"),
    "date with spaces": header(b"x-amz-date", lambda _: b"20150830T12 600Z"),
    "extra amz header": more((b"x-amz-target", b"Evil")),
    "extra amz token": more((b"x-amz-security-token", b"stolen")),
    "stated hash of another body": more((b"x-amz-content-sha256", sha256(b"x").hexdigest().encode())),
    "unsigned payload": more((b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD")),
    "streaming payload": more((b"x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD")),
    "body changed": replaced(body=b"Action=Y&Version=1"),
    "body longer": replaced(body=b"Action=X&Version=1&a=b"),
    "body gone": replaced(body=b""),
    "query added": replaced(query=b"Action=TerminateInstances"),
    "empty query name added": replaced(query=b"="),
    "path changed": replaced(path=b"/other"),
    "path with a query inside": replaced(path=b"/%3FAction=X"),
    "path with an escape": replaced(path=b"/%2e"),
    "other method": replaced(method="GET"),
    "odd method": replaced(method="PÖST"),
    "credential in the query too": replaced(query=b"X-Amz-Credential=AKIDEXAMPLE"),
    "signature in the query too": replaced(query=b"X-Amz-Signature=" + b"0" * 64),
}  # fmt: skip


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("variant", BY_HEADER)
async def test_a_header_that_must_not_pass(variant) -> None:
    other = Key("other", ADA)
    check = verifier(Keys(AKIDASLEEP=Key(SECRET, ADA, active=False), AKIDOTHER=other))
    good = signed()
    assert await refused(check, good) == ""
    assert await refused(check, BY_HEADER[variant](good)) in {
        "AuthFailure", "IncompleteSignature", "MissingAuthenticationToken", "RequestExpired", "SignatureDoesNotMatch",
    }  # fmt: skip


def in_query(old: bytes, new: bytes):
    def vary(request: Arrived) -> Arrived:
        assert old in request.query
        return dataclasses.replace(request, query=request.query.replace(old, new, 1))

    return vary


BY_QUERY = {
    "one parameter more": in_query(b"Action=X", b"Action=X&c=3"),
    "one parameter less": in_query(b"&b=2", b""),
    "a value changed": in_query(b"b=2", b"b=3"),
    "a value's plus respelled as text": in_query(b"a=%20", b"a=%2B"),
    "longer life": in_query(b"Expires=3600", b"Expires=7200"),
    "endless life": in_query(b"Expires=3600", b"Expires=999999999999999999999"),
    "negative life": in_query(b"Expires=3600", b"Expires=-1"),
    "life of words": in_query(b"Expires=3600", b"Expires=forever"),
    "no life": in_query(b"X-Amz-Expires=3600&", b""),
    "no algorithm": in_query(b"X-Amz-Algorithm=AWS4-HMAC-SHA256&", b""),
    "other algorithm": in_query(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA512"),
    "no date": in_query(b"X-Amz-Date=20150830T123600Z&", b""),
    "other date": in_query(b"X-Amz-Date=20150830T123600Z", b"X-Amz-Date=20150830T123700Z"),
    "no signature": lambda r: dataclasses.replace(r, query=r.query.partition(b"&X-Amz-Signature")[0]),
    "signature twice": lambda r: dataclasses.replace(r, query=r.query + b"&X-Amz-Signature=" + b"0" * 64),
    "expires twice": in_query(b"X-Amz-Expires=3600", b"X-Amz-Expires=3600&X-Amz-Expires=9"),
    "host not signed": in_query(b"SignedHeaders=host", b"SignedHeaders=accept"),
    "no credential": in_query(b"AKIDEXAMPLE", b""),
    "other key": in_query(b"AKIDEXAMPLE", b"AKIDNOBODY"),
    "a header's credential too": more((b"authorization", b"AWS4-HMAC-SHA256 Credential=x")),
    "an unsigned amz header": more((b"x-amz-acl", b"public-read")),
    "a body": replaced(body=b"Action=TerminateInstances"),
    "by POST": replaced(method="POST"),
    "host changed": header(b"host", lambda _: b"evil.example"),
}  # fmt: skip


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("variant", BY_QUERY)
async def test_a_query_that_must_not_pass(variant) -> None:
    check = verifier()
    good = presigned()
    assert await refused(check, good) == ""
    assert await refused(check, BY_QUERY[variant](good)) in {
        "AuthFailure",
        "IncompleteSignature",
        "RequestExpired",
        "MissingAuthenticationToken",
    }


def test_there_are_a_hundred() -> None:
    assert len(BY_HEADER) + len(BY_QUERY) >= 100


@pytest.mark.usefixtures("at_noon")
async def test_services_have_their_own_words() -> None:
    check = verifier()
    assert await refused(check, signed(service="iam", secret="x")) == "SignatureDoesNotMatch"
    assert await refused(check, signed(service="iam", key="AKIDNOBODY")) == "InvalidClientTokenId"


@pytest.mark.usefixtures("at_noon")
async def test_an_unknown_key_is_verified_like_a_known_one(monkeypatch) -> None:
    """As many derivations for a key that nobody has, one that somebody has, and one in use."""
    made = Counter()
    real = signing_key
    monkeypatch.setattr("mallee.aws.sigv4.signing_key", lambda *a: (made.update(n=1), real(*a))[1])
    check = verifier(Keys(AKIDBUSY=Key(SECRET, ADA)))
    await check.verify(signed(key="AKIDBUSY"))
    counts = []
    for key in ("AKIDNOBODY", "AKIDEXAMPLE", "AKIDBUSY"):
        made.clear()
        await refused(check, signed(key=key, secret="wrong"))
        counts.append(made["n"])
    assert counts == [1, 1, 1]


# --- version 2 --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_version_2(method, monkeypatch) -> None:
    monkeypatch.setattr(botocore.auth.time, "gmtime", lambda *_: NOW.timetuple())
    made = AWSRequest(method=method, url="http://localhost/")
    values = {"Action": "X", "Version": "2014-10-01", "k": "ä b+*"}
    made.params, made.data = (values, {}) if method == "GET" else ({}, values)
    SigV2Auth(Credentials("AKIDEXAMPLE", SECRET)).add_auth(made)
    query = urlencode(made.params).encode()
    body = urlencode(made.data).encode() if method == "POST" else b""
    request = Arrived(method, b"/", query, [(b"host", b"localhost")], body)
    check = sigv2.Verifier(Keys(), ManualClock(NOW), region="mallee-1")
    assert sigv2.looks_signed(request)
    assert (await check.verify(request)).principal == ADA
    late = sigv2.Verifier(Keys(), ManualClock(NOW + timedelta(seconds=301)), region="mallee-1")
    assert await refused(late, request) == "RequestExpired"
    forged = dataclasses.replace(request, query=query.replace(b"=X", b"=Y"), body=body.replace(b"=X", b"=Y"))
    assert await refused(check, forged) == "AuthFailure"
    temporary = sigv2.Verifier(
        Keys(AKIDEXAMPLE=Key(SECRET, ADA, session_token="t")), ManualClock(NOW), region="r"
    )
    assert await refused(temporary, request) == "AuthFailure"
    bare = dataclasses.replace(
        request, query=b"AWSAccessKeyId=AKIDEXAMPLE&Signature=" + b64encode(b"x"), body=b""
    )
    assert await refused(check, bare) == "IncompleteSignature"


# --- one spelling -----------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(names, names), max_size=6), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_canonical_query_does_not_depend_on_order_or_spelling(pairs, chance) -> None:
    straight = urlencode(pairs).encode()
    chance.shuffle(pairs)
    by_hand = b"&".join(
        b"".join(b"%%%02x" % byte for byte in name.encode())
        + b"="
        + b"".join(b"%%%02X" % byte for byte in value.encode())
        for name, value in pairs
    )
    assert canonical.query(straight) == canonical.query(by_hand)
    assert canonical.query(canonical.query(straight)) == canonical.query(straight)


@given(st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_canonical_path_has_no_way_up(raw) -> None:
    path = canonical.path(raw)
    assert path.startswith(b"/")
    assert not {b"", b".", b".."} & set(path.split(b"/")[1:-1])
