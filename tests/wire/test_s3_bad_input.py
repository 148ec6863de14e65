"""Requests that nobody should send: keys, documents, headers, half of anything. Typed errors, never a 5xx."""

import asyncio
import os
import re

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3_house import KEY, SECRET, WIRE, House
from s3_requests import head, raw, request, say, take

from mallee.aws.rest_xml import RestError, Sent
from mallee.aws.rest_xml.xml import parse
from mallee.walrus.errors import TABLE
from mallee.walrus.front.address import decoded_query, locate
from mallee.walrus.front.telemetry import _shown

LONG = "k" * 1024


@pytest.fixture
async def house():
    async with House().open() as opened:
        yield opened


# --- keys -------------------------------------------------------------------------------------

KEYS = {
    "dots": ("/b/../../etc/passwd", "../../etc/passwd"),
    "a dot": ("/b/.", "."),
    "encoded dots": ("/b/%2e%2e/%2e%2e/x", "../../x"),
    "encoded twice": ("/b/%252e%252e", "%2e%2e"),
    "empty segments": ("/b//a///", "/a///"),
    "a trailing slash": ("/b/folder/", "folder/"),
    "an encoded slash": ("/b/a%2Fb", "a/b"),
    "a backslash": ("/b/a%5Cb", "a\\b"),
    "a plus": ("/b/a+b", "a+b"),
    "a space": ("/b/a%20b", "a b"),
    "a question": ("/b/a%3Fb", "a?b"),
    "a line break": ("/b/a%0D%0Ab", "a\r\nb"),
    "another script": ("/b/%E8%A2%8B%E9%BC%A0%F0%9F%A6%98", "袋鼠🦘"),
    "as long as it may be": (f"/b/{LONG}", LONG),
    "long in another script": ("/b/" + "%C3%A4" * 512, "ä" * 512),
    "a scheme": ("/b/http://x/", "http://x/"),
    "a percent": ("/b/100%", "100%"),
}


@pytest.mark.parametrize(("target", "key"), KEYS.values(), ids=KEYS)
async def test_a_key_is_a_name_and_never_a_path(house, target, key) -> None:
    if target == "/b/100%":
        target = "/b/100%25"
    answer = await say(house, request(house, "PUT", target, body=b"x", mode=None))
    if answer.status == 403:  # botocore signs a path as it stands; S3's form of it is encoded
        answer = await say(house, raw("PUT", target, {"Host": house.url[7:], "Content-Length": "1"}, b"x"))
    assert answer.status == 200, answer
    assert list(house.store) == [("b", key)]


BAD_KEYS = {
    "a byte too long": (f"/b/{LONG}k", "KeyTooLongError"),
    "too long in another script": ("/b/" + "%C3%A4" * 513, "KeyTooLongError"),
    "a NUL": ("/b/a%00b", "InvalidURI"),
    "a surrogate": ("/b/%ED%A0%80", "InvalidURI"),
    "an overlong dot": ("/b/%C0%AE", "InvalidURI"),
    "half a character": ("/b/%C3", "InvalidURI"),
    "latin": ("/b/%E4", "InvalidURI"),
    "a query of bytes": ("/b?prefix=%FF", "InvalidURI"),
    "no bucket": ("//key", "InvalidBucketName"),
}


@pytest.mark.parametrize(("target", "code"), BAD_KEYS.values(), ids=BAD_KEYS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_is_no_key_is_refused(house, method, target, code) -> None:
    headers = {"Host": house.url[7:], "Content-Length": "0"}
    answer = await say(house, raw(method, target, headers))
    assert (answer.status, answer.code) == (400, code), answer


@given(st.binary(max_size=60), st.binary(max_size=60))
@settings(deadline=None, max_examples=300)
def test_any_path_is_an_address_or_a_refusal(path, query) -> None:
    refused = None
    try:
        decoded_query(query)
        assert len(locate(b"h", b"/" + path, ("s3.test",)).key.encode()) <= 1024
    except RestError as error:
        refused = error
    assert refused is None or (refused.status == 400 and refused.code in TABLE)


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("photos.s3.test", "photos"),
        ("photos.s3.test:8774", "photos"),
        ("my.dotted.bucket.S3.TEST", "my.dotted.bucket"),
        ("s3.test", ""),
        ("evils3.test", ""),
        ("[::1]:8774", ""),
        ("", ""),
    ],
)
def test_a_bucket_may_be_before_the_hosts_name(host, bucket) -> None:
    found = locate(host.encode(), b"/a/b", ("s3.test",))
    assert (found.bucket, found.key) == ((bucket, "a/b") if bucket else ("a", "b"))


# --- documents --------------------------------------------------------------------------------

BOMB = b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
FILE = (
    b'<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&a;</Key></Object></Delete>'
)
DOCUMENTS = {
    "a bomb": BOMB,
    "a file": FILE,
    "a bomb in another encoding": BOMB.decode().encode("utf-16"),
    "a bomb in a strange encoding": b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE d><Delete/>',
    "an entity of nobody": b"<Delete><Object><Key>&nobody;</Key></Object></Delete>",
    "nothing": b"<Delete/>" * 0 + b" ",
    "text": b"delete it all",
    "half": b"<Delete><Object><Key>a</Key>",
    "two roots": b"<Delete></Delete><Delete></Delete>",
    "another root": b"<Tagging><TagSet></TagSet></Tagging>",
    "an unknown element": b"<Delete><Object><Key>a</Key><Kex>b</Kex></Object></Delete>",
    "a key twice": b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
    "no key": b"<Delete><Object></Object></Delete>",
    "an element in a key": b"<Delete><Object><Key>a<b/></Key></Object></Delete>",
    "depth": b"<Delete>" + b"<Object>" * 5000 + b"</Object>" * 5000 + b"</Delete>",
    "a wrong type": b"<Delete><Object><Key>a</Key></Object><Quiet>perhaps</Quiet></Delete>",
    "bytes": b"<Delete><Object><Key>\xff</Key></Object></Delete>",
    "a control character": b"<Delete><Object><Key>\x01</Key></Object></Delete>",
    "a reference to NUL": b"<Delete><Object><Key>&#0;</Key></Object></Delete>",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
async def test_a_document_that_is_not_the_one_is_refused(house, document) -> None:
    answer = await say(house, request(house, "POST", "/b?delete", body=document))
    assert (answer.status, answer.code) in {(400, "MalformedXML"), (400, "MissingRequestBodyError")}, answer
    assert b"root:" not in answer.body


async def test_a_document_has_an_end(house) -> None:
    answer = await say(
        house, request(house, "POST", "/b?delete", body=b"<Delete>" + b" " * (2 << 20) + b"</Delete>")
    )
    assert (answer.status, answer.code) == (400, "MaxMessageLengthExceeded"), answer
    answer = await say(house, request(house, "PUT", "/b?policy", body=b"{" * (1 << 20) + b"}"))
    assert (answer.status, answer.code) == (400, "MaxMessageLengthExceeded"), answer


async def test_ten_thousand_parts_are_read_and_a_hundred_thousand_are_too_long(house) -> None:
    part = '<Part><PartNumber>%d</PartNumber><ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag></Part>'
    for count, status in ((10_000, 200), (100_000, 400)):
        document = "".join(
            ("<CompleteMultipartUpload>", *(part % n for n in range(count)), "</CompleteMultipartUpload>")
        )
        answer = await say(house, request(house, "POST", "/b/k?uploadId=u", body=document.encode()))
        assert answer.status == status, answer
    assert answer.code == "MaxMessageLengthExceeded"


@given(
    st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, max_size=4), max_leaves=20),
    st.binary(max_size=20),
)
@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_xml_or_a_refusal(tree, noise) -> None:
    def written(node) -> str:
        if isinstance(node, str):
            return re.sub(r"[^\w ]", "", node)
        return "".join(f"<Object>{written(one)}</Object>" for one in node)

    read = WIRE.reader("DeleteObjects").takers[-1]
    for document in (f"<Delete>{written(tree)}</Delete>".encode(), noise, b"<a>" + noise):
        status = 400
        try:
            parse(document)
            read(Sent({}, {}, {}, document), {})
        except RestError as error:
            status = error.status
        assert status == 400


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "CONNECT", "LINK", "PROPFIND"])
async def test_other_methods_are_refused(house, method) -> None:
    target = "/b/k" if method != "CONNECT" else "b:1"
    answer = await say(house, raw(method, target, {"Host": house.url[7:]}))
    assert answer.status in {400, 405}, answer


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("POST", "/b/k", "MethodNotAllowed"),
        ("POST", "/", "MethodNotAllowed"),
        ("DELETE", "/", "MethodNotAllowed"),
        ("GET", "/b?acl&policy", "InvalidArgument"),
        ("GET", "/b?list-type=3", "InvalidArgument"),
        ("DELETE", "/b?versions", "MethodNotAllowed"),
        ("DELETE", "/b?analytics", "NotImplemented"),
        ("PUT", "/b/k?uploadId=u", "NotImplemented"),
        ("GET", "/b?list-type=2&max-keys=many", "InvalidArgument"),
        ("GET", "/b?list-type=2&max-keys=99999999999999999999", "InvalidArgument"),
        ("GET", "/b?list-type=2&fetch-owner=true", "NotImplemented"),
        ("GET", "/b?location", "NotImplemented"),
    ],
)
async def test_a_request_that_is_no_operation_is_refused(house, method, target, code) -> None:
    answer = await say(house, request(house, method, target))
    assert answer.code == code, answer


async def test_every_operation_of_the_model_is_built_or_named(house) -> None:
    built = house.front._stages.operations
    for name, operation in WIRE.model.operations.items():
        if name in built or operation.get("deprecated") or name == "WriteGetObjectResponse":
            continue
        target = operation["http"]["requestUri"].replace("{Bucket}", "b").replace("{Key+}", "k")
        shape = WIRE.model.input(name)
        needed = [shape.members[one] for one in shape.required] if shape else []
        query = [f"{one.location}=1" for one in needed if one.traits.get("location") == "querystring"]
        target += ("&" if "?" in target else "?") + "&".join(query) if query else ""
        headers = {one.location: "ETag" for one in needed if one.traits.get("location") == "header"}
        answer = await say(
            house,
            raw(
                operation["http"]["method"], target, {"Host": house.url[7:], "Content-Length": "0", **headers}
            ),
        )
        if name == "ListDirectoryBuckets":
            assert answer.status == 200
        elif operation["http"]["method"] == "HEAD":
            assert answer.status == 501
        else:
            assert (answer.status, answer.code) == (501, "NotImplemented"), (name, answer)
            assert name in answer.body.decode()


async def test_what_is_not_honoured_is_refused(house) -> None:
    answer = await say(house, request(house, "PUT", "/b/k", body=b"x", x_amz_website_redirect_location="/x"))
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert not house.store


async def test_metadata_and_headers_have_an_end(house) -> None:
    answer = await say(house, request(house, "PUT", "/b/k", body=b"x", x_amz_meta_a="v" * 2048))
    assert answer.code == "MetadataTooLarge"
    answer = await say(house, request(house, "PUT", "/b/k", body=b"x", x_amz_meta_a="v" * 2047))
    assert answer.status == 200
    answer = await say(house, request(house, "PUT", "/b/k", body=b"x", user_agent="v" * 9000))
    assert answer.code == "RequestHeaderSectionTooLarge"


async def test_a_header_cannot_begin_another(house) -> None:
    await say(house, request(house, "PUT", "/b/k", body=b"x"))
    target = "/b/k?response-content-disposition=a%0D%0ASet-Cookie%3A%20b"
    answer = await say(house, request(house, "GET", target))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert "set-cookie" not in answer.headers


async def test_an_error_of_head_has_no_body_and_the_connection_goes_on(house) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(request(house, "HEAD", "/b/none") + request(house, "GET", "/b/none"))
    first = await take(reader)
    assert (first.status, first.body) == (404, b"")
    assert (await take(reader)).code == "NoSuchKey"
    writer.close()


async def test_a_bug_is_an_internal_error_with_nothing_of_it(house, capsys) -> None:
    house.store["b", "k"] = "no thing"
    answer = await say(house, request(house, "GET", "/b/k"))
    assert (answer.status, answer.code) == (500, "InternalError")
    assert b"Attribute" not in answer.body


async def test_a_browser_asks_first(house) -> None:
    asks = {"Host": house.url[7:], "Origin": "https://good.example", "Access-Control-Request-Method": "PUT"}
    answer = await say(house, raw("OPTIONS", "/b/k", asks))
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://good.example"
    answer = await say(house, raw("OPTIONS", "/b/k", asks | {"Origin": "https://bad.example"}))
    assert (answer.status, answer.code) == (403, "AccessForbidden")
    answer = await say(house, raw("OPTIONS", "/b/k", {"Host": "x"}))
    assert (answer.status, answer.code) == (400, "BadRequest")
    answer = await say(house, request(house, "GET", "/b/none", Origin="https://good.example"))
    assert answer.code == "NoSuchKey"
    assert answer.headers["access-control-allow-origin"] == "https://good.example"


async def test_presigned_headers_may_be_in_the_query(house) -> None:
    made = AWSRequest(method="PUT", url=f"{house.url}/b/k?x-amz-meta-colour=red&x-amz-acl=private")
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "mallee-1", 60).add_auth(made)
    target = made.url[len(house.url) :]
    answer = await say(house, raw("PUT", target, {"Host": house.url[7:], "Content-Length": "1"}, b"x"))
    assert answer.status == 200, answer
    assert house.store["b", "k"].fields["Metadata"] == {"colour": "red"}
    assert house.store["b", "k"].fields["ACL"] == "private"


@pytest.mark.parametrize("cut", [1, 30, 200, 400])
async def test_half_a_request_is_nothing(house, cut) -> None:
    whole = request(house, "PUT", "/b/k", body=os.urandom(100))
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(whole[:cut])
    await writer.drain()
    writer.close()
    await reader.read()
    assert not house.store


async def test_health_and_metrics_need_no_signature(house) -> None:
    await say(house, request(house, "GET", "/b/none"))
    plain = {"Host": house.url[7:]}
    assert (await say(house, raw("GET", "/-/healthz", plain))).body == b"ok\n"
    assert (await say(house, raw("GET", "/-/readyz", plain))).body == b"ok\n"
    told = (await say(house, raw("GET", "/-/metrics", plain))).body.decode()
    assert 'mallee_s3_requests_total{code="NoSuchKey",operation="GetObject"} 1.0' in told


async def test_a_wrong_head_is_signed_by_nobody(house) -> None:
    headers = head(house, "GET", "/b/k")
    for name in list(headers):
        if name == "Host":
            continue
        spoiled = headers | {name: headers[name] + "\x7f"}
        answer = await say(house, raw("GET", "/b/k", spoiled))
        assert 400 <= answer.status < 500, (name, answer)


def test_a_line_of_the_log_is_one_line() -> None:
    assert _shown("a\nb") == "'a\\nb'"
    assert _shown("袋鼠") == "袋鼠"
