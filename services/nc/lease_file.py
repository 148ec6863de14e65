"""Until when the nodes of a process may run their guests: what a new process must know of its predecessor's lease.

A controller that starts anew adopts guests that run on. If it gave them a new lease, one that dies again and
again would let them run for ever, long after their instances were started elsewhere. The file outlives
the process and needs no fsync: when the power goes, the guests are gone too.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import structlog

_RECORD = struct.Struct("<64sd")  # a node's name and its deadline, in seconds of the boot clock

_log = structlog.get_logger()


class LeaseFile:
    """The deadlines of every node of this process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._places: dict[str, int] = {}
        self._deadlines: dict[str, float] = {}
        known = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        whole = len(known) - len(known) % _RECORD.size  # a process may die within a record's first writing
        for place, (name, deadline) in enumerate(_RECORD.iter_unpack(known[:whole])):
            node = name.rstrip(b"\0").decode()
            self._places[node], self._deadlines[node] = place * _RECORD.size, deadline

    def deadline(self, node: str) -> float | None:
        """What a predecessor had; None when there was none."""
        return self._deadlines.get(node)

    def keep(self, node: str, deadline: float) -> None:
        """Kept when this returns, whatever becomes of the process.

        What cannot be written costs no lease: a successor finds an earlier deadline and pauses sooner.
        """
        place = self._places.setdefault(node, len(self._places) * _RECORD.size)
        try:
            os.pwrite(self._descriptor, _RECORD.pack(node.encode(), deadline), place)
        except OSError as error:
            _log.warning("a lease could not be written down", node=node, why=str(error))

    def close(self) -> None:
        os.close(self._descriptor)
