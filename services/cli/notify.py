"""Saying "ready" as systemd wants to hear it, and hearing it: `sd_notify(3)` over a datagram socket.

`mallee run` speaks it to systemd and to `mallee up --processes` alike.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping


def _address(name: str) -> str:
    return "\0" + name[1:] if name.startswith("@") else name


def tell(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whoever started this process, e.g. `READY=1`. False when nobody asked to be told."""
    name = environ.get("NOTIFY_SOCKET", "")
    if not name:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(state.encode(), _address(name))
        except OSError:
            return False  # the listener has gone; what it wanted to know is of no use any more
    return True


class Listener:
    """A socket on which one child says that it is ready, each time it starts.

    The name is in the abstract namespace: a path in a deep state folder would pass the 107 bytes
    that a Unix socket's name may have.
    """

    def __init__(self, name: str) -> None:
        self.name = f"@mallee-{os.getpid()}-{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(_address(self.name))

    async def ready(self) -> None:
        """Return when the child says so."""
        loop = asyncio.get_running_loop()
        while b"READY=1" not in await loop.sock_recv(self._socket, 4096):
            pass

    def close(self) -> None:
        self._socket.close()
