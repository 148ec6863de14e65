"""The supervisor keeps its children alive, whatever ends them."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mallee.cli import supervisor
from mallee.cli.notify import Listener, tell
from mallee.cli.supervisor import Command, Supervisor
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault

READY = "from mallee.cli.notify import tell; import signal; tell('READY=1'); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); " + READY.replace(
    "signal.pause()", "\nwhile 1: signal.pause()"
)


class Pids:
    """What the supervisor told last, and a way to wait for the next word."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.changed = asyncio.Event()
        self.refusing = False
        self.refused = asyncio.Event()

    def __call__(self, pids: Mapping[str, int]) -> None:
        if self.refusing:
            if len(pids) == 1:  # of the new child, not of the death
                self.refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        self.now = dict(pids)
        self.changed.set()

    async def until(self, wanted: object) -> None:
        while not wanted(self.now):  # type: ignore[operator]
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
def pids() -> Pids:
    return Pids()


@pytest.fixture(autouse=True)
def children_are_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is any Python program here: its arguments follow `python` itself."""
    monkeypatch.setattr(supervisor, "PROGRAM", (sys.executable,))


def keeping(pids: Pids, folder: Path, *programs: str) -> Supervisor:
    commands = [
        Command(f"child{number}", ("-c", program), folder / f"{number}.log")
        for number, program in enumerate(programs)
    ]
    return Supervisor(commands, SystemClock(), pids)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_child_is_back(pids: Pids, tmp_path: Path) -> None:
    keeper = keeping(pids, tmp_path, READY, READY)
    await keeper.start()
    try:
        before = dict(pids.now)
        os.kill(before["child0"], signal.SIGKILL)

        await pids.until(lambda now: now.get("child0", before["child0"]) != before["child0"])

        assert alive(pids.now["child0"])
        assert pids.now["child1"] == before["child1"]
    finally:
        await keeper.stop()
    assert not any(alive(pid) for pid in before.values())
    assert pids.now == {}


async def test_a_full_disk_does_not_end_the_care(pids: Pids, tmp_path: Path) -> None:
    """The list of processes cannot be written when a child dies: it is back, and the list when there is room."""
    keeper = keeping(pids, tmp_path, READY)
    await keeper.start()
    try:
        before = pids.now["child0"]
        pids.refusing = True
        os.kill(before, signal.SIGKILL)
        await pids.refused.wait()
        pids.refusing = False
        await pids.until(lambda now: now.get("child0", before) != before)
        assert alive(pids.now["child0"])
    finally:
        await keeper.stop()


async def test_a_child_that_cannot_start_is_a_sentence_and_ends_the_others(
    pids: Pids, tmp_path: Path
) -> None:
    keeper = keeping(pids, tmp_path, READY, "raise SystemExit('mallee: the reason')")

    with pytest.raises(Fault, match="child1 ended as it started") as failed:
        await keeper.start()

    assert "the reason" in failed.value.why
    assert pids.now == {}


async def test_a_silent_child_is_not_waited_for_without_end(
    pids: Pids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_START", 0.2)
    keeper = keeping(pids, tmp_path, "import signal; signal.pause()")

    with pytest.raises(Fault, match="child0 did not start"):
        await keeper.start()

    assert pids.now == {}


async def test_a_child_that_does_not_end_is_killed(
    pids: Pids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE", 0.2)
    keeper = keeping(pids, tmp_path, STUBBORN)
    await keeper.start()
    child = pids.now["child0"]

    await keeper.stop()

    assert not alive(child)


async def test_children_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, signal\n"
        "child = 'from mallee.cli.parent import end_with_parent; end_with_parent()\\n'"
        " 'print(\"up\", flush=True)\\nimport signal; signal.pause()'\n"
        "made = subprocess.Popen([sys.executable, '-c', child], stdout=subprocess.PIPE,"
        " env=os.environ | {'MALLEE_PARENT': str(os.getpid())})\n"
        "made.stdout.readline()\n"
        "print(made.pid, flush=True)\n"
        "signal.pause()\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    watch = os.pidfd_open(child)
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(watch, lambda: ended.done() or ended.set_result(None))

    parent.kill()
    await parent.wait()

    async with asyncio.timeout(5):
        await ended
    asyncio.get_running_loop().remove_reader(watch)
    os.close(watch)


async def test_ready_is_heard_over_the_socket() -> None:
    listener = Listener("test")
    try:
        assert tell("STATUS=still loading", {"NOTIFY_SOCKET": listener.name})
        assert tell("READY=1", {"NOTIFY_SOCKET": listener.name})
        await listener.ready()
    finally:
        listener.close()


def test_nobody_needs_to_listen() -> None:
    assert not tell("READY=1", {})
    assert not tell("READY=1", {"NOTIFY_SOCKET": "@mallee-nobody"})
