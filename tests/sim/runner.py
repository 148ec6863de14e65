"""Runs worlds, each in a process of its own: nothing is left behind, however it ends."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

LONGEST = 30  # seconds of a processor that a world may take
PATIENCE = 900  # seconds of a real clock: others may have the processors meanwhile


@dataclass
class Result:
    """What became of a world."""

    seed: Any
    violations: list[str] = field(default_factory=list)
    digest: str = ""
    stats: dict[str, float] = field(default_factory=dict)


def each(seeds: Iterable[Any], run: Callable[[Any], Result], jobs: int = 1) -> Iterator[Result]:
    """The result of each seed, as they come, from children of this process."""
    waiting, running = iter(seeds), dict[int, tuple[int, Any, float]]()
    gc.freeze()  # what is loaded now is shared by all children, and never looked at again
    more = True
    try:
        while more or running:
            while more and len(running) < jobs:
                seed = next(waiting, _END)
                if seed is _END:
                    more = False
                else:
                    pid, reading = _child(seed, run)
                    running[reading] = (pid, seed, time.monotonic())
            if running:
                yield from _ended(running)
    finally:
        for reading, (pid, _, _) in running.items():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
        gc.unfreeze()


_END = object()


def warm_up(run: Callable[[Any], Result]) -> None:
    """Run some worlds here, so that every child begins with what is read and compiled once."""
    quiet, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.getLogger("asyncio").disabled = True  # it mourns abandoned tasks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(4):
                run(f"warm up {number}")
    finally:
        sys.unraisablehook = quiet


def _child(seed: Any, run: Callable[[Any], Result]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    # The child never returns: its tasks, abandoned in the middle, must not be cleaned up.
    try:
        os.close(reading)
        gc.disable()
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 5))
        began = time.process_time()
        try:
            result = run(seed)
        except BaseException:  # noqa: BLE001 - told to the parent
            result = Result(seed, [f"the world broke: {traceback.format_exc()}"])
        result.stats["cpu"] = time.process_time() - began
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(result, pipe)
    finally:
        os._exit(0)


def _ended(running: dict[int, tuple[int, Any, float]]) -> Iterator[Result]:
    ready, _, _ = select.select(list(running), (), (), 1.0)
    for reading in ready:
        pid, seed, _ = running.pop(reading)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(pid, 0)
        over = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        death = f"the world did not end in {LONGEST} s" if over else "the world's process died"
        yield pickle.loads(told) if told else Result(seed, [death])
    for reading, (pid, seed, since) in list(running.items()):
        if time.monotonic() - since > PATIENCE:
            del running[reading]
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
            yield Result(seed, [f"the world did not end in {PATIENCE} s of a real clock"])
