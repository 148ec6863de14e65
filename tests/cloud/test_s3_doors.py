"""One endpoint for everything: what is for S3 goes on to the object store, in one process and between processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from mallee.kernel.clock import SystemClock
from tests.cloud.clouds import TestCloud
from tests.cloud.conftest import empty, refused

MIB = 1 << 20
CLOCK = SystemClock()


@pytest.fixture(scope="module", params=["together", "processes"])
def apart(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    """A cloud in one process, and one in many."""
    options = ("--zones", "1", "--nodes", "1", "--instant")
    options += ("--processes",) if request.param == "processes" else ()
    made = TestCloud.start(tmp_path_factory.mktemp("apart") / "state", *options)
    yield made
    if made.process.poll() is None:
        made.stop()


@pytest.fixture
def s3(apart: TestCloud) -> Any:
    return apart.client("s3")


@pytest.fixture
def bucket(s3: Any) -> Iterator[str]:
    s3.create_bucket(Bucket="through-the-door")
    yield "through-the-door"
    empty(s3, "through-the-door")


def ask(apart: TestCloud, method: str, path: str, **more: Any) -> Any:
    return urllib3.PoolManager().request(method, f"{apart.access.endpoint}{path}", retries=False, **more)


def test_one_endpoint_serves_all(apart: TestCloud, s3: Any, bucket: str) -> None:
    data = os.urandom(12 * MIB)
    s3.put_object(Bucket=bucket, Key="a/ä +%.txt", Body=data)
    assert s3.get_object(Bucket=bucket, Key="a/ä +%.txt")["Body"].read() == data
    assert s3.get_object(Bucket=bucket, Key="a/ä +%.txt", Range="bytes=5-9")["Body"].read() == data[5:10]
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix="a/")["Contents"]] == [
        "a/ä +%.txt"
    ]
    assert apart.client("ec2").describe_availability_zones()["AvailabilityZones"]
    assert apart.client("sts").get_caller_identity()["Account"] == apart.access.account_id
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="none")


def test_what_is_not_signed_goes_where_it_belongs(apart: TestCloud, bucket: str) -> None:
    assert b"<Response><Errors>" in ask(apart, "GET", "/?Action=DescribeRegions&Version=2016-11-15").data
    assert ask(apart, "GET", "/healthz").data == b"ok\n"
    assert b"mallee_" in ask(apart, "GET", "/metrics").data
    said = ask(apart, "GET", f"/{bucket}/key")
    assert (said.status, b"<Error><Code>AccessDenied</Code>" in said.data) == (403, True)
    by_host = ask(apart, "GET", "/", headers={"Host": f"{bucket}.s3.localhost"})
    assert (by_host.status, b"<Code>AccessDenied</Code>" in by_host.data) == (403, True)
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    assert b"AccessForbidden" in ask(apart, "OPTIONS", f"/{bucket}/key", headers=preflight).data
    head = ask(apart, "HEAD", f"/{bucket}/key")
    assert (head.status, head.data) == (403, b"")


def test_buckets_may_be_called_as_the_door_calls_its_own_pages(s3: Any) -> None:
    for name in ("metrics", "healthz"):
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="k", Body=b"x")
        assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 1
        empty(s3, name)


def test_a_form_and_a_link(s3: Any, bucket: str) -> None:
    http = urllib3.PoolManager()
    form = s3.generate_presigned_post(bucket, "k")
    assert http.request("POST", form["url"], fields=form["fields"] | {"file": ("f", b"form")}).status == 204
    link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    assert http.request("GET", link).data == b"form"


def test_a_refusal_comes_before_the_body_is_sent(apart: TestCloud, bucket: str) -> None:
    import socket

    host, port = apart.access.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(
            f"PUT /{bucket}/k HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000000\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 403")


def test_the_callers_address_is_the_callers(apart: TestCloud, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"near")
    s3.delete_public_access_block(Bucket=bucket)
    for network, status in (("127.0.0.0/8", 200), ("192.0.2.0/24", 403)):
        statement = {
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket}/*", "Condition": {"IpAddress": {"aws:SourceIp": network}},
        }  # fmt: skip
        s3.put_bucket_policy(
            Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )
        for where in (apart.access.endpoint, apart.access.s3_endpoint):
            for forged in ({}, {"X-Mallee-Forwarded-For": "x 192.0.2.1"}, {"X-Forwarded-For": "192.0.2.1"}):
                said = urllib3.PoolManager().request("GET", f"{where}/{bucket}/k", headers=forged)
                assert said.status == status, (where, forged)


def test_many_through_the_door_at_once(s3: Any, bucket: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    bodies = {f"k{number}": os.urandom(300_000 + number) for number in range(24)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: s3.put_object(Bucket=bucket, Key=item[0], Body=item[1]), bodies.items()))
        found = list(pool.map(lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read(), bodies))
    assert found == list(bodies.values())


@pytest.mark.parametrize("apart", ["processes"], indirect=True)
def test_the_object_store_comes_back_and_has_everything(apart: TestCloud, s3: Any, bucket: str) -> None:
    """kill -9 of the object store: the door says 503, the supervisor starts another, nothing is lost."""
    for number in range(20):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=os.urandom(30_000))
    os.kill(apart.folder.pids()["walrus"], signal.SIGKILL)
    ends, statuses = CLOCK.monotonic() + 30, set[int]()
    while 403 not in statuses and CLOCK.monotonic() < ends:
        statuses.add(ask(apart, "GET", f"/{bucket}/k0").status)
    assert statuses <= {403, 503}
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 20
    assert len(s3.get_object(Bucket=bucket, Key="k7")["Body"].read()) == 30_000


@pytest.mark.parametrize("apart", ["processes"], indirect=True)
def test_who_hangs_up_is_not_read_to(apart: TestCloud, s3: Any, bucket: str) -> None:
    """The door stops reading from the object store when nobody takes what it reads."""
    import socket

    s3.put_object(Bucket=bucket, Key="large", Body=bytes(200 * MIB))
    link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "large"})
    host, port = apart.access.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(f"GET {link.partition(port)[2]} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 200")
    log = apart.folder.logs / "walrus.log"
    ends, told = CLOCK.monotonic() + 20, ""
    while not told and CLOCK.monotonic() < ends:
        lines = log.read_text().splitlines()
        told = next((each for each in lines if "GetObject" in each and "key=large" in each), "")
    assert "code=Disconnected" in told
