"""A tool in the sandbox sees what it was handed, writes what it may, and ends when it should."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.images.sandbox import Bounds, Sandbox, run

BOUNDS = Bounds(cpu_seconds=5, file_bytes=1 << 20)


@pytest.fixture
async def closed() -> Sandbox:
    made = Sandbox()
    if not await made._is_closed():
        pytest.skip("namespaces cannot be made here")
    return made


async def refused(sandbox: Sandbox, *command: str, **files: list[Path]) -> Fault:
    with pytest.raises(Fault) as caught:
        await sandbox.run(command, BOUNDS, **files)
    return caught.value


def a_file(path: Path, content: bytes = b"") -> Path:
    path.write_bytes(content)
    os.chown(path, 65534, 65534)
    return path


async def test_it_reads_and_writes_what_it_was_handed_as_nobody(closed: Sandbox, tmp_path: Path) -> None:
    source, target = a_file(tmp_path / "in", b"said"), a_file(tmp_path / "out")
    script = "test $(id -u) = 65534 && cat /files/in > /files/out"
    await closed.run(["sh", "-c", script], BOUNDS, reads=[source], writes=[target])
    assert target.read_bytes() == b"said"


@pytest.mark.parametrize(
    "script",
    [
        "cat /etc/passwd",
        "cat /files/../proc/1/environ",
        "ls /root /home /tmp",
        "echo more >> /files/in",
        "touch /usr/bin/mine",
        "touch /files/mine",
        "grep -q : /proc/net/dev",
        "mount -t tmpfs none /files",
        "chroot /",
    ],
)
async def test_it_reaches_nothing_else(closed: Sandbox, tmp_path: Path, script: str) -> None:
    source = a_file(tmp_path / "in", b"said")
    fault = await refused(closed, "sh", "-c", script, reads=[source])
    assert (fault.kind, fault.code) == (Kind.INVALID, "tool-refused")
    assert source.read_bytes() == b"said"


async def test_it_has_no_network_and_no_more_than_its_bounds(closed: Sandbox, tmp_path: Path) -> None:
    target = a_file(tmp_path / "out")
    await closed.run(["sh", "-c", 'test "$(ip -o link | wc -l)" = 1'], BOUNDS, writes=[target])
    fault = await refused(closed, "sh", "-c", "yes | head -c 3000000 > /files/out", writes=[target])
    assert fault.code == "over-bounds"
    assert target.stat().st_size <= BOUNDS.file_bytes


async def test_what_it_leaves_behind_dies_with_it(closed: Sandbox, tmp_path: Path) -> None:
    target = a_file(tmp_path / "out")
    script = "(while sleep 0.1; do echo alive >> /files/out; done) > /dev/null 2>&1 &"
    await closed.run(["sh", "-c", script], BOUNDS, writes=[target])
    before = target.read_bytes()
    await asyncio.to_thread(os.sync)
    assert target.read_bytes() == before


async def test_a_tool_that_is_waited_for_no_more_is_killed() -> None:
    waiting = asyncio.ensure_future(run(["sleep", "600"]))
    done, _ = await asyncio.wait((waiting,), timeout=0.2)
    assert not done
    waiting.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait((waiting,))
    assert waiting.cancelled()


async def test_it_says_what_is_missing_and_what_is_full() -> None:
    with pytest.raises(Fault) as caught:
        await run(["no-such-tool"])
    assert caught.value.code == "missing-tools"
    with pytest.raises(Fault) as caught:
        await run(["sh", "-c", "echo 'write: No space left on device' >&2; exit 1"])
    assert caught.value.code == STORAGE_FULL


async def test_a_tool_that_talks_without_end_is_heard_to_its_last_words() -> None:
    with pytest.raises(Fault) as caught:
        await run(["sh", "-c", "yes 2>&1 | head -c 3000000 >&2; echo last >&2; exit 1"])
    assert caught.value.why.endswith("last")
    assert len(caught.value.why) < 600
