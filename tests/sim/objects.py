"""The object store of a simulated world: the real one, on files of which only what was synced survives its host.

Bytes lie in memory (`Volatile`); a process that is killed loses none of them, a host without power all that
nobody had synced, and some names come through without their bytes. What the store does in threads takes time
here too, so that everybody else goes on meanwhile, and death may come between any two calls.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mallee.aws.rest_xml import RestXml
from mallee.clc import app as clc_app
from mallee.kernel.file_system import FileSystem
from mallee.kernel.threads import Threads
from mallee.walrus import app as walrus_app
from mallee.walrus.app import OBJECTS, Walrus
from mallee.walrus.front import pipeline
from mallee.walrus.store import Blobs, Files, Store, completing
from mallee.walrus.store.blobs import files
from tests.sim.disk import DISKS, FULL
from tests.sim.loop import LIFE
from tests.unit.walrus.faulty_files import Volatile

if TYPE_CHECKING:
    from tests.sim.world import Process

INLINE = 1000  # bytes that lie in the database; small, so that both ways are often taken
SMALLEST_PART = 2000
_NEEDS_ROOM = {"create", "write", "fsync", "make_folder"}


class Died(BaseException):
    """Whoever made this call does not live any more."""


class SlowThreads(Threads):
    """Stands in for the threads in which the store waits for its disk."""

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count, name)
        self._disk = DISKS[LIFE.get()]

    def begin(self, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(cast("Any", self), work, *arguments)

    def takes(self) -> float:
        """Seconds that one piece of work takes."""
        return self._disk.chance.uniform(0.0001, 0.002) + self._disk.slow

    def close(self) -> None:
        """Nothing is under way when the store has ended."""


class StoredBytes:
    """The files of one host, which outlive its processes. Args: `chance` decides what a loss of power leaves."""

    def __init__(self, process: Process, chance: random.Random) -> None:
        self._process = process
        self._chance = chance
        self.files = Volatile(process.post.folder, self._trouble)
        self.files.make_folder(process.post.folder / OBJECTS)
        self.files.fsync_folder(process.post.folder)

    def lose_power(self) -> None:
        share = self._chance.choice([0.0, 0.3, 0.8])
        self.files = self.files.after_power_cut(lambda: self._chance.random() < share)
        self.files._trouble = self._trouble

    def _trouble(self, call: str) -> None:
        disk, life = self._process.disk, LIFE.get()
        self._process.at("before commit")
        if not life.alive:
            raise Died
        if disk.error and (disk.error != FULL or call in _NEEDS_ROOM):
            raise _failure(disk.error)
        if disk.errors and call in _NEEDS_ROOM:
            raise _failure(disk.errors.pop(0)[0])


def _failure(code: int) -> OSError:
    number = errno.ENOSPC if code == FULL else errno.EIO
    return OSError(number, os.strerror(number))


class _Bytes(Files):
    """No file here can be sent by a kernel."""

    def read(self, blob: Any, first: int, last: int, *, sendfile: bool) -> Any:
        _ = sendfile
        return super().read(blob, first, last, sendfile=False)


class SimulatedWalrus(Walrus):
    """The object store, its front called directly."""

    def __init__(self, files: FileSystem, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._files = files

    async def _open_blobs(self) -> Blobs:
        return await _Bytes.start(self._folder / OBJECTS, self._files)

    async def _open_store(self, starting: Any) -> Store:
        store = await super()._open_store(starting)
        store.ground.inline = INLINE
        return store


class _Nowhere(NamedTuple):
    """The port of who is called directly."""

    number: int = 0


def settle_in() -> None:
    """Put what is pretended in its place."""
    for app in (clc_app, walrus_app):
        app.bind = lambda *_about: [_Nowhere()]  # type: ignore[attr-defined]
        app.answer = lambda *_about: None  # type: ignore[attr-defined]
    files.Threads = pipeline.Threads = SlowThreads  # type: ignore[misc,attr-defined]
    completing.SMALLEST = SMALLEST_PART
    walrus_app.RestXml = _wire  # type: ignore[misc,assignment]


@cache
def _wire(model: Any) -> RestXml:
    """Compiled once, as the cloud controller's."""
    return RestXml(model)
