"""What every bench shares: a raw client, two servers side by side, CPU by the kernel's own accounts.

The figure is CPU time (user + system) of the server's processes per request, because wall time on a
shared machine moves threefold with its neighbours. Rounds are interleaved (ours, theirs, ours, ...), a
warm-up round is thrown away, and a claim is the median of the rounds' ratios. The client is a plain
socket with keep-alive: through boto3 its own parsing would hide the server.
"""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HERE = Path(sys.executable).parent


@dataclass
class Server:
    """A running server: where it is, which processes it is, how to sign for it."""

    name: str
    host: str
    port: int
    pids: list[int]
    key: str = "AKIDEXAMPLE"
    secret: str = "secret"
    region: str = "us-east-1"
    facts: dict[str, object] = field(default_factory=dict)

    def cpu(self) -> float:
        """Seconds of CPU that all its processes have used so far."""
        return sum(_cpu_of(pid) for pid in self.pids)

    def only(self, service: str) -> Server:
        """The same server, with the CPU and memory of one of its services (`--processes` keeps them apart)."""
        return replace(self, pids=[self.facts["pids"][service]])  # type: ignore[index]

    def rss_mib(self) -> float:
        """Resident memory of all its processes."""
        return sum(_rss_of(pid) for pid in self.pids)


def _cpu_of(pid: int) -> float:
    # The kernel's clock of another process: nanoseconds, threads that have ended included. Its number is made
    # as the C library's clock_getcpuclockid makes it.
    return time.clock_gettime((~pid << 3) | 2)


def _rss_of(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


class RawClient:
    """One keep-alive connection that signs, sends and reads, and parses nothing."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connect()

    def _connect(self) -> None:
        self._sock = socket.create_connection((self.server.host, self.server.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def prepare(self, action: str, params: Mapping[str, object] | None = None) -> bytes:
        """A signed request as bytes; good for as long as the server accepts its date."""
        form = {"Action": action, "Version": "2016-11-15"} | {k: str(v) for k, v in (params or {}).items()}
        body = urlencode(form).encode()
        s = self.server
        request = AWSRequest(
            method="POST",
            url=f"http://{s.host}:{s.port}/",
            data=body,
            headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        )
        SigV4Auth(Credentials(s.key, s.secret), "ec2", s.region).add_auth(request)
        lines = [f"POST / HTTP/1.1\r\nHost: {s.host}:{s.port}\r\nContent-Length: {len(body)}\r\n"]
        lines += [f"{k}: {v}\r\n" for k, v in request.headers.items()]
        return "".join([*lines, "\r\n"]).encode() + body

    def send(self, prepared: bytes) -> tuple[int, bytes]:
        """Status and body. A server that closes after each answer (moto does) gets a new connection."""
        if select.select([self._sock], [], [], 0)[0]:  # it hung up while nothing was asked
            self.close()
            self._connect()
        self._sock.sendall(prepared)
        status = int(self._file.readline().split()[1])
        length, chunked, closes = 0, False, False
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"transfer-encoding":
                chunked = b"chunked" in value.lower()
            elif name.lower() == b"connection":
                closes = b"close" in value.lower()
        body = self._chunks() if chunked else self._file.read(length)
        if closes:
            self.close()
            self._connect()
        return status, body

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._file.readline(), 16):
            parts.append(self._file.read(size))
            self._file.readline()
        self._file.readline()
        return b"".join(parts)

    def call(self, action: str, params: Mapping[str, object] | None = None) -> bytes:
        status, body = self.send(self.prepare(action, params))
        if status != 200:
            raise RuntimeError(f"{self.server.name} {action}: {status} {body[:400]!r}")
        return body


@contextlib.contextmanager
def mallee(*flags: str, config: str = "", keep: Path | None = None) -> Iterator[Server]:
    """A whole cloud, as `mallee up` starts it."""
    folder = keep or Path(tempfile.mkdtemp(prefix="mallee-bench-"))
    command = [str(HERE / "mallee"), "up", "--json", "--port", "0", "--state", str(folder / "state"), *flags]
    if config:
        (folder / "mallee.toml").write_text(config)
        command += ["--config", str(folder / "mallee.toml")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"mallee up did not start: {(folder / 'log').read_text()[-2000:]}")
        facts = json.loads(line)
        host, port = facts["endpoint"].removeprefix("http://").rstrip("/").split(":")
        pids = sorted({process.pid, *facts["pids"].values()})
        yield Server(
            "mallee",
            host,
            int(port),
            pids,
            facts["access_key_id"],
            facts["secret_access_key"],
            facts["region"],
            facts,
        )
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()  # type: ignore[union-attr]
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """The pinned moto server, which saves nothing and checks no signature."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(HERE / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/moto-api/", 60)
        yield Server("moto", "127.0.0.1", port, [process.pid])
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def cpu_ms(server: Server, work: Callable[[], object], times: int) -> float:
    """Milliseconds of the server's CPU for each of `times` runs of `work`."""
    return cpus_ms([server], work, times)[0]


def cpus_ms(servers: Sequence[Server], work: Callable[[], object], times: int) -> list[float]:
    """The same of several servers, or parts of one, in the same runs."""
    before = [server.cpu() for server in servers]
    for _ in range(times):
        work()
    return [(server.cpu() - was) * 1000 / times for server, was in zip(servers, before, strict=True)]


@dataclass
class Row:
    """One measure: ours, theirs (or a limit), and the ratio of each round.

    Attributes:
        whole: ours with all that is not in `ours`: the other services of the cloud.
    """

    name: str
    ours: list[float]
    theirs: list[float]
    unit: str = "ms CPU"
    whole: list[float] = field(default_factory=list)

    def line(self) -> str:
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        ratios = sorted(t / o for o, t in zip(self.ours, self.theirs, strict=True))
        return (
            f"{self.name:48} {ours:10.3f} {theirs:10.3f} {self.unit:8} "
            f"{statistics.median(ratios):8.1f}x  ({ratios[0]:.1f} - {ratios[-1]:.1f})"
            + (f"  whole cloud {statistics.median(self.whole):.3f}" if self.whole else "")
        )


def calibration_ms() -> float:
    """A fixed loop: how fast this core is at this moment."""
    began = time.process_time()
    sum(i * i for i in range(200_000))
    return (time.process_time() - began) * 1000


def report(title: str, rows: list[Row], **facts: object) -> None:
    """Print the table, and the same as one JSON line for whoever keeps records."""
    print(f"\n{title}\n{'measure':48} {'ours':>10} {'peer':>10} {'':8} {'ratio':>9}  (min - max)")
    for row in rows:
        print(row.line())
    print(json.dumps({"bench": title, "rows": [vars(row) for row in rows], **facts}, default=str))
