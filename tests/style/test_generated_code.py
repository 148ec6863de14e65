"""What is generated equals what is committed, and the contracts between services hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = sorted(path.name for path in (ROOT / "proto").glob("*.proto"))


@pytest.fixture(scope="module")
def gen_proto() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import gen_proto
    finally:
        sys.path.pop(0)
    return gen_proto


def _code(room: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in room.iterdir() if path.suffix in {".py", ".pyi"}}


def test_the_committed_code_is_what_the_contracts_generate(gen_proto: ModuleType, tmp_path: Path) -> None:
    gen_proto.generate(ROOT / "proto", tmp_path)

    fresh, committed = _code(tmp_path / "mallee/rpc"), _code(ROOT / "services/rpc")

    stale = sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))
    assert not stale, f"run: python tools/gen_proto.py  (differs: {', '.join(stale)})"


def test_the_contracts_keep_the_style(gen_proto: ModuleType) -> None:
    if not CONTRACTS:
        pytest.skip("no contract is written yet")

    done = gen_proto.lint()

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_contract_of_bad_style_is_refused(gen_proto: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "buf.yaml").write_text((ROOT / "proto/buf.yaml").read_text())
    (tmp_path / "toy.proto").write_text('syntax = "proto3";\npackage toy;\nmessage bad_name {}\n')

    done = gen_proto.lint(str(tmp_path))

    assert done.returncode == 100
    assert "bad_name" in done.stdout


def test_no_contract_breaks_the_peers_of_the_last_commit(gen_proto: ModuleType) -> None:
    known = subprocess.run(
        ["git", "ls-tree", "--name-only", "HEAD", "proto/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if known.returncode:
        pytest.skip("not a git clone: nothing to compare the contracts with")
    if ".proto" not in known.stdout:
        pytest.skip("the last commit holds no contract yet")

    done = gen_proto.breaking()

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_changes_its_meaning_is_noticed(gen_proto: ModuleType, tmp_path: Path) -> None:
    text = 'syntax = "proto3";\npackage mallee.toy.v1;\nmessage Toy {{\n  {} name = 1;\n}}\n'
    for folder, kind in (("old", "string"), ("new", "int64")):
        room = tmp_path / folder
        room.mkdir()
        (room / "buf.yaml").write_text((ROOT / "proto/buf.yaml").read_text())
        (room / "toy.proto").write_text(text.format(kind))

    done = gen_proto.buf("breaking", str(tmp_path / "new"), "--against", str(tmp_path / "old"))

    assert done.returncode == 100
    assert "changed type" in done.stdout
