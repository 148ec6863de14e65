"""An event loop in virtual time, shared by processes that are pretended.

Time stands still while anything can run and then jumps to the next timer, so an hour costs what happens in
it. What is ready runs in an order that the seed decides: processes interleave in every way, while callbacks
of one process keep the order that asyncio promises them.

A `Life` is one incarnation of a process. Every task inherits it through its context, so the loop knows whose
each callback is: those of a dead life are never run again, which is what `kill -9` does - no `finally`, no
`except CancelledError`, nothing - and those of a frozen one wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, runtime_checkable

STEPS_AT_ONE_MOMENT = 200_000  # more than that without time moving is a loop that nobody leaves


class Life:
    """One incarnation of a process, from its start to its death."""

    def __init__(self, name: str, number: int = 0) -> None:
        self.name = name
        self.number = number
        self.alive = True
        self.frozen = False
        self.parked: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return f"{self.name}#{self.number}"


NETWORK = Life("network")  # whoever has no process: messages on their way
LIFE: contextvars.ContextVar[Life] = contextvars.ContextVar("life", default=NETWORK)


@runtime_checkable
class Slow(Protocol):
    """An executor whose work takes time."""

    def takes(self) -> float:
        """Seconds that the next piece of work takes."""


class Livelock(Exception):
    """Something runs for ever while time stands still, or nothing will ever run again."""


class VirtualTask(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set does not depend on where in memory it lies."""

    def __init__(self, *args: Any, number: int, **named: Any) -> None:
        self.number = number
        self.life = LIFE.get() if (context := named.get("context")) is None else context.get(LIFE, NETWORK)
        super().__init__(*args, **named)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `now` is seconds since the world began; `schedule` decides who runs first."""

    def __init__(self, schedule: random.Random) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self._schedule = schedule
        self._at_this_moment = 0
        self._tasks = 0
        self._selector = _NoSelector()
        self.set_task_factory(self._make_task)

    # What BaseEventLoop needs.

    def time(self) -> float:
        return self.now

    def _process_events(self, events: object) -> None:
        """There are none: nothing outside this process exists."""

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """At once and here, or after a while where the executor says how long: a thread would make its own schedule."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
                future.set_exception(error)
            except BaseException:  # noqa: BLE001 - its process has died in the middle of it
                return
            else:
                future.set_result(result)

        if isinstance(executor, Slow):
            self.call_later(executor.takes(), work)
        else:
            work()
        return future

    def _make_task(
        self, _: object, work: Coroutine[Any, Any, Any], context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        self._tasks += 1
        return VirtualTask(work, loop=self, context=context, number=self._tasks)

    # One turn.

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready
        if not ready:
            self._jump()
        timers, now = self._scheduled, self.now
        while timers and timers[0]._when <= now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        turn = list(ready)
        ready.clear()
        for handle in self._ordered(turn) if len(turn) > 1 else turn:
            if handle._cancelled:
                continue
            life = handle._context.get(LIFE, NETWORK)  # type: ignore[attr-defined]
            if not life.alive:
                continue
            if life.frozen:
                life.parked.append(handle)
                continue
            self.steps += 1
            handle._run()
        self._at_this_moment += len(turn)
        if self._at_this_moment > STEPS_AT_ONE_MOMENT:
            raise Livelock(f"time stands still at {self.now:.6f}: {turn[:5]}")

    def _jump(self) -> None:
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise Livelock("nothing will ever run again")
        if timers[0]._when > self.now:
            self.now = timers[0]._when
            self._at_this_moment = 0

    def _ordered(self, turn: list[asyncio.Handle]) -> Iterable[asyncio.Handle]:
        """Processes interleaved at random, each in its own order."""
        queues: dict[Life, deque[asyncio.Handle]] = {}
        whose = []
        for handle in turn:
            life = handle._context.get(LIFE, NETWORK)  # type: ignore[attr-defined]
            whose.append(life)
            queues.setdefault(life, deque()).append(handle)
        if len(queues) == 1:
            return turn
        self._schedule.shuffle(whose)
        return [queues[life].popleft() for life in whose]

    def kill(self, life: Life) -> None:
        """Nothing of this life runs again."""
        life.alive = False
        # Kept to the end of the world: a coroutine that is thrown away would run its `finally`.
        life.tasks = [task for task in asyncio.all_tasks(self) if task.life is life]  # type: ignore[attr-defined]

    def thaw(self, life: Life) -> None:
        """A frozen life goes on; what became due meanwhile is due now."""
        life.frozen = False
        parked, life.parked = life.parked, []
        self._ready.extend(parked)


class _NoSelector:
    """BaseEventLoop closes one."""

    def close(self) -> None:
        """Nothing is open."""
