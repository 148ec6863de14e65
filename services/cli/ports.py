"""TCP ports of this machine: which are free, and who holds the others."""

from __future__ import annotations

import socket
from pathlib import Path

from mallee.kernel.errors import Fault, Kind

_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection in TIME_WAIT does not keep a port from its next owner.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def any_free(host: str = "127.0.0.1", *, besides: frozenset[int] = frozenset()) -> int:
    """A port that nobody holds and that is none of `besides`."""
    held: list[socket.socket] = []
    try:
        while True:
            probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            held.append(probe)
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
            if port not in besides:
                return port
    finally:
        for probe in held:
            probe.close()


def way_to(host: str) -> str:
    """The address of this machine from which it reaches `host`; loopback where it reaches nobody."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def next_free(port: int, host: str = "127.0.0.1") -> int:
    """The first free port above `port`."""
    for candidate in range(port + 1, 65536):
        if is_free(candidate, host):
            return candidate
    return any_free(host)


def holder(port: int) -> str:
    """Who listens at `port`, as far as /proc tells: `python3 (pid 4711)`, or `another process`."""
    inodes = _listening_inodes(port)
    for process in Path("/proc").iterdir() if inodes else ():
        if not process.name.isdigit():
            continue
        try:
            if any(_target(link) in inodes for link in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # ended meanwhile, or another user's: /proc keeps silent about it
    return "another process"


def claim(port: int, host: str, *, offer: str) -> int:
    """The port to listen at: `port` itself, or a free one for 0.

    Args:
        port: what was asked for.
        host: the address to listen at.
        offer: the command to offer when the port is taken, with `{port}` in it.

    Raises:
        Fault: CONFLICT `port-taken`.
    """
    if port == 0:
        return any_free(host)
    if is_free(port, host):
        return port
    raise Fault(
        Kind.CONFLICT,
        f"Port {port} of {host} is taken.",
        why=f"{holder(port)} listens there.",
        fix=f"Stop it, or take the next free one: {offer.format(port=next_free(port, host))}",
        code="port-taken",
    )


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # closed meanwhile


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes
