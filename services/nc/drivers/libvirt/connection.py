"""One libvirt daemon: calls in threads, events into the event loop, found again when it was lost.

libvirt's event loop is one for a whole process, by its design; it runs in a thread of its own and
hands every event over to the asyncio loop that asked for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import libvirt
import libvirt_qemu
import structlog

from mallee.kernel.errors import Fault, Kind

T = TypeVar("T")
LifecycleHandler = Callable[[str, int, int], None]
"""(name of the domain, event, detail), on the event loop; the numbers are libvirt's."""
MonitorHandler = Callable[[str, str, str], None]
"""(name of the domain, QEMU's event, its details as JSON), on the event loop."""

_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 5, 3
_LOST = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INVALID_CONN,
}
_EVENTS = ("MIGRATION", "MIGRATION_PASS", "BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")
_log = structlog.get_logger()


class Daemon:
    """A connection to one libvirt daemon.

    Args:
        uri: e.g. `qemu:///system` or `qemu+unix:///system?socket=/run/libvirt/libvirt-sock`.
        on_lifecycle: told of every change of a domain.
        on_monitor: told of QEMU's own events about migrations and the disks that go along.
    """

    def __init__(self, uri: str, on_lifecycle: LifecycleHandler, on_monitor: MonitorHandler) -> None:
        self._uri = uri
        self._on_lifecycle = on_lifecycle
        self._on_monitor = on_monitor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None
        self._opening = threading.Lock()

    async def open(self) -> None:
        """Connect, so that a wrong address is told at once. Raises Fault UNAVAILABLE."""
        self._loop = asyncio.get_running_loop()
        await self.call(lambda _: None)

    async def close(self) -> None:
        """Let go of the daemon; its domains stay. May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(_close, connection)

    async def call(self, work: Callable[[Any], T]) -> T:
        """Run `work(connection)` in a thread; once again if the daemon had gone away before it began.

        A cancelled caller does not stop work that has begun: threads cannot be called back.

        Raises:
            Fault: NOT_FOUND, CONFLICT, NO_CAPACITY or UNAVAILABLE, with libvirt's own words.
        """
        return await asyncio.to_thread(self._call, work)

    def _call(self, work: Callable[[Any], T]) -> T:
        try:
            return work(self._living())
        except libvirt.libvirtError as error:
            raise _fault(error) from error

    def _living(self) -> Any:
        """The connection, made anew when the daemon was restarted under it."""
        with self._opening:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            if self._connection is not None:
                _log.warning("libvirt was lost and is looked for again", uri=self._uri)
                _close(self._connection)
                self._connection = None
            _run_events()
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
            connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, None
            )
            for event in _EVENTS:
                libvirt_qemu.qemuMonitorEventRegister(connection, None, event, self._monitor, None, 0)
            self._connection = connection
            return connection

    def _lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        self._hand_over(self._on_lifecycle, domain.name(), event, detail)

    def _monitor(
        self,
        _connection: Any,
        domain: Any,
        event: str,
        _seconds: int,
        _micros: int,
        details: str,
        _opaque: Any,
    ) -> None:
        self._hand_over(self._on_monitor, domain.name(), event, details or "{}")

    def _hand_over(self, handler: Callable[..., None], *words: Any) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # The loop may close between the question and the call; then nobody listens any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(handler, *words)


@cache
def _run_events() -> threading.Thread:
    libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised; they need no line on stderr too
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    thread = threading.Thread(target=run, name="libvirt-events", daemon=True)
    thread.start()
    return thread


def _close(connection: Any) -> None:
    with suppress(libvirt.libvirtError):
        connection.close()


def _fault(error: Any) -> Fault:
    code, words = error.get_error_code(), str(error.get_error_message() or error)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return Fault(Kind.NOT_FOUND, "The hypervisor has no such guest.", why=words, code="no-such-guest")
    if code in {libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_DOM_EXIST}:
        return Fault(
            Kind.CONFLICT,
            "The hypervisor refused.",
            why=words,
            fix="Look at the guest's state.",
            code="hypervisor-refused",
        )
    if code == libvirt.VIR_ERR_INTERNAL_ERROR and "allocate memory" in words:
        return Fault(
            Kind.NO_CAPACITY,
            "The host has no memory for the guest.",
            why=words,
            fix="Start fewer guests on it.",
            code="host-out-of-memory",
        )
    if "storage file" in words and "Permission denied" in words:
        return Fault(
            Kind.UNAVAILABLE,
            "QEMU cannot open the guest's disk.",
            why=words,
            fix="Let guest_folder in [nc] be a folder that QEMU's user can reach, /var/lib/mallee/guests for example.",
            code="disk-unreachable",
        )
    lost = code in _LOST
    return Fault(
        Kind.UNAVAILABLE,
        "The libvirt daemon does not answer." if lost else "The hypervisor failed.",
        why=words,
        fix="Look at `systemctl status libvirtd`."
        if lost
        else "Look at QEMU's log in /var/log/libvirt/qemu.",
        code="no-libvirt" if lost else "hypervisor-failed",
    )
