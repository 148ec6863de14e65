"""Every port of every service, spoken to by strangers: a closed connection or a typed 4xx, and nothing breaks."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import Authority, IssuedKeys
from mallee.kernel.rpc import Identity
from mallee.kernel.rpc.grpc_transport import GrpcTransport
from mallee.rpc import cluster_pb2, node_pb2
from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub
from mallee.rpc.node_pb2_grpc import NodeServiceStub
from tests.cloud.clouds import TestCloud

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
NOISES = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "plain http/2": HTTP2,
    "half a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bytes": bytes(range(256)) * 40,
}


def resident(pid: int) -> int:
    """KiB of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def say(port: int, noise: bytes) -> bytes:
    """What comes back, to the end; a connection that is cut off says nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        try:
            link.sendall(noise)
            link.shutdown(socket.SHUT_WR)
            answer = b""
            while more := link.recv(65_536):
                answer += more
        except TimeoutError:
            raise
        except OSError:
            return b""
        return answer


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCloud]:
    options = ("--processes", "--zones", "1", "--nodes", "1", "--instant")
    made = TestCloud.start(tmp_path_factory.mktemp("ports") / "state", *options)
    yield made
    assert made.stop() == 0


def rpc_ports(cloud: TestCloud) -> dict[str, int]:
    shape = cloud.folder.shape()
    assert shape is not None
    return {name: port for name, port in shape.ports.items() if name not in {"ec2", "s3"}}


def test_ports_between_services_close_on_strangers(processes: TestCloud) -> None:
    for name, port in rpc_ports(processes).items():
        for kind, noise in NOISES.items():
            assert b"HTTP/1.1 5" not in say(port, noise), (name, kind)
    still_well(processes)


def stranger(*certificate: Path) -> ssl.SSLContext:
    """A client that believes any server, and shows the certificate it is given, if any."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def test_without_a_certificate_of_this_cloud_nothing_opens(processes: TestCloud, tmp_path: Path) -> None:
    """Not even with one that says the right name: another authority signed it."""
    clock = SystemClock()
    real = Authority.open(processes.folder.keys, "mallee", clock)
    forged = Authority.create(real.cloud, clock).issue(Identity(real.cloud, "cc", "mallee-1a"))
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(forged.certificate)
    key.write_bytes(forged.key)
    for name, port in rpc_ports(processes).items():
        if name == "join":  # takes tokens from whoever has no certificate yet
            continue
        for context in (stranger(), stranger(chain, key)):
            assert spoken_over_tls(port, context) == b"", name
    still_well(processes)


async def test_a_service_may_call_only_what_its_role_may(processes: TestCloud) -> None:
    """A stolen key of a node: neither the books of its zone nor another node's guests."""
    clock = SystemClock()
    authority = Authority.open(processes.folder.keys, "mallee", clock)
    thief = Identity(authority.cloud, "nc", "mallee-1a-node-1")
    transport = GrpcTransport(IssuedKeys(authority.issue, clock))
    ports = rpc_ports(processes)
    cluster = transport.connect(thief, f"127.0.0.1:{ports['cc-mallee-1a']}", expect="cc")
    node = transport.connect(thief, f"127.0.0.1:{ports['nc-mallee-1a-node-1']}", expect="nc")
    try:
        for forbidden in (
            ClusterServiceStub(cluster).Place(cluster_pb2.PlaceRequest()),
            ClusterServiceStub(cluster).Migrate(cluster_pb2.MigrateRequest()),
            NodeServiceStub(node).Resume(node_pb2.ResumeRequest()),
        ):
            with pytest.raises(Fault) as refused:
                await forbidden
            assert refused.value.kind is Kind.FORBIDDEN
    finally:
        await cluster.close()
        await node.close()


def spoken_over_tls(port: int, context: ssl.SSLContext) -> bytes:
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as link,
            context.wrap_socket(link) as secure,
        ):
            secure.sendall(HTTP2)
            return secure.recv(1000)
    except (ssl.SSLError, ConnectionResetError):
        return b""


def test_noise_takes_no_memory(processes: TestCloud) -> None:
    ports = [*rpc_ports(processes).values(), int(processes.access.endpoint.rpartition(":")[2])]

    def noise() -> None:
        for port in ports:
            for _ in range(30):
                say(port, os.urandom(2_000))

    noise()
    before = {name: resident(pid) for name, pid in processes.folder.pids().items()}
    noise()
    grown = {name: resident(pid) - before[name] for name, pid in processes.folder.pids().items()}
    assert max(grown.values()) < 8_192, grown


def still_well(cloud: TestCloud) -> None:
    assert cloud.folder.pids() == cloud.access.pids, "nobody died of it"
    cloud.run(1)
    cloud.clear()
