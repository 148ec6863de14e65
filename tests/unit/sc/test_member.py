"""The storage controller and the object store are members of the cloud, and honest about the rest."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httptools
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from mallee import __version__
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SystemEntropy
from mallee.kernel.errors import Fault
from mallee.kernel.pki import Authority, IssuedKeys
from mallee.kernel.rpc import Identity, Transport
from mallee.kernel.rpc.grpc_transport import GrpcTransport
from mallee.rpc.common_pb2 import DescribeRequest
from mallee.rpc.common_pb2_grpc import IntrospectionServiceStub
from mallee.sc.app import StorageController
from mallee.sc.config import ScConfig
from mallee.walrus.app import Walrus
from mallee.walrus.config import WalrusConfig

CLOCK = SystemClock()
ANY = "127.0.0.1:0"


@pytest.fixture
def transport(tmp_path: Path) -> Transport:
    return GrpcTransport(IssuedKeys(Authority.open(tmp_path, "mallee", CLOCK).issue, CLOCK))


@pytest.fixture(params=["sc", "walrus"])
async def member(request: Any, transport: Transport) -> AsyncIterator[tuple[str, Any]]:
    me = Identity("mallee", request.param, request.param)
    service: Any
    if request.param == "sc":
        service = StorageController(ScConfig(address=ANY), me, clock=CLOCK, transport=transport)
    else:
        config = WalrusConfig(port=0, address=ANY)
        service = Walrus(config, me, clock=CLOCK, entropy=SystemEntropy(), transport=transport)
    await service.start()
    yield request.param, service
    await service.stop()
    await service.stop()


async def test_it_says_who_it_is_and_that_it_is_well(member: tuple[str, Any], transport: Transport) -> None:
    role, service = member
    channel = transport.connect(Identity("mallee", "clc", "clc"), service.address, expect=role)
    try:
        told = await IntrospectionServiceStub(channel).Describe(DescribeRequest())
        health = await HealthStub(channel).Check(HealthCheckRequest())
    finally:
        await channel.close()

    assert (told.role, told.name, told.cloud, told.version) == (role, role, "mallee", __version__)
    assert told.uptime_seconds >= 0
    assert health.status == HealthCheckResponse.SERVING


@pytest.fixture
async def s3(transport: Transport) -> AsyncIterator[int]:
    config = WalrusConfig(port=0, address=ANY)
    me = Identity("mallee", "walrus", "walrus")
    walrus = Walrus(config, me, clock=CLOCK, entropy=SystemEntropy(), transport=transport)
    await walrus.start()
    yield walrus.s3_port
    await walrus.stop()


async def _ask(port: int, request: bytes) -> tuple[int, bytes]:
    """The status and body of the answer to these bytes."""
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    body: list[bytes] = []

    class Answer:
        def on_body(self, part: bytes) -> None:
            body.append(part)

    parser = httptools.HttpResponseParser(Answer())
    parser.feed_data(raw)
    return parser.get_status_code(), b"".join(body)


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"PUT /bucket/key%3Cscript%3E HTTP/1.1",
        b"DELETE /%00%01 HTTP/1.1",
        b"POST /?uploads HTTP/1.1",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1",
    ],
)
async def test_every_request_is_refused_in_s3s_own_words(s3: int, line: bytes) -> None:
    from xml.etree import ElementTree as ET

    status, body = await _ask(s3, line + b"\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345")

    assert status == 501
    error = ET.fromstring(body)
    assert error.findtext("Code") == "NotImplemented"
    assert error.findtext("RequestId")


async def test_a_head_has_no_body(s3: int) -> None:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", s3)
    writer.write(b"HEAD /bucket HTTP/1.1\r\nHost: x\r\n\r\n")
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert raw.startswith(b"HTTP/1.1 501")
    assert raw.endswith(b"\r\n\r\n")


async def test_a_taken_port_is_a_sentence_and_leaves_nothing(transport: Transport) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        config = WalrusConfig(port=held.getsockname()[1], address=ANY)
        me = Identity("mallee", "walrus", "walrus")
        walrus = Walrus(config, me, clock=CLOCK, entropy=SystemEntropy(), transport=transport)

        with pytest.raises(Fault, match="cannot listen") as refused:
            await walrus.start()

        assert refused.value.code == "address-in-use"
        await walrus.stop()
