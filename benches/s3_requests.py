"""Server CPU per S3 request beside moto_server and `rclone serve s3`, and beside what the machine itself needs.

    python benches/s3_requests.py [--rounds 5] [--small 300] [--large 4] [--keys 1000000] [--folder DIR]

Mallee's figure is the CPU of the object store's process, at its own port. moto keeps everything in memory and
checks nothing; rclone serves a folder and checks signatures, as Mallee does, and syncs nothing. The limits are
bare loops: `sendfile` of the same file to the same client, MD5 over the same bytes, and for a small durable PUT
one that appends the body to a file and syncs it, with nothing of S3.

Small requests are asked over one connection, which waits for each answer, and over 32 at once. The first makes
the server sleep and wake for every request, and sync for every PUT; the second is what a busy store does.

Large uploads come with `UNSIGNED-PAYLOAD`, so that MD5 is the one hash that S3 itself asks for; what boto3 sends
over http (a SHA-256 and a CRC-32 of the body, both verified) has a row of its own. The listings are of keys
that were put straight into the tables: a million PUTs would take longer than all the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from harness import HERE, RawClient, Row, Server, cpu_ms, mallee, moto, report

KIB, MIB = 1 << 10, 1 << 20
SMALL, LARGE = 1 * KIB, 64 * MIB
BUCKET = "bench"
CROWD = 32
SENDFILE = """
import os, socket, sys
file = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(file).st_size
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)
while True:
    line, _ = door.accept()
    while line.recv(65536):
        line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
        at = 0
        while at < size:
            at += os.sendfile(line.fileno(), file, at, size - at)
"""

DURABLE = """
import os, socket, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)
while True:
    line, _ = door.accept()
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while asked := line.recv(65536):
        os.write(file, asked)
        os.fdatasync(file)
        line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


class S3Client(RawClient):
    """Signs as S3 wants it; an answer's body is read past, not kept."""

    def ask(
        self, method: str, path: str, body: bytes = b"", *, signed: bool = True, checksum: bool = False
    ) -> bytes:
        """A request as bytes."""
        s = self.server
        headers = {} if signed else {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
        if checksum:
            headers["x-amz-checksum-crc32"] = b64encode(zlib.crc32(body).to_bytes(4)).decode()
        request = AWSRequest(
            method, f"http://{s.host}:{s.port}{path}", headers, body if method == "PUT" else b""
        )
        if signed:
            request.headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
        request.context["payload_signing_enabled"] = signed
        request.context["client_config"] = None
        _Auth(Credentials(s.key, s.secret), "s3", s.region).add_auth(request)
        lines = [f"{method} {path} HTTP/1.1\r\nHost: {s.host}:{s.port}\r\nContent-Length: {len(body)}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        return "".join([*lines, "\r\n"]).encode() + body

    def do(self, prepared: bytes) -> bytes:
        status, body = self.send(prepared)
        if status not in {200, 204}:
            raise RuntimeError(f"{self.server.name}: {status} {body[:400]!r}")
        return body

    def drain(self, prepared: bytes, size: int) -> None:
        """Send a request and read an answer of `size` bytes into one buffer."""
        self._sock.sendall(prepared)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._sock.recv(4096)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{self.server.name}: {head[:300]!r}")
        left, buffer = size - len(head.partition(b"\r\n\r\n")[2]), bytearray(MIB)
        while left:
            left -= self._sock.recv_into(buffer, min(len(buffer), left))


class _Auth(S3SigV4Auth):
    """The payload is stated by whoever prepares the request."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["x-amz-content-sha256"])

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        kept = request.headers["x-amz-content-sha256"]
        super()._modify_request_before_signing(request)
        del request.headers["x-amz-content-sha256"]
        request.headers["x-amz-content-sha256"] = kept


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    """Rclone as an S3 server over a folder, from its own distribution on PyPI."""
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(HERE / "rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", "AKIDEXAMPLE,secret", "--config", "/dev/null"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield Server("rclone", "127.0.0.1", port, [process.pid])
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def bare(name: str, program: str, file: Path) -> Iterator[Server]:
    """The least that can answer: the kernel sends one file, or keeps what it is sent."""
    process = subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Server(name, "127.0.0.1", int(process.stdout.readline()), [process.pid])
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()  # type: ignore[union-attr]


def _wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def at_its_own_port(cloud: Server) -> Server:
    """The object store alone: its port, its process."""
    host, port = str(cloud.facts["s3_endpoint"]).removeprefix("http://").split(":")
    return replace(cloud.only("walrus"), host=host, port=int(port))


def rounds(
    count: int, times: int, sides: dict[str, tuple[Server, Callable[[], object]]]
) -> dict[str, list[float]]:
    """Milliseconds of CPU of each side, in turns; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(count + 1):
        for name, (server, work) in sides.items():
            spent = cpu_ms(server, work, times)
            if number:
                found[name].append(spent)
    return found


class Crowd:
    """Many connections in one thread: each asks again when it has its answer. A prepared request each."""

    def __init__(self, server: Server, asked: list[bytes]) -> None:
        self._server = server
        self._asked = asked
        self._selector = selectors.DefaultSelector()
        self._left = self._missing = 0

    def run(self, total: int) -> None:
        """So many answers, all of them good."""
        self._left = self._missing = total
        for number in range(len(self._asked)):
            self._connect(number)
        while self._missing:
            for key, _ in self._selector.select():
                self._read(key.fileobj, *key.data)  # type: ignore[arg-type]  # sockets alone are registered
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)  # type: ignore[arg-type]

    def _connect(self, number: int) -> None:
        line = socket.create_connection((self._server.host, self._server.port))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(line, selectors.EVENT_READ, (number, bytearray()))
        self._ask(line, number)

    def _ask(self, line: socket.socket, number: int) -> None:
        if self._left:
            self._left -= 1
            line.sendall(self._asked[number])

    def _close(self, line: socket.socket) -> None:
        self._selector.unregister(line)
        line.close()

    def _read(self, line: socket.socket, number: int, found: bytearray) -> None:
        found += line.recv(65536)
        head, ended, body = bytes(found).partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not ended or len(body) < int(length[1] if length else 0):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{self._server.name}: {bytes(found)[:400]!r}")
        found.clear()
        self._missing -= 1
        if re.search(rb"(?i)\r\nconnection: *close", head):  # moto does, after each answer
            self._close(line)
            if self._left:
                self._connect(number)
        else:
            self._ask(line, number)


def crowded(chosen: argparse.Namespace, servers: list[Server]) -> list[Row]:
    """The small requests over 32 connections at once, a key for each."""
    body, rows = os.urandom(SMALL), []
    for verb in ("GET", "PUT"):
        sides: dict[str, tuple[Server, Callable[[], object]]] = {}
        for server in servers:
            client = S3Client(server)
            paths = [f"/{BUCKET}/crowd{number}" for number in range(CROWD)]
            puts = [client.ask("PUT", path, body) for path in paths]
            for put in puts:
                client.do(put)
            client.close()
            crowd = Crowd(server, puts if verb == "PUT" else [client.ask("GET", path) for path in paths])
            sides[server.name] = (server, lambda crowd=crowd: crowd.run(chosen.small))
        found = {
            name: [spent / chosen.small for spent in each]
            for name, each in rounds(chosen.rounds, 1, sides).items()
        }
        rows += [
            Row(f"{verb} 1 KiB, {CROWD} connections, {peer}", found["mallee"], found[peer])
            for peer in ("moto", "rclone")
        ]
    return rows


def small(chosen: argparse.Namespace, servers: list[Server], folder: Path) -> list[Row]:
    body = os.urandom(SMALL)
    puts, gets = {}, {}
    for server in servers:
        client = S3Client(server)
        put, get = client.ask("PUT", f"/{BUCKET}/small", body), client.ask("GET", f"/{BUCKET}/small")
        client.do(put)
        assert client.do(get) == body
        puts[server.name] = (server, lambda client=client, put=put: client.do(put))
        gets[server.name] = (server, lambda client=client, get=get: client.do(get))
    rows = []
    with bare("sync", DURABLE, folder / "synced") as limit:
        client = S3Client(limit)
        kept = client.ask("PUT", f"/{BUCKET}/small", body)
        puts["sync"] = (limit, lambda: client.do(kept))
        for name, sides in (("GET 1 KiB", gets), ("PUT 1 KiB", puts)):
            found = rounds(chosen.rounds, chosen.small, sides)
            rows += [Row(f"{name}, {peer}", found["mallee"], found[peer]) for peer in ("moto", "rclone")]
        rows.append(Row("PUT 1 KiB, a bare loop that syncs (limit)", found["mallee"], found["sync"]))
    return rows


def large(chosen: argparse.Namespace, store: Server, peer: Server, folder: Path) -> list[Row]:
    body = os.urandom(MIB) * (LARGE // MIB)
    file = folder / "limit"
    file.write_bytes(body)
    rows = []
    with bare("sendfile", SENDFILE, file) as limit:
        puts, gets = {}, {}
        for server in (store, peer):
            client = S3Client(server)
            put = client.ask("PUT", f"/{BUCKET}/large", body, signed=False)
            client.do(put)
            get = client.ask("GET", f"/{BUCKET}/large")
            puts[server.name] = (server, lambda client=client, put=put: client.do(put))
            gets[server.name] = (server, lambda client=client, get=get: client.drain(get, LARGE))
        loop = S3Client(limit)
        gets["sendfile"] = (limit, lambda: loop.drain(b"GET / HTTP/1.1\r\n\r\n", LARGE))
        found = rounds(chosen.rounds, chosen.large, gets)
        rows.append(Row("GET 64 MiB, sendfile loop (limit)", found["mallee"], found["sendfile"]))
        rows.append(Row("GET 64 MiB, rclone", found["mallee"], found["rclone"]))
    whole = S3Client(store)
    as_boto3 = whole.ask("PUT", f"/{BUCKET}/boto3", body, checksum=True)
    here = Server("md5", "", 0, [os.getpid()])
    puts["md5"] = (here, lambda: _md5(body))
    puts["boto3"] = (store, lambda: whole.do(as_boto3))
    found = rounds(chosen.rounds, chosen.large, puts)
    rows.append(Row("PUT 64 MiB, MD5 loop (limit)", found["mallee"], found["md5"]))
    rows.append(Row("PUT 64 MiB, rclone", found["mallee"], found["rclone"]))
    rows.append(Row("PUT 64 MiB as boto3 signs it, MD5 loop", found["boto3"], found["md5"]))
    return rows


def _md5(body: bytes) -> None:
    digest, view = hashlib.md5(usedforsecurity=False), memoryview(body)
    for at in range(0, len(body), MIB):
        digest.update(view[at : at + MIB])


def memory(store: Server) -> float:
    """MiB by which the object store grows at the most while eight uploads of 64 MiB come at once."""
    body = os.urandom(MIB) * (LARGE // MIB)
    clients = [S3Client(store) for _ in range(8)]
    asked = [client.ask("PUT", f"/{BUCKET}/grow{n}", body, signed=False) for n, client in enumerate(clients)]
    pid = store.pids[0]
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high-water mark begins anew
    before = store.rss_mib()
    threads = [
        threading.Thread(target=client.do, args=(one,)) for client, one in zip(clients, asked, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / KIB - before


def grouped(store: Server, connections: int, total: int) -> tuple[float, float]:
    """Durable PUTs of 1 KiB over many connections: a second, and per fsync."""
    clients = [S3Client(store) for _ in range(connections)]
    asked = [client.ask("PUT", f"/{BUCKET}/group{n}", os.urandom(SMALL)) for n, client in enumerate(clients)]

    def work(client: S3Client, one: bytes) -> None:
        for _ in range(total // connections):
            client.do(one)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, asked, strict=True)]
    before, began = _commits(store), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    return total / took, total / (_commits(store) - before)


def _commits(store: Server) -> float:
    with urllib.request.urlopen(f"http://{store.host}:{store.port}/-/metrics") as answer:
        found = re.search(rb"^mallee_db_commits_total ([0-9.e+]+)$", answer.read(), re.MULTILINE)
    assert found
    return float(found[1])


def filled(folder: Path, name: str, keys: int) -> None:
    """Keys straight into the tables of an object store that does not run."""
    from objects_store import new_object

    from mallee.kernel.db import Database, Tx
    from mallee.walrus.db import METADATA, buckets, contents, objects
    from mallee.walrus.store.rows import object_row

    async def work() -> None:
        db = await Database.open(f"sqlite:///{folder}/walrus.db", metadata=METADATA)
        content = contents.ContentRow(b"0" * 16, 1, SMALL, SMALL, b"", b"", None, b"")
        row = object_row(new_object(b""), b"", content, "", 0)._replace(version_id="null", rank=-1)

        def put(tx: Tx, first: int, last: int) -> None:
            found = buckets.find(tx, name)
            assert found
            own = row._replace(bucket=found.number, owner=found.owner)
            for number in range(first, last):
                objects.put(tx, own._replace(key=f"{number:08}-some-name.jpg".encode()))

        for first in range(0, keys, 10_000):
            await db.transact(lambda tx, first=first: put(tx, first, min(first + 10_000, keys)))
        await db.close()

    asyncio.run(work())


def listings(chosen: argparse.Namespace, folder: Path) -> list[Row]:
    """A page of 1,000 keys: of a bucket that has no more, and of one that has a million."""
    keep = folder / "listed"
    keep.mkdir()
    flags = ("--processes", "--zones", "1", "--nodes", "1")
    with mallee(*flags, keep=keep) as cloud:
        client = S3Client(at_its_own_port(cloud))
        for name in ("few", "many"):
            client.do(client.ask("PUT", f"/{name}-keys"))
    for name, keys in (("few", 1000), ("many", chosen.keys)):
        filled(keep / "state/services/walrus", f"{name}-keys", keys)
    with mallee(*flags, keep=keep) as cloud:
        store = at_its_own_port(cloud)
        client = S3Client(store)
        sides = {}
        for name in ("few", "many"):
            after = "&start-after=00500000" if name == "many" and chosen.keys > 600_000 else ""
            asked = client.ask("GET", f"/{name}-keys?list-type=2&max-keys=1000{after}")
            assert client.do(asked).count(b"<Key>") == 1000
            sides[name] = (store, lambda asked=asked: client.do(asked))
        found = rounds(chosen.rounds, 20, sides)
    return [Row(f"LIST 1,000 of {chosen.keys:,} keys, of 1,000 (limit)", found["many"], found["few"])]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--small", type=int, default=300, help="small requests of a round")
    options.add_argument("--large", type=int, default=4, help="large requests of a round")
    options.add_argument("--keys", type=int, default=1_000_000)
    options.add_argument("--folder", help="on the disk that is to be measured")
    chosen = options.parse_args()
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir=chosen.folder)))
        (folder / "cloud").mkdir()
        flags = ("--processes", "--zones", "1", "--nodes", "1")
        store = at_its_own_port(held.enter_context(mallee(*flags, keep=folder / "cloud")))
        theirs, program = held.enter_context(moto()), held.enter_context(rclone(folder / "rclone"))
        for server in (store, theirs):
            client = S3Client(server)
            client.do(client.ask("PUT", f"/{BUCKET}"))
        rows = small(chosen, [store, theirs, program], folder)
        rows += crowded(chosen, [store, theirs, program])
        rows += large(chosen, store, program, folder)
        grown = memory(store)
        pairs = [grouped(store, 32, 3200) for _ in range(chosen.rounds)]
        rows += listings(chosen, folder)
    rate, per_sync = (statistics.median(each) for each in zip(*pairs, strict=True))
    report(
        "S3: CPU of the object store's process per request",
        rows,
        memory_growth_mib=grown,
        puts_per_fsync=per_sync,
        puts_per_second=rate,
    )
    print(f"memory growth with 8 uploads of 64 MiB at once: {grown:.1f} MiB")
    print(f"durable PUTs of 1 KiB at 32 connections: {per_sync:.1f} per fsync, {rate:.0f}/s")


if __name__ == "__main__":
    main()
