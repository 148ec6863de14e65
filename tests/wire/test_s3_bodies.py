"""Every way a body may come, and every way it may be wrong: typed errors, nothing visible."""

import asyncio
import os
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import md5, sha256

import pytest
from s3_house import House
from s3_requests import Chunked, crc32c, head, raw, request, say, take
from test_s3_signatures import PUBLISHED

from mallee.kernel.clock import ManualClock
from mallee.walrus.front.incoming import Patience

BIG = os.urandom(700_001)
MODES = {
    "signed chunks": {"signed": True},
    "signed chunks with a trailer": {"signed": True, "trailer": "x-amz-checksum-crc32c"},
    "unsigned chunks with a trailer": {"signed": False, "trailer": "x-amz-checksum-crc32c"},
}
SIZES = {
    "nothing": (b"",),
    "a byte": (b"x",),
    "one chunk": (BIG,),
    "many": (BIG[:65536], BIG[65536:131072], BIG[131072:], b"end"),
}


@pytest.fixture
async def house():
    async with House().open() as opened:
        yield opened


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("chunks", SIZES.values(), ids=SIZES)
async def test_chunks_are_put_together(house, mode, chunks) -> None:
    chunks = [chunk for chunk in chunks if chunk]
    answer = await say(house, Chunked(house, "/b/k", chunks=chunks, **mode).request())
    assert answer.status == 200, answer
    whole = b"".join(chunks)
    assert house.store["b", "k"].body == whole
    assert answer.headers["etag"] == f'"{md5(whole).hexdigest()}"'
    if "trailer" in mode:
        assert answer.headers["x-amz-checksum-crc32c"] == crc32c(whole)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_chunks_may_come_in_any_pieces(house, mode) -> None:
    chunked = Chunked(house, "/b/k", chunks=[BIG[:9000], BIG[9000:20_000], b"ab"], **mode)
    whole = chunked.request()
    pieces = [whole[at : at + 333] for at in range(0, len(whole), 333)]
    assert (await say(house, *pieces)).status == 200
    assert house.store["b", "k"].body == BIG[:20_000] + b"ab"


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_chunks_may_come_in_http_chunks(house, mode) -> None:
    chunked = Chunked(house, "/b/k", chunks=[BIG[:9000], b"ab"], **mode)
    body = chunked.body()
    framed = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 500]), body[at : at + 500]) for at in range(0, len(body), 500)
    )
    headers = chunked.headers | {"Transfer-Encoding": "chunked"}
    assert (await say(house, raw("PUT", "/b/k", headers, framed + b"0\r\n\r\n"))).status == 200
    assert house.store["b", "k"].body == BIG[:9000] + b"ab"


def first(change):
    return lambda framed: [change(framed[0]), *framed[1:]]


SPOILED = {
    "flipped data": (
        first(lambda chunk: chunk[:-3] + bytes([chunk[-3] ^ 1]) + chunk[-2:]),
        "SignatureDoesNotMatch|BadDigest",
    ),
    "no size": (first(lambda chunk: b"\r\n" + chunk), "InvalidRequest"),
    "a negative size": (first(lambda chunk: b"-1" + chunk[4:]), "InvalidRequest"),
    "a size too large": (first(lambda chunk: b"f" + chunk), "IncompleteBody"),
    "a huge size": (first(lambda chunk: b"ffffffffffffffff" + chunk[4:]), "IncompleteBody"),
    "a longer size": (first(lambda chunk: b"00000000000000000" + chunk), "InvalidRequest"),
    "a size too small": (first(lambda chunk: b"2327" + chunk[4:]), "SignatureDoesNotMatch|IncompleteBody"),
    "no line break": (first(lambda chunk: chunk[:-2] + b"xx"), "IncompleteBody|SignatureDoesNotMatch"),
    "an endless line": (first(lambda chunk: b"0" * 5000 + chunk), "InvalidRequest"),
    "an extension": (first(lambda chunk: chunk[:4] + b";a=b" + chunk[4:]), "InvalidRequest"),
    "swapped chunks": (lambda framed: [framed[1], framed[0], *framed[2:]], "SignatureDoesNotMatch|BadDigest"),
    "a chunk less": (lambda framed: framed[1:], "SignatureDoesNotMatch|IncompleteBody"),
    "a chunk twice": (lambda framed: [framed[0], *framed], "SignatureDoesNotMatch|IncompleteBody"),
    "no last chunk": (lambda framed: framed[:-1], "IncompleteBody|InvalidRequest"),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(("spoil", "codes"), SPOILED.values(), ids=SPOILED)
async def test_spoiled_chunks_are_refused(house, mode, spoil, codes) -> None:
    chunked = Chunked(house, "/b/k", chunks=[BIG[:9000], BIG[9000:18_100]], **mode)
    answer = await say(house, chunked.request(chunked.body(spoil=spoil)))
    assert answer.status in {400, 403}, answer
    assert answer.code in codes.split("|"), answer
    assert not house.store


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_what_follows_the_end_is_refused(house, mode) -> None:
    chunked = Chunked(house, "/b/k", chunks=[b"body"], **mode)
    answer = await say(house, chunked.request(chunked.body(tail=b"5\r\nextra\r\n0\r\n\r\n")))
    assert answer.code == "MalformedTrailerError", answer
    assert not house.store


@pytest.mark.parametrize("length", ["3", "5", "x", "-1", "9" * 30])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_the_decoded_length_must_be_true(house, mode, length) -> None:
    answer = await say(house, Chunked(house, "/b/k", chunks=[b"body"], length=length, **mode).request())
    assert answer.code in {"IncompleteBody", "InvalidArgument"}, answer
    assert not house.store


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("value", ["AAAAAA==", "AAAA", "not base64", crc32c(b"other")])
async def test_a_wrong_trailer_is_refused(house, signed, value) -> None:
    chunked = Chunked(house, "/b/k", chunks=[b"body"], signed=signed, trailer="x-amz-checksum-crc32c")
    answer = await say(house, chunked.request(chunked.body(value=value)))
    assert answer.code in {"BadDigest", "InvalidRequest"}, answer
    assert not house.store


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda body: body.replace(b"x-amz-checksum-crc32c:", b"x-amz-checksum-crc32:"),
            "MalformedTrailerError",
        ),
        (
            lambda body: body.replace(b"x-amz-checksum-crc32c:", b"x-amz-checksum-crc32c "),
            "MalformedTrailerError",
        ),
        (lambda body: body[: body.index(b"x-amz-checksum")] + b"\r\n", "MalformedTrailerError"),
        (lambda body: body[:-2] + b"x" * 20_000 + b"\r\n", "MalformedTrailerError"),
        (lambda body: body[:-2] + b"x-other: 1\r\n\r\n", "MalformedTrailerError"),
    ],
    ids=["another", "no colon", "none", "too long", "one more"],
)
async def test_a_trailer_is_the_one_that_was_announced(house, signed, change, code) -> None:
    chunked = Chunked(house, "/b/k", chunks=[b"body"], signed=signed, trailer="x-amz-checksum-crc32c")
    answer = await say(house, chunked.request(change(chunked.body())))
    assert answer.code in {code, "SignatureDoesNotMatch"}, answer
    assert not house.store


async def test_a_trailer_with_a_wrong_signature_is_refused(house) -> None:
    chunked = Chunked(house, "/b/k", chunks=[b"body"], signed=True, trailer="x-amz-checksum-crc32c")
    spoiled = chunked.body().replace(b"trailer-signature:", b"trailer-signature:0")
    assert (await say(house, chunked.request(spoiled))).code == "SignatureDoesNotMatch"
    unsigned = Chunked(house, "/b/k", chunks=[b"body"], signed=True, trailer="x-amz-checksum-crc32c")
    body = unsigned.body()
    body = body[: body.index(b"x-amz-trailer-signature")] + b"\r\n"
    assert (await say(house, unsigned.request(body))).code == "SignatureDoesNotMatch"
    assert not house.store


async def test_small_signed_chunks_are_refused(house) -> None:
    chunked = Chunked(house, "/b/k", chunks=[b"small", b"chunks"], signed=True)
    assert (await say(house, chunked.request())).code == "InvalidChunkSizeError"


@pytest.mark.parametrize("size", [5, 300_000, 3_000_000])
async def test_a_body_is_what_was_signed(house, size) -> None:
    body = os.urandom(size)
    assert (await say(house, request(house, "PUT", "/b/k", body=body))).status == 200
    assert house.store.pop(("b", "k")).body == body
    answer = await say(
        house, request(house, "PUT", "/b/k", body=body[:-1] + bytes([body[-1] ^ 1]), data=body)
    )
    assert answer.code == "XAmzContentSHA256Mismatch", answer
    assert not house.store


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Content_MD5", b64encode(md5(b"other").digest()).decode(), "BadDigest"),
        ("Content_MD5", "AAAA", "InvalidDigest"),
        ("Content_MD5", "not base64", "InvalidDigest"),
        ("x_amz_checksum_crc32c", crc32c(b"other"), "BadDigest"),
        ("x_amz_checksum_sha256", b64encode(sha256(b"other").digest()).decode(), "BadDigest"),
        ("x_amz_checksum_sha1", "AAAA", "InvalidRequest"),
        ("x_amz_checksum_crc64nvme", "????", "InvalidRequest"),
        ("x_amz_checksum_xxhash64", "AAAA", "NotImplemented"),
        ("x_amz_sdk_checksum_algorithm", "CRC32", "InvalidRequest"),
        ("x_amz_sdk_checksum_algorithm", "CRC8", "InvalidRequest"),
    ],
)
async def test_a_digest_must_fit(house, header, value, code) -> None:
    answer = await say(house, request(house, "PUT", "/b/k", body=b"body", **{header: value}))
    assert answer.code == code, answer
    assert not house.store


async def test_digests_that_fit_are_told(house) -> None:
    sums = {
        "Content_MD5": b64encode(md5(b"body").digest()).decode(),
        "x_amz_checksum_sha256": b64encode(sha256(b"body").digest()).decode(),
    }
    answer = await say(house, request(house, "PUT", "/b/k", body=b"body", **sums))
    assert answer.headers["x-amz-checksum-sha256"] == sums["x_amz_checksum_sha256"]
    assert "x-amz-checksum-crc64nvme" in answer.headers


async def test_two_checksums_are_refused(house) -> None:
    both = {"x_amz_checksum_crc32c": crc32c(b"body"), "x_amz_checksum_crc32": "AAAAAA=="}
    assert (await say(house, request(house, "PUT", "/b/k", body=b"body", **both))).code == "InvalidRequest"


@pytest.mark.parametrize("size", [4, 400_000])
async def test_a_body_that_stops_is_nobodys(house, size) -> None:
    body = os.urandom(size)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(request(house, "PUT", "/b/k", body=body[:-1], data=body, length=size))
    await writer.drain()
    writer.close()
    assert await reader.read() == b""
    assert not house.store


async def test_a_slow_body_is_given_up() -> None:
    async with House(options={"patience": Patience(idle=0.1)}).open() as house:
        for size in (100, 400_000):
            body = os.urandom(size)
            answer = await say(house, request(house, "PUT", "/b/k", body=body[:50], data=body, length=size))
            assert (answer.status, answer.code) == (400, "RequestTimeout")
            assert answer.headers["connection"] == "close"
        assert not house.store


async def test_an_upload_without_a_length_is_refused(house) -> None:
    headers = head(house, "PUT", "/b/k", data=b"body") | {"Transfer-Encoding": "chunked"}
    answer = await say(house, raw("PUT", "/b/k", headers, b"4\r\nbody\r\n0\r\n\r\n"))
    assert (answer.status, answer.code) == (411, "MissingContentLength")


async def test_too_large_an_upload_is_refused_before_it_comes(house) -> None:
    headers = head(house, "PUT", "/b/k", mode="UNSIGNED-PAYLOAD") | {"Content-Length": str(5 * 1024**3 + 1)}
    answer = await say(house, raw("PUT", "/b/k", headers))
    assert answer.code == "EntityTooLarge"


@pytest.mark.parametrize("size", [0, 4, 400_000])
async def test_a_client_that_waits_for_100_gets_it_only_with_a_good_signature(house, size) -> None:
    body = os.urandom(size)
    for secret, first_line in (("wrong", b"HTTP/1.1 403"), (None, b"HTTP/1.1 100")):
        more = {"secret": secret} if secret else {}
        headers = head(house, "PUT", "/b/k", data=body, **more)
        headers |= {"Expect": "100-continue", "Content-Length": str(size)}
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(raw("PUT", "/b/k", headers))
        async with asyncio.timeout(5):
            said = await reader.readuntil(b"\r\n")
            assert said.startswith(first_line)
            if not secret:
                await reader.readuntil(b"\r\n")
                writer.write(body)
                assert (await take(reader)).status == 200
                writer.write(request(house, "GET", "/b/k"))
                assert (await take(reader)).body == body
        writer.close()
    assert house.store["b", "k"].body == body


@pytest.mark.parametrize("size", [4, 400_000, 2_500_000])
async def test_a_connection_carries_the_next_request(house, size) -> None:
    body = os.urandom(size)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    put, get = request(house, "PUT", "/b/k", body=body), request(house, "GET", "/b/k")
    writer.write(put)
    assert (await take(reader)).status == 200
    for _ in range(2):
        writer.write(put + get)  # the second does not wait for the first
        assert (await take(reader)).status == 200
        assert (await take(reader)).body == body
    writer.close()


async def test_a_refused_upload_is_answered_though_it_still_comes(house) -> None:
    body = os.urandom(3_000_000)
    answer = await say(house, request(house, "PUT", "/b/k", body=body, secret="wrong"))
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert answer.headers["connection"] == "close"
    house.policy.forbidden.add("PutObject")
    assert (await say(house, request(house, "PUT", "/b/k", body=body))).code == "AccessDenied"


async def test_an_anonymous_upload_may_have_a_trailer(house) -> None:
    chunked = Chunked(house, "/b/k", chunks=[b"body"], signed=False, trailer="x-amz-checksum-crc32c")
    del chunked.headers["Authorization"]
    assert (await say(house, chunked.request())).status == 200
    assert house.store["b", "k"].body == b"body"


@pytest.mark.parametrize("trailer", [False, True])
async def test_the_published_example_in_chunks_is_taken(trailer) -> None:
    """66,560 times the letter a, signed on 24 May 2013."""
    signatures = (
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    )
    if trailer:
        signatures = (
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        )
    chunks = zip((b"a" * 65536, b"a" * 1024, b""), signatures, strict=True)
    body = b"".join(
        b"%x;chunk-signature=%b\r\n%b\r\n" % (len(one), name.encode(), one) for one, name in chunks
    )
    if trailer:
        body = body[:-2] + b"x-amz-checksum-crc32c:sOO8/Q==\n\r\n"
        body += b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    else:
        assert len(body) == 66824
    made = PUBLISHED["chunks with a trailer" if trailer else "chunks"]
    headers = {name.decode(): value.decode() for name, value in made.headers} | {
        "content-length": str(len(body))
    }
    options = {"clock": ManualClock(datetime(2013, 5, 24, tzinfo=UTC))}
    async with House(options=options).open() as house:
        answer = await say(house, raw("PUT", "/examplebucket/chunkObject.txt", headers, body))
        assert answer.status == 200, answer
        assert house.store["examplebucket", "chunkObject.txt"].body == b"a" * 66560
