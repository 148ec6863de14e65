"""kill -9 at each call of the disk: every acknowledged step stands, the one under way is whole or absent, nothing stays behind."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest


def crashes(folder: Path, first: int, stride: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.unit.walrus.crashes", str(folder), str(first), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    places: dict[str, int] = ast.literal_eval(done.stdout.splitlines()[-1])
    return places


def test_killed_at_every_seventh_call(tmp_path: Path) -> None:
    assert sum(crashes(tmp_path, 3, 7).values()) > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_every_call(tmp_path: Path) -> None:
    places = crashes(tmp_path, 1, 1)
    assert sum(places.values()) > 70
    assert set(places) >= {
        "create",
        "write",
        "fsync",
        "rename",
        "fsync_folder",
        "unlink",
        "commit",
        "committed",
    }
