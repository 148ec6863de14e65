"""The object store behind TLS, with the operator's certificate: what SDKs send then, and who may come without."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mallee.kernel.clock import SystemClock
from tests.cloud.clouds import TestCloud
from tests.cloud.conftest import empty, refused
from tests.cloud.test_s3_clients import aws

MIB = 1 << 20
DAY = dt.timedelta(days=1)


class Secure(NamedTuple):
    """A cloud with HTTPS at the object store's own port and at the cloud's one door."""

    cloud: TestCloud
    authority: Path
    own: str
    door: str

    def client(self, endpoint: str, **more: Any) -> Any:
        access = self.cloud.access
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=access.region,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            verify=str(self.authority),
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
            **more,
        )


def certificate(folder: Path) -> tuple[Path, Path]:
    """One for this machine that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallee of a test")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    cert, key = certificate(folder)
    with socket.socket() as one, socket.socket() as two:
        ports = []
        for held in (
            one,
            two,
        ):  # bound and not listening: nobody else is given the port, and the cloud may have it
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        config = folder / "mallee.toml"
        config.write_text(
            "".join(
                f'[{service}.https]\ncertificate = "{cert}"\nkey = "{key}"\nport = {port}\n'
                for service, port in zip(("walrus", "clc"), ports, strict=True)
            )
        )
        options = ("--zones", "1", "--nodes", "1", "--instant", "--processes", "--config", str(config))
        cloud = TestCloud.start(folder / "state", *options)
        yield Secure(cloud, cert, *(f"https://127.0.0.1:{port}" for port in ports))
        cloud.stop()


@pytest.fixture(params=["own", "door"])
def endpoint(request: Any, secure: Secure) -> str:
    found: str = getattr(secure, request.param)
    return found


@pytest.fixture
def bucket(secure: Secure) -> Iterator[str]:
    s3 = secure.client(secure.own)
    s3.create_bucket(Bucket="behind-tls")
    yield "behind-tls"
    empty(s3, "behind-tls")


@pytest.mark.parametrize("size", [0, 10, 100_000, 5 * MIB + 1])
def test_what_boto3_sends_over_https(secure: Secure, endpoint: str, bucket: str, size: int) -> None:
    s3, sent, data = secure.client(endpoint), b"", os.urandom(size)

    def look(request: Any, **_: Any) -> None:
        nonlocal sent
        sent = request.headers["X-Amz-Content-SHA256"]

    s3.meta.events.register("before-send.s3.PutObject", look)
    put = s3.put_object(Bucket=bucket, Key="ä b", Body=io.BytesIO(data))
    assert sent in {"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"}
    got = s3.get_object(Bucket=bucket, Key="ä b", ChecksumMode="ENABLED")
    assert got["Body"].read() == data
    assert got["ChecksumCRC32"] == put["ChecksumCRC32"]
    if size:
        assert s3.get_object(Bucket=bucket, Key="ä b", Range="bytes=3-6")["Body"].read() == data[3:7]


def test_parts_over_https(secure: Secure, endpoint: str, bucket: str) -> None:
    s3, data, back = secure.client(endpoint), os.urandom(12 * MIB), io.BytesIO()
    s3.upload_fileobj(io.BytesIO(data), bucket, "parts")
    s3.download_fileobj(bucket, "parts", back)
    assert back.getvalue() == data
    assert s3.head_object(Bucket=bucket, Key="parts")["ETag"].endswith('-2"')


def test_a_policy_may_want_tls(secure: Secure, bucket: str) -> None:
    s3 = secure.client(secure.own)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_bucket_policy(
        Bucket=bucket,
        Policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*Object",
                    "Resource": f"arn:aws:s3:::{bucket}/*",
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
            }
        ),
    )
    access = secure.cloud.access
    for plain in (access.endpoint, access.s3_endpoint):
        with refused("AccessDenied", 403):
            secure.client(plain).get_object(Bucket=bucket, Key="k")
    for https in (secure.own, secure.door):
        assert secure.client(https).get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    s3.delete_bucket_policy(Bucket=bucket)


def test_aws_cli_with_a_ca_bundle(secure: Secure, endpoint: str, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(9 * MIB))
    over = ("--endpoint-url", endpoint, "--ca-bundle", str(secure.authority), "s3", "cp", "--no-progress")
    aws(secure.cloud, *over, str(tmp_path / "file"), f"s3://{bucket}/file")
    aws(secure.cloud, *over, f"s3://{bucket}/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


def test_who_does_not_know_the_certificate_is_not_served(secure: Secure, bucket: str, tmp_path: Path) -> None:
    said = aws(secure.cloud, "--endpoint-url", secure.own, "s3", "ls", f"s3://{bucket}", code=255)
    assert said == ""


def test_ec2_over_https(secure: Secure) -> None:
    access = secure.cloud.access
    ec2 = boto3.client(
        "ec2",
        endpoint_url=secure.door,
        region_name=access.region,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        verify=str(secure.authority),
    )
    assert ec2.describe_availability_zones()["AvailabilityZones"]
