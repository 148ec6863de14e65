"""Ending with the process that started this one, even if that one is killed without a word."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """Be told to end when the supervisor dies; at once, if it has died already."""
    parent = environ.get("MALLEE_PARENT")
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise SystemExit(1)
