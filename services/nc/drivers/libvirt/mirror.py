"""A guest's root disk goes along: the source's QEMU writes it into the destination's, and what changes meanwhile too.

Both disks stand on the same base, so that only what the guest has written crosses. The destination
exports its empty disk over NBD; the source mirrors into it while the guest runs, and is through with it
between the pause of the guest and the end of its memory: whoever runs on has all of it, and until then
the source's disk has lost nothing. All of these are to be called in a thread.
https://www.qemu.org/docs/master/interop/live-block-operations.html
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from mallee.kernel.errors import Fault, Kind
from mallee.nc.drivers.libvirt import monitor

EXPORT: Final = "root"
_JOB: Final = "mallee-mirror"
_TARGET: Final = "mallee-target"
_PORTS: Final = range(49_300, 49_900)  # QEMU finds no free one by itself


def disk_of(domain: Any) -> str:
    """QEMU's name of the guest's root disk; '' when it has none."""
    for device in monitor.execute_list(domain, "query-block"):
        inserted = device.get("inserted")
        if inserted and not inserted["ro"]:
            return str(inserted["node-name"])
    return ""


def export(domain: Any, host: str, **tls: str) -> int:
    """Let a sender write to the disk of a copy; returns the port, 0 when it has no disk."""
    disk = disk_of(domain)
    if not disk:
        return 0
    port = _listen(domain, host, tls)
    monitor.execute(
        domain,
        "block-export-add",
        {"type": "nbd", "id": EXPORT, "name": EXPORT, "node-name": disk, "writable": True},
    )
    return port


def _listen(domain: Any, host: str, tls: dict[str, str]) -> int:
    port: int
    # Each QEMU begins elsewhere, so that one try is enough most of the time.
    first = int(domain.UUIDString()[-6:], 16) % len(_PORTS)
    for port in (*_PORTS[first:], *_PORTS[:first]):
        address = {"type": "inet", "data": {"host": host, "port": str(port)}}
        try:
            monitor.execute(domain, "nbd-server-start", {"addr": address} | tls)
        except Fault as fault:
            if "in use" not in fault.why:
                raise
        else:
            return port
    raise Fault(Kind.NO_CAPACITY, "The host has no port left for a disk.", code="no-port")


def end_export(domain: Any) -> None:
    """The disk is the guest's alone from here on."""
    with suppress(Fault):  # it has none
        monitor.execute(domain, "nbd-server-stop")


def begin(domain: Any, host: str, port: int, speed: int, **tls: str) -> None:
    """Mirror the disk into the export, at most so many bytes a second."""
    server = {"type": "inet", "host": host, "port": str(port)}
    target = {"driver": "nbd", "node-name": _TARGET, "server": server, "export": EXPORT} | tls
    monitor.execute(domain, "blockdev-add", target)
    monitor.execute(
        domain,
        "blockdev-mirror",
        {
            "job-id": _JOB,
            "device": disk_of(domain),
            "target": _TARGET,
            "sync": "top",
            "speed": speed,
            "auto-dismiss": False,
        },
    )


def is_through(domain: Any) -> bool:
    """Whether only what the guest writes now is left to be mirrored. Raises Fault when it has failed."""
    job = _job(domain)
    if job is None or job["status"] == "concluded":
        raise _broken(job)
    return bool(job["status"] == "ready")


def finished(domain: Any) -> bool:
    """Of a guest that stands still: end the mirroring, all of it written; whether that is done.

    A guest without a mirror is through with it.
    """
    job = _job(domain)
    if job is not None and job["status"] == "ready":
        monitor.execute(domain, "block-job-cancel", {"device": _JOB, "force": False})
        job = _job(domain)
    if job is None:
        return True
    if job["status"] != "concluded":
        return False
    if job.get("error"):
        raise _broken(job)
    _clear(domain)
    return True


def dropped(domain: Any) -> bool:
    """Break the mirroring off, wherever it is; whether that is done. The guest's own disk loses nothing."""
    job = _job(domain)
    if job is not None and job["status"] != "concluded":
        with suppress(Fault):  # of a line that hangs, or of a job that ended meanwhile
            monitor.execute(domain, "yank", {"instances": [{"type": "block-node", "node-name": _TARGET}]})
        with suppress(Fault):
            monitor.execute(domain, "block-job-cancel", {"device": _JOB, "force": True})
        return False
    _clear(domain)
    return True


def _job(domain: Any) -> monitor.Json | None:
    return next((job for job in monitor.execute_list(domain, "query-jobs") if job["id"] == _JOB), None)


def _clear(domain: Any) -> None:
    for command, named in (("job-dismiss", {"id": _JOB}), ("blockdev-del", {"node-name": _TARGET})):
        with suppress(Fault):  # there is none
            monitor.execute(domain, command, named)


def _broken(job: monitor.Json | None) -> Fault:
    return Fault(
        Kind.CONFLICT,
        "The guest's disk did not cross.",
        why=str((job or {}).get("error") or "Its copying ended by itself."),
        fix="Look at the destination's QEMU and at its free space, and migrate again.",
        code="disk-not-copied",
    )
