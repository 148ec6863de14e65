"""The bounds of a connection before there is a request: bytes, time, and what is no HTTP at all."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from xml.etree import ElementTree as ET

import pytest
import uvicorn

from mallee.aws.errors import InvalidRequest
from mallee.aws.listener import HEAD_BYTES, listener
from mallee.aws.protocol.envelope import ec2_error
from mallee.kernel.entropy import SeededEntropy

WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"


async def answers(scope, receive, send) -> None:
    await receive()
    headers, body = [(b"content-length", b"2")], b"" if scope["method"] == "HEAD" else b"ok"
    if scope["path"] == "/whole" and scope["extensions"]["mallee.answer"](200, headers, body):
        return
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class House:
    """A server with the listener, and connections to it."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def say(self, *parts: bytes, until: bytes = b"") -> bytes:
        """Everything that comes back, to the end of the connection or to `until`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(5):
                return await (reader.readuntil(until) if until else reader.read())
        finally:
            writer.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house(head_seconds=0.2) as made:
        yield made


@pytest.fixture
async def patient() -> AsyncIterator[House]:
    """For what is not about time: a machine that stands still for a moment changes nothing."""
    async with a_house(head_seconds=30) as made:
        yield made


@asynccontextmanager
async def a_house(head_seconds: float) -> AsyncIterator[House]:
    refusal = partial(ec2_error, InvalidRequest("This is not a request that can be read."))
    protocol = listener(refusal, SeededEntropy(1), head_seconds=head_seconds)
    server = uvicorn.Server(
        uvicorn.Config(answers, http=protocol, lifespan="off", log_config=None, server_header=False)
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:  # who comes before the server is ready, waits
        serving = asyncio.create_task(server._serve(sockets=[listening]))
        yield House(listening.getsockname()[1])
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00" * 50,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_typed_xml(house: House, noise: bytes) -> None:
    head, _, body = (await house.say(noise)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head
    document = ET.fromstring(body)
    assert document.findtext(".//Code") == "InvalidRequest"
    request_id = document.findtext("RequestID")
    assert request_id
    assert request_id.encode() in head


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET /"])
async def test_a_head_without_end_is_cut_off(house: House, start: bytes) -> None:
    answer = await house.say(start, *[b"a" * 16_384] * (HEAD_BYTES // 16_384 + 1))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "start", [b"", b"GET /\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nConte", WHOLE + b"POST"]
)
async def test_a_head_that_does_not_come_is_not_waited_for(house: House, start: bytes) -> None:
    answer = await house.say(start)
    assert answer.count(b"HTTP/1.1 200 OK") == start.count(WHOLE)


async def test_a_body_may_take_longer_and_be_larger_than_a_head(house: House) -> None:
    size = 4 * HEAD_BYTES
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    assert b" 200 " in await house.say(head, b"a" * size, until=b"ok")


async def test_requests_follow_each_other(house: House) -> None:
    assert (await house.say(WHOLE * 3, until=b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_an_answer_that_is_given_whole_is_the_same_answer(house: House) -> None:
    def asked(method: bytes, path: bytes, *more: bytes) -> bytes:
        return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: x", *more, b"", b""))

    for method in (b"GET", b"HEAD"):
        parts, whole = [
            await house.say(asked(method, path), asked(method, path, b"Connection: close"))
            for path in (b"/", b"/whole")
        ]
        assert whole.count(b"HTTP/1.1 200 OK") == 2
        assert whole.count(b"\r\n\r\nok") == (0 if method == b"HEAD" else 2)
        assert [line for line in whole.split(b"\r\n") if b"date:" not in line] == [
            line for line in parts.split(b"\r\n") if b"date:" not in line
        ]


async def test_answers_that_are_given_whole_keep_their_order(patient: House) -> None:
    ask = b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await patient.say(ask * 5 + last)).count(b"\r\n\r\nok") == 6


async def test_hundreds_that_dribble_keep_nobody_waiting_and_are_cut_off(house: House) -> None:
    """Slowloris: heads that come byte by byte do not prolong their time, half of a body holds a connection alone."""

    async def dribble(start: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        try:
            writer.write(start)
            async with asyncio.timeout(5):
                while not reader.at_eof():
                    writer.write(b"X")
                    await writer.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.05):
                            return await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
        return b""

    half = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\nab"
    holding = [await asyncio.open_connection("127.0.0.1", house.port) for _ in range(100)]
    for _, writer in holding:
        writer.write(half)
    dribbling = [asyncio.create_task(dribble(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")) for _ in range(200)]
    for _ in range(5):
        assert (await house.say(WHOLE, until=b"ok")).startswith(b"HTTP/1.1 200 ")
    assert all(b" 200 " not in answer for answer in await asyncio.gather(*dribbling))
    for _, writer in holding:
        writer.close()
