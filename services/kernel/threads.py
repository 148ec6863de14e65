"""Threads for what blocks or computes for long: disks, other stores, hashes of large bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from mallee.kernel.db import settle

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Asked(NamedTuple):
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: asyncio.Future[Any]


class Threads:
    """A few threads of one kind, begun when they are needed, for one event loop.

    A large upload goes through them block by block: the standard library's executor has two futures, a
    condition and five locks for each call, which is more than the writing of the block takes.
    """

    def __init__(self, count: int, name: str) -> None:
        self._most = count
        self._name = name
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._busy = 0

    def begin(self, work: Callable[[*Ts], T], *arguments: *Ts) -> asyncio.Future[T]:
        """Call `work` in a thread. Wait for it by `finish`: what it uses must stay until its end."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._busy += 1
        if len(self._threads) < min(self._busy, self._most):
            thread = Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._asked.put(_Asked(work, arguments, done))
        return done

    async def finish(self, ending: asyncio.Future[T]) -> T:
        """The result. When cancelled, wait for the end first: the thread holds descriptors and buffers."""
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            while not ending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({ending})
            raise

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Both."""
        return await self.finish(self.begin(work, *arguments))

    def close(self) -> None:
        """Return when what was asked is done."""
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            result, error = None, None
            try:
                result = asked.work(*asked.arguments)
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever waits
                error = raised
            done = asked.done
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                done.get_loop().call_soon_threadsafe(self._end, done, result, error)
            del asked, done, result, error  # a thread that waits holds nobody's buffers

    def _end(self, done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        settle(done, result, error)
