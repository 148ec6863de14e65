"""Threads for what blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from mallee.kernel.threads import Threads


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    made = Threads(2, "some")
    yield made
    made.close()


async def test_what_work_gives_and_raises_comes_back(threads: Threads) -> None:
    assert await threads.run(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(next, iter(()))


async def test_no_more_threads_than_are_busy_and_never_more_than_allowed(threads: Threads) -> None:
    names = {await threads.run(threading.get_ident) for _ in range(20)}
    assert len(names) == 1

    gate = threading.Barrier(2)
    both = [threads.begin(gate.wait) for _ in range(2)]
    assert sorted(await asyncio.gather(*both)) == [0, 1]
    waiting = [threads.begin(threading.get_ident) for _ in range(20)]
    assert len(set(await asyncio.gather(*waiting))) <= 2


async def test_who_is_cancelled_leaves_after_the_thread(threads: Threads) -> None:
    begun, end = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        end.wait(60)
        done.append("written")

    waiting = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, 60)
    waiting.cancel()
    await asyncio.to_thread(lambda: None)
    assert not waiting.done()
    waiting.cancel()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == ["written"]


async def test_a_thread_that_waits_holds_nothing(threads: Threads) -> None:
    buffer = bytearray(8)
    assert await threads.run(len, memoryview(buffer)) == 8
    await threads.run(len, b"")
    buffer.extend(b"more")  # refused as long as somebody looks at it


async def test_closing_waits_for_what_was_asked() -> None:
    made = Threads(1, "some")
    done: list[int] = []
    waiting = [made.begin(done.append, number) for number in range(5)]
    made.close()
    assert done == [0, 1, 2, 3, 4]
    await asyncio.gather(*waiting)
