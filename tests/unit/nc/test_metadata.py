"""What a guest may ask about itself, and what it may not: over HTTP, as a guest would."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from mallee.domain.guest import Guest, GuestKey, MetadataOptions
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.nc.metadata.categories import listing, tree
from mallee.nc.metadata.door import LONGEST_TTL, SET_HOPS, MetadataDoor
from mallee.nc.metadata.server import CONNECTIONS, MetadataServer
from tests.unit.nc.pretend import a_guest

TTL, TOKEN = "x-aws-ec2-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token"


def a_keyed_guest(**changed: Any) -> Guest:
    return a_guest(public_key="ssh-ed25519 AAAA me", key_name="mine", **changed)


class Asker:
    """Talks to a door as an HTTP server would."""

    def __init__(self, guest: Guest, *, secret: bytes = b"secret") -> None:
        self.clock = ManualClock()
        self.hops: list[int] = []
        self.door = MetadataDoor(guest, secret, self.clock)

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return await self.ask_with(method, path, named)

    async def ask_with(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": headers,
            "extensions": {SET_HOPS: self.hops.append},
        }
        await self.door(scope, lambda: asyncio.sleep(0), send)  # type: ignore[arg-type, return-value]  # noqa: TID251
        return sent[0]["status"], sent[1]["body"]

    async def token(self, ttl: int = 60) -> str:
        status, body = await self.ask("PUT", "/latest/api/token", **{TTL: str(ttl)})
        assert status == 200
        return body.decode()


@pytest.fixture
def asker() -> Asker:
    return Asker(a_keyed_guest(user_data=b"#!/bin/sh\n\xff\x00"))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/latest/meta-data/instance-id", b"i-1"),
        ("/2021-03-23/meta-data/instance-id", b"i-1"),
        ("/latest/meta-data/local-ipv4", b"10.0.0.5"),
        ("/latest/meta-data/placement/region", b"local-1"),
        ("/latest/meta-data/placement/", b"availability-zone\nregion"),
        ("/latest/meta-data/public-keys/", b"0=mine"),
        ("/latest/meta-data/public-keys/0/openssh-key", b"ssh-ed25519 AAAA me"),
        ("/latest/meta-data/network/interfaces/macs/", b"02:00:00:00:00:05/"),
        ("/latest/", b"dynamic/\nmeta-data/\nuser-data"),
        ("/latest/user-data", b"#!/bin/sh\n\xff\x00"),
    ],
)
async def test_it_tells_a_guest_who_it_is(asker: Asker, path: str, wanted: bytes) -> None:
    assert await asker.ask("GET", path) == (200, wanted)


async def test_the_identity_document_says_the_same(asker: Asker) -> None:
    _, body = await asker.ask("GET", "/latest/dynamic/instance-identity/document")
    assert json.loads(body)["instanceId"] == "i-1"
    assert json.loads(body)["privateIp"] == "10.0.0.5"


@pytest.mark.parametrize(
    "path",
    [
        "/latest/meta-data/nothing",
        "/2001-01-01/meta-data/instance-id",
        "/latest/meta-data/../user-data",
        "/latest/meta-data/./instance-id",
        "/latest//meta-data/instance-id",
        "//latest/meta-data/instance-id",
        "/latest/meta-data/instance-id//",
        "/latest/meta-data/instance-id\0",
        "/latest/meta-data\\instance-id",
        "/LATEST/meta-data/instance-id",
        "/latest/meta-data/instance-id?x",
        "/latest/meta-data/instance-id;x",
        "/latest/%6deta-data/instance-id",
        "/latest/../../etc/passwd",
        "/etc/passwd",
        "latest:meta-data",
        "/latest/meta-data/iam/",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/meta-data/iam/info",
        "/latest/dynamic/instance-identity/pkcs7",
        "/latest/dynamic/instance-identity/signature",
        "/latest/meta-data/spot/instance-action",
        "/latest/meta-data/tags/instance/",
    ],
)
async def test_what_is_not_there_is_not_found(asker: Asker, path: str) -> None:
    assert (await asker.ask("GET", path))[0] == 404


async def test_without_user_data_and_key_there_is_none() -> None:
    asker = Asker(a_guest())
    assert (await asker.ask("GET", "/latest/user-data"))[0] == 404
    assert (await asker.ask("GET", "/latest/meta-data/public-keys/"))[0] == 404


async def test_a_token_opens_until_it_expires(asker: Asker) -> None:
    token = await asker.token(60)
    assert (await asker.ask("GET", "/latest/meta-data/mac", **{TOKEN: token}))[0] == 200
    await asker.clock.advance(61)
    assert (await asker.ask("GET", "/latest/meta-data/mac", **{TOKEN: token}))[0] == 401


@pytest.mark.parametrize("ttl", ["", "0", "-1", "21601", "1e3", "٣", "999999"])
async def test_a_token_needs_a_time_within_its_limits(asker: Asker, ttl: str) -> None:
    assert (await asker.ask("PUT", "/latest/api/token", **{TTL: ttl}))[0] == 400
    assert await asker.token(LONGEST_TTL)


async def test_a_proxy_gets_no_token(asker: Asker) -> None:
    asked = {TTL: "60", "x-forwarded-for": "10.0.0.9"}
    assert (await asker.ask("PUT", "/latest/api/token", **asked))[0] == 403


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_token_comes_by_put_alone(asker: Asker, method: str) -> None:
    assert (await asker.ask(method, "/latest/api/token", **{TTL: "60"}))[0] == 405


async def test_another_guests_token_and_a_forged_one_are_refused(asker: Asker) -> None:
    others = await Asker(a_guest("i-2")).token()
    mine = await asker.token(60)
    longer = f"{int(mine.partition('.')[0]) + 1000}.{mine.partition('.')[2]}"
    for token in (others, longer, "", "x", f"{mine}0"):
        assert (await asker.ask("GET", "/latest/meta-data/mac", **{TOKEN: token}))[0] == 401


async def test_where_tokens_are_required_a_bare_request_is_refused() -> None:
    asker = Asker(a_guest(metadata=MetadataOptions(tokens_required=True)))
    assert (await asker.ask("GET", "/latest/meta-data/instance-id"))[0] == 401
    token = await asker.token()
    assert await asker.ask("GET", "/latest/meta-data/instance-id", **{TOKEN: token}) == (200, b"i-1")


async def test_nothing_can_be_written(asker: Asker) -> None:
    for method in ("PUT", "POST", "DELETE"):
        assert (await asker.ask(method, "/latest/user-data"))[0] == 405


def test_every_folder_lists_what_is_below_it() -> None:
    leaves = tree(a_keyed_guest())
    for path in leaves:
        parts = path.split("/")
        for depth in range(len(parts)):
            names = (listing(leaves, "/".join(parts[:depth])) or "").splitlines()
            wanted = parts[depth] + ("/" if depth < len(parts) - 1 else "")
            assert wanted in names or parts[:2] == ["meta-data", "public-keys"]


@pytest.fixture
async def server() -> AsyncIterator[MetadataServer]:
    made = MetadataServer(ManualClock(), SeededEntropy(1), "127.0.0.1")
    yield made
    await made.close_all()


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_each_guest_has_a_port_of_its_own(server: MetadataServer) -> None:
    get = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    first = await server.open(GuestKey("i-1", 1), a_guest("i-1"))
    second = await server.open(GuestKey("i-2", 1), a_guest("i-2"))
    assert await server.open(GuestKey("i-1", 1), a_guest("i-1")) == first != second
    assert (await said(first, get)).endswith(b"\r\n\r\ni-1")
    assert (await said(second, get)).endswith(b"\r\n\r\ni-2")
    assert b"400" in await said(first, b"\x00\x01nonsense\r\n\r\n")

    await server.close(GuestKey("i-1", 1))
    with pytest.raises(OSError, match=r"refused|onnect"):
        await said(first, get)


# The attacks that a metadata service is known for.


async def test_the_token_and_nothing_else_is_bound_in_how_far_it_goes() -> None:
    asker = Asker(a_guest(metadata=MetadataOptions(hop_limit=2)))
    token = await asker.token()
    assert asker.hops == [2]
    await asker.ask("GET", "/latest/meta-data/mac", **{TOKEN: token})
    await asker.ask("PUT", "/latest/api/token", **{TTL: "0"})
    assert asker.hops == [2]


async def test_a_guest_whose_endpoint_is_disabled_is_told_nothing() -> None:
    asker = Asker(a_guest())
    token = await asker.token()
    asker.door.describe(a_guest(metadata=MetadataOptions(enabled=False)))
    for method, path in (("GET", "/latest/meta-data/mac"), ("PUT", "/latest/api/token"), ("GET", "/")):
        assert await asker.ask(method, path, **{TTL: "60", TOKEN: token}) == (403, b"403 - Forbidden")
    asker.door.describe(a_guest())
    assert (await asker.ask("GET", "/latest/meta-data/mac", **{TOKEN: token}))[0] == 200


async def test_another_description_holds_from_the_next_request_on() -> None:
    asker = Asker(a_guest())
    token = await asker.token()
    options = MetadataOptions(
        tokens_required=True, tags={"Name": "web-1", "ort": "Köln", "a/b": "x", "..": "y"}
    )
    asker.door.describe(a_guest(metadata=options))
    assert (await asker.ask("GET", "/latest/meta-data/tags/instance/Name"))[0] == 401
    assert await asker.ask("GET", "/latest/meta-data/tags/instance/", **{TOKEN: token}) == (200, b"Name\nort")
    told = await asker.ask("GET", "/latest/meta-data/tags/instance/ort", **{TOKEN: token})
    assert told == (200, "Köln".encode())


@pytest.mark.parametrize("name", [TOKEN, TTL])
async def test_a_header_that_is_there_twice_is_refused(asker: Asker, name: str) -> None:
    token = await asker.token()
    twice = [(name.encode(), token.encode()), (name.encode(), b"60")]
    assert (await asker.ask_with("GET", "/latest/meta-data/mac", twice))[0] == 400
    assert (await asker.ask_with("PUT", "/latest/api/token", twice))[0] == 400


@pytest.mark.parametrize("forwarded", ["", "127.0.0.1", "169.254.169.254"])
async def test_whatever_was_forwarded_gets_no_token(asker: Asker, forwarded: str) -> None:
    asked = [(TTL.encode(), b"60"), (b"x-forwarded-for", forwarded.encode()), (b"x-forwarded-for", b"x")]
    assert (await asker.ask_with("PUT", "/latest/api/token", asked))[0] == 403


async def test_the_launch_index_and_events_are_told(asker: Asker) -> None:
    asker.door.describe(a_guest(launch_index=3))
    assert await asker.ask("GET", "/latest/meta-data/ami-launch-index") == (200, b"3")
    assert await asker.ask("GET", "/latest/meta-data/events/maintenance/scheduled") == (200, b"[]")


GET = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"X: a\r\n" * 20_000 + b"\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"X\0Y: a\r\n\r\n",
        b" folded\r\n\r\n",
    ],
    ids=["long", "many", "two-lengths", "smuggled", "zero", "folded"],
)
async def test_a_head_that_is_none_is_refused_and_the_guest_is_served_on(
    server: MetadataServer, head: bytes
) -> None:
    port = await server.open(GuestKey("i-1", 1), a_guest("i-1"))
    try:
        answer = await said(port, b"GET /latest/meta-data/mac HTTP/1.1\r\nConnection: close\r\n" + head)
    except ConnectionResetError:
        answer = b""  # it was cut off while it was still talking
    assert not answer or answer.startswith(b"HTTP/1.1 400")
    assert (await said(port, GET)).endswith(b"\r\n\r\ni-1")


async def test_a_slow_guest_is_not_waited_for() -> None:
    server = MetadataServer(ManualClock(), SeededEntropy(1), "127.0.0.1", head_seconds=0.05)
    port = await server.open(GuestKey("i-1", 1), a_guest("i-1"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /latest/meta-data/ma")
    assert await reader.read() == b""
    writer.close()
    await server.close_all()


async def test_one_guest_has_so_many_connections_and_no_more(server: MetadataServer) -> None:
    mine = await server.open(GuestKey("i-1", 1), a_guest("i-1"))
    others = await server.open(GuestKey("i-2", 1), a_guest("i-2"))
    lines = [await asyncio.open_connection("127.0.0.1", mine) for _ in range(CONNECTIONS)]
    reader, writer = await asyncio.open_connection("127.0.0.1", mine)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert (await said(others, GET)).endswith(b"i-2")
    for _, each in (*lines, (reader, writer)):
        each.close()


async def test_an_answer_with_a_token_goes_as_far_as_it_may(server: MetadataServer) -> None:
    port = await server.open(GuestKey("i-1", 1), a_guest("i-1", metadata=MetadataOptions(hop_limit=3)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    (line,) = server._open[GuestKey("i-1", 1)].state.connections
    theirs = line.transport.get_extra_info("socket")  # type: ignore[union-attr]
    before = theirs.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)
    writer.write(f"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\n{TTL}: 60\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert theirs.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 3 != before
    writer.close()
