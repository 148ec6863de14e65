"""What a guest may ask about itself, and what it may not: over HTTP, as a guest would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.nc.metadata.categories import listing, tree
from mallee.nc.metadata.door import LONGEST_TTL, MetadataDoor
from mallee.nc.metadata.server import MetadataServer
from tests.unit.nc.pretend import a_guest

TTL, TOKEN = "x-aws-ec2-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token"


def a_keyed_guest(**changed: Any) -> Guest:
    return a_guest(public_key="ssh-ed25519 AAAA me", key_name="mine", **changed)


class Asker:
    """Talks to a door as an HTTP server would."""

    def __init__(self, guest: Guest, *, secret: bytes = b"secret", required: bool = False) -> None:
        self.clock = ManualClock()
        self.door = MetadataDoor(guest, secret, self.clock, tokens_required=required)

    async def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": named}
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
        "/etc/passwd",
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
    asker = Asker(a_guest(), required=True)
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
