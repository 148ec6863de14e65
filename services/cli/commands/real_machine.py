"""How `mallee doctor` looks at a machine; nothing is changed by it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mallee.nc.drivers.libvirt.host import daemon_version, kvm_works

_PATIENCE: Final = 3.0


def _said(*command: str) -> str:
    """What a command prints; '' when it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words only
            command, capture_output=True, text=True, check=False, timeout=2 * _PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at; a test says what there is."""

    which: Callable[[str], str | None] = shutil.which
    said: Callable[..., str] = _said
    read: Callable[[str], str | None] = _read
    daemon: Callable[[str], str] = daemon_version
    reaches: Callable[[str, int], bool] = _reaches
    has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None
    kvm: Callable[[Path], bool] = lambda kernel: asyncio.run(kvm_works(kernel))
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    memory: Callable[[], int] = lambda: os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    is_root: Callable[[], bool] = lambda: os.geteuid() == 0
