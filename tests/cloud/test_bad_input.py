"""Whatever comes in at the door gets a typed 4xx: never a 500, never HTML, never silence."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from tests.cloud.clouds import TestCloud

BODIES = (
    b"",
    b"\x00\xff\xfe" * 100,
    b"Action",
    b"Action=",
    b"Action=DescribeInstances",
    b"Action=NoSuchAction&Version=2016-11-15",
    b"Action=DescribeInstances&Version=1999-01-01",
    b"Action=RunInstances&Version=2016-11-15&MinCount=%zz",
    b"Action=DescribeInstances&Version=2016-11-15&Filter.99999999999.Name=x",
    b"<xml>" * 1000,
    b"&" * 10_000,
)


def _send(
    cloud: TestCloud, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes, str]:
    where = urlsplit(cloud.access.endpoint)
    link = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        link.request(method, path, body, headers)
        answer = link.getresponse()
        return answer.status, answer.read(), answer.headers.get("Content-Type", "")
    finally:
        link.close()


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_any_body_without_a_signature(cloud: TestCloud, method: str, body: bytes) -> None:
    status, text, kind = _send(
        cloud, method, "/", body, {"Content-Type": "application/x-www-form-urlencoded"}
    )

    assert 400 <= status < 500
    assert b"<html" not in text.lower()
    assert "xml" in kind or not text


@pytest.mark.parametrize(
    "header",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=AKIA/20260101/mallee-1/ec2/aws4_request, SignedHeaders=;;;, Signature="
        + "0" * 64,
        "Basic Zm9vOmJhcg==",
        "Bearer " + "x" * 4000,
    ],
)
def test_any_signature(cloud: TestCloud, header: str) -> None:
    body = b"Action=DescribeInstances&Version=2016-11-15"

    status, text, _ = _send(cloud, "POST", "/", body, {"Authorization": header})

    assert 400 <= status < 500
    assert b"<Code>" in text


def test_any_path(cloud: TestCloud) -> None:
    for path in ("/..%2f..%2fetc/passwd", "/%00", "/" + "a" * 8000, "/?X-Amz-Signature=1&X-Amz-Algorithm=zz"):
        status, _, _ = _send(cloud, "GET", path, b"", {})
        assert 400 <= status < 500, path


def test_bytes_that_are_no_http(cloud: TestCloud) -> None:
    where = urlsplit(cloud.access.endpoint)
    for noise in (
        b"\x16\x03\x01\x02\x00" * 50,
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as link:
            link.sendall(noise)
            link.shutdown(socket.SHUT_WR)
            answer = link.recv(4096)
        assert answer.startswith(b"HTTP/1.1 4"), answer
        assert b"<Code>InvalidRequest</Code>" in answer

    assert cloud.ec2.describe_regions()["Regions"], "and the door still opens"


def test_a_body_without_end_is_cut_off(cloud: TestCloud) -> None:
    where = urlsplit(cloud.access.endpoint)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as link:
        link.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        answer = link.recv(4096)

    assert answer.startswith(b"HTTP/1.1 4"), answer
