"""Threads for what blocks: disks and other stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Threads:
    """A few threads of one kind."""

    def __init__(self, count: int, name: str) -> None:
        self.executor = ThreadPoolExecutor(count, name)

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call `work` in a thread. When cancelled, wait for its end first: it holds descriptors and buffers."""
        ending = asyncio.get_running_loop().run_in_executor(self.executor, work, *arguments)
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            while not ending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({ending})
            raise

    def close(self) -> None:
        """When what was asked is done."""
        self.executor.shutdown()
