"""Other stores, started for a test: moto's server and rclone's, which we did not write, and one of ours."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mallee.kernel.secrets_box import Secret
from mallee.walrus.store.blobs.s3 import S3Place
from tests.acceptance.containers import until

BIN = Path(sys.executable).parent
KEY, SECRET = "AKIDTEST", "a-secret-of-tests"


@contextmanager
def moto(folder: Path) -> Iterator[S3Place]:
    with _server([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", "{port}"], folder) as endpoint:
        yield _place(endpoint)


@contextmanager
def rclone(folder: Path) -> Iterator[S3Place]:
    (folder / "buckets").mkdir()
    arguments = [
        "serve",
        "s3",
        "--addr",
        "127.0.0.1:{port}",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--vfs-cache-mode",
        "off",
    ]
    with _server([str(BIN / "rclone"), *arguments, str(folder / "buckets")], folder) as endpoint:
        yield _place(endpoint)


@contextmanager
def walrus(folder: Path) -> Iterator[S3Place]:
    script = Path(__file__).with_name("another_walrus.py")
    with _server([sys.executable, str(script), "{port}", str(folder / "state")], folder) as endpoint:
        yield _place(endpoint)


def _place(endpoint: str) -> S3Place:
    return S3Place(endpoint, "blobs", KEY, Secret(SECRET), secure=False, prefix="walrus/")


@contextmanager
def _server(command: list[str], folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).resolve().parents[2])
    environ = {**os.environ, "RCLONE_CONFIG": str(folder / "rclone.conf"), "PYTHONPATH": root}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [part.format(port=port) for part in command], env=environ, stdout=log, stderr=log
        )
    try:
        log_file = folder / "server.log"
        asyncio.run(until(lambda: _listens(process, port, log_file), f"{command[0]} listens", 60))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(log.read_text())
    with socket.socket() as trying:
        trying.settimeout(1)
        return trying.connect_ex(("127.0.0.1", port)) == 0
