"""The state folder: one process at a time, and files that are whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.state_folder import create, lock, own_id, replace

HOLD = """
import sys
from pathlib import Path
from mallee.kernel.state_folder import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    with lock(tmp_path / "made" / "here"), pytest.raises(Fault) as refused:
        lock(tmp_path / "made" / "here")
    assert refused.value.kind is Kind.CONFLICT
    assert f"Process {os.getpid()} holds it." in refused.value.why
    assert refused.value.fix
    lock(tmp_path / "made" / "here").release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Fault, match=f"Process {other.pid} holds it"):
            lock(tmp_path)
        other.kill()
        other.wait()
        lock(tmp_path).release()


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fault, match="cannot be used") as refused:
        lock(tmp_path / "file")
    assert refused.value.kind is Kind.INVALID


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "key"
    replace(path, b"old")
    (tmp_path / ".key.new").write_bytes(b"left by a crash")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_folder_keeps_its_id(tmp_path: Path) -> None:
    first = own_id(tmp_path / "a", SeededEntropy(1))
    assert own_id(tmp_path / "a", SeededEntropy(2)) == first
    assert own_id(tmp_path / "b", SeededEntropy(2)) != first


def test_the_first_to_create_a_file_is_not_overwritten(tmp_path: Path) -> None:
    create(tmp_path / "key", b"first")
    create(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
