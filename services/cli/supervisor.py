"""`mallee up --processes`: every service its own process, and a new one for each that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from mallee.cli.notify import Listener
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind

PROGRAM = (sys.executable, "-P", "-m", "mallee.cli.main")
FIRST_START = 30.0  # seconds that a service may take until it is ready
STEADY = 5.0  # seconds after which a service counts as having started well
BACKOFF = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before each start after a death, the last for ever
RETRY = 1.0  # seconds until what could not be written is tried again
GRACE = 10.0  # seconds to end by itself

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Command:
    """One service as a child process.

    Attributes:
        arguments: after `mallee`, e.g. `("run", "clc", "--config", ...)`.
        log: the file that takes both of its outputs.
    """

    name: str
    arguments: tuple[str, ...]
    log: Path


class Supervisor:
    """Keeps a set of children alive.

    Args:
        commands: in the order of their first start; all start at once, none waits for another.
        clock: measures back-off.
        changed: told the pid of each child, whenever one changes.
    """

    def __init__(
        self, commands: list[Command], clock: Clock, changed: Callable[[Mapping[str, int]], None]
    ) -> None:
        self._commands = commands
        self._clock = clock
        self._changed = changed
        self._pids: dict[str, int] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when every service has said that it is ready.

        Raises:
            Fault: UNAVAILABLE, when one ends or stays silent at its first start; the others are ended.
        """
        ready = [asyncio.get_running_loop().create_future() for _ in self._commands]
        self._keepers = [
            asyncio.create_task(self._keep(command, said), name=command.name)
            for command, said in zip(self._commands, ready, strict=True)
        ]
        try:
            await self._all_heard(ready)
        except BaseException:
            await self.stop()
            raise

    async def _all_heard(self, ready: list[asyncio.Future[None]]) -> None:
        done, _ = await asyncio.wait(ready, timeout=FIRST_START, return_when=asyncio.FIRST_EXCEPTION)
        for said in done:
            said.result()
        silent = [c.name for c, said in zip(self._commands, ready, strict=True) if said not in done]
        if silent:
            raise _silent(silent, self._commands[0].log.parent)

    async def stop(self) -> None:
        """End every child, first politely."""
        self._ending.set()
        if self._telling is not None:
            self._telling.cancel()
        for pid in self._pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if not self._keepers:
            return
        # `wait` and not a timeout: a cancelled keeper would forget the child it keeps.
        _, stubborn = await asyncio.wait(self._keepers, timeout=GRACE)
        for name, pid in self._pids.items() if stubborn else ():
            _log.warning("killed: it did not end by itself", service=name, pid=pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, command: Command, first: asyncio.Future[None]) -> None:
        listener = Listener(command.name)
        deaths = 0
        try:
            while not self._ending.is_set():
                await self._clock.sleep(BACKOFF[min(deaths, len(BACKOFF) - 1)])
                began = self._clock.monotonic()
                code = await self._live(command, listener, first)
                if self._ending.is_set():
                    break
                if not first.done():
                    first.set_exception(_stillborn(command, code))
                    break
                lived = self._clock.monotonic() - began
                # The first death after a good life is answered at once; a loop of deaths is slowed down.
                deaths = 0 if lived > STEADY else deaths + 1
                _log.warning(
                    "a service died and is started again", service=command.name, code=code, lived=lived
                )
        finally:
            listener.close()

    async def _live(self, command: Command, listener: Listener, first: asyncio.Future[None]) -> int:
        """One life of one child: its exit code."""
        with command.log.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                *PROGRAM,
                *command.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C at the terminal reaches the supervisor alone, which ends
                # the children in order.
                start_new_session=True,
                env=os.environ | {"NOTIFY_SOCKET": listener.name, "MALLEE_PARENT": str(os.getpid())},
            )
        self._pids[command.name] = child.pid
        self._tell()
        if self._ending.is_set():  # `stop` may have looked at the pids just before
            child.terminate()
        hearing = asyncio.create_task(listener.ready())
        hearing.add_done_callback(lambda done: _said(done, first))
        try:
            return await child.wait()
        finally:
            hearing.cancel()
            self._pids.pop(command.name, None)
            self._tell()

    def _tell(self) -> None:
        """Say who lives. Where that cannot be written, children are cared for all the same."""
        try:
            self._changed(self._pids)
        except OSError as error:
            _log.warning("the list of processes is not written", reason=str(error))
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell_later())

    async def _tell_later(self) -> None:
        await self._clock.sleep(RETRY)
        self._telling = None
        self._tell()


def _said(heard: asyncio.Task[None], first: asyncio.Future[None]) -> None:
    if not heard.cancelled() and not first.done():
        first.set_result(None)


def _stillborn(command: Command, code: int) -> Fault:
    last = command.log.read_text(errors="replace").strip().splitlines()[-3:]
    return Fault(
        Kind.UNAVAILABLE,
        f"{command.name} ended as it started (exit code {code}).",
        why=" ".join(last) or "It said nothing.",
        fix=f"Read {command.log}",
        code="start-failed",
    )


def _silent(names: list[str], logs: Path) -> Fault:
    return Fault(
        Kind.UNAVAILABLE,
        f"{', '.join(names)} did not start.",
        why=f"Nothing was heard for {FIRST_START:.0f} seconds.",
        fix=f"Read {logs}/",
        code="start-timeout",
    )
