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
async def member(request: Any, transport: Transport, tmp_path: Path) -> AsyncIterator[tuple[str, Any]]:
    me = Identity("mallee", request.param, request.param)
    service: Any
    if request.param == "sc":
        service = StorageController(ScConfig(address=ANY), me, clock=CLOCK, transport=transport)
    else:
        service = walrus(transport, tmp_path)
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


def walrus(transport: Transport, folder: Path, port: int = 0) -> Walrus:
    """An object store whose cloud controller cannot be reached."""
    return Walrus(
        WalrusConfig(port=port, address=ANY, clc="127.0.0.1:1"),
        Identity("mallee", "walrus", "walrus"),
        folder=folder / "walrus",
        clock=CLOCK,
        entropy=SystemEntropy(),
        transport=transport,
    )


@pytest.fixture
async def s3(transport: Transport, tmp_path: Path) -> AsyncIterator[int]:
    service = walrus(transport, tmp_path)
    await service.start()
    yield service.s3_port
    await service.stop()


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


SIGNED = (
    b"\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAX/%b/mallee-1/s3/aws4_request, SignedHeaders="
    b"host;x-amz-content-sha256;x-amz-date, Signature=%b\r\nx-amz-date: %bT000000Z"
    b"\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD"
)


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (b"GET / HTTP/1.1", 403, "AccessDenied"),
        (b"PUT /nowhere/key%3Cscript%3E HTTP/1.1", 404, "NoSuchBucket"),
        (b"DELETE /nowhere/%00%01 HTTP/1.1", 400, "InvalidURI"),
        (b"POST /nowhere/key?restore HTTP/1.1", 501, "NotImplemented"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1", 404, "NoSuchBucket"),
    ],
)
async def test_every_request_is_refused_in_s3s_own_words(
    s3: int, line: bytes, status: int, code: str
) -> None:
    from xml.etree import ElementTree as ET

    answered, body = await _ask(
        s3, line + b"\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n12345"
    )

    error = ET.fromstring(body)
    assert (answered, error.findtext("Code")) == (status, code)
    assert error.findtext("RequestId")


async def test_a_key_that_nobody_can_be_asked_about_is_no_reason_to_refuse_for_good(s3: int) -> None:
    day = CLOCK.now().strftime("%Y%m%d").encode()
    moment = CLOCK.now().strftime("%Y%m%dT%H%M%SZ").encode()
    signed = SIGNED % (day, b"0" * 64, day)
    signed = signed.replace(day + b"T000000Z", moment)

    status, body = await _ask(s3, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close" + signed + b"\r\n\r\n")

    assert status == 503
    assert b"<Code>ServiceUnavailable</Code>" in body


async def test_a_head_has_no_body(s3: int) -> None:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", s3)
    writer.write(b"HEAD /bucket HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert raw.startswith(b"HTTP/1.1 404")
    assert raw.endswith(b"\r\n\r\n")


async def test_a_taken_port_is_a_sentence_and_leaves_nothing(transport: Transport, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        service = walrus(transport, tmp_path, held.getsockname()[1])

        with pytest.raises(Fault, match="cannot listen") as refused:
            await service.start()

        assert refused.value.code == "address-in-use"
        await service.stop()
