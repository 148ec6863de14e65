"""Kills the store at a call of its file system or its database, and looks at what the next start finds.

    python -m tests.unit.walrus.crashes FOLDER FIRST STRIDE

One process imports everything, then forks a child for each call number; the child is killed by SIGKILL
just before that call (or in the middle of it, where it is a write), and another child starts a store
on what is left. It ends when a child has done all of its steps; it prints how many were killed where.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mallee.kernel.clock import SystemClock
from mallee.kernel.db.sqlite import Sqlite
from mallee.kernel.entropy import SystemEntropy
from mallee.walrus.store import Files
from tests.unit.walrus.a_store import a_store
from tests.unit.walrus.faulty_files import Countdown, Troubled
from tests.unit.walrus.workload import STEPS, judge, left_over, sweep

_commit = Sqlite._commit


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def work(folder: Path, trouble: Countdown, told: int) -> None:
    """All steps; each is acknowledged by a byte, and calls are told by name when they come."""

    def tell(name: str) -> None:
        os.write(told, b"." if name == "acknowledged" else name.encode() + b"\n")
        if name != "acknowledged":
            trouble(name)

    async def commit(self: Sqlite) -> None:
        tell("commit")
        await _commit(self)
        tell("committed")

    Sqlite._commit = commit  # type: ignore[method-assign]
    clock, entropy = SystemClock(), SystemEntropy()
    files = Troubled(lambda name: tell(name) if trouble.armed else None)
    async with a_store(folder, files=files, clock=clock, entropy=entropy, durable=True) as store:
        trouble.armed = True
        assert isinstance(store.ground.blobs, Files)
        store.ground.blobs.flush_every = 100_000
        for step in STEPS:
            await step.run(store)
            tell("acknowledged")
        await sweep(store)


async def look(folder: Path, acknowledged: int) -> None:
    async with a_store(folder, clock=SystemClock(), entropy=SystemEntropy()) as store:
        await judge(store, acknowledged)
        assert isinstance(store.ground.blobs, Files)
        await sweep(store)
        assert await left_over(store) == set()
        await judge(store, acknowledged)
        for step in STEPS:  # and it works
            await step.run(store)
        await judge(store, len(STEPS))


def child(run: Callable[[], None]) -> int:
    """The wait status of a fork that runs this."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run()
            status = 0
        except BaseException:  # noqa: BLE001 - said, and the status says it too
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def kill_at(folder: Path, number: int) -> str:
    """Where it was killed; empty if it came to its end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    heard, told = os.pipe()
    os.set_blocking(told, False)
    status = child(lambda: asyncio.run(work(folder, Countdown(number, die), told)))
    os.close(told)
    said = os.read(heard, 1 << 20).decode()
    os.close(heard)
    acknowledged = said.count(".")
    if status == 0:
        assert acknowledged == len(STEPS)
        return ""
    assert os.WTERMSIG(status) == signal.SIGKILL, said
    where = said.replace(".", "").split()[-1]
    if child(lambda: asyncio.run(look(folder, acknowledged))) != 0:
        raise SystemExit(f"killed at call {number}, {where}, after {acknowledged} steps: see above")
    return where


def main(folder: Path, number: int, stride: int) -> None:
    places: Counter[str] = Counter()
    while where := kill_at(folder / "store", number):
        places[where] += 1
        number += stride
    sys.stdout.write(f"{dict(places)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
