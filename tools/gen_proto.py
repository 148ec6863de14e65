"""Generates `services/rpc/` from `proto/`: messages, stubs, and their types.

    python tools/gen_proto.py            # into services/rpc
    python tools/gen_proto.py --to DIR   # into DIR/mallee/rpc, to compare
    python tools/gen_proto.py --lint     # buf lint
    python tools/gen_proto.py --breaking # against the contracts of the last commit

Contracts lie flat in `proto/` and import each other by bare name, which is how `buf` wants to
see them. Python wants `mallee.rpc.node_pb2`. So the contracts are compiled to descriptors first,
filed under `mallee/rpc/` there, and only then turned into code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
ROOM = "mallee/rpc/"
HEAD = '"""Generated from proto/ by tools/gen_proto.py; nothing here is written by hand."""\n'
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(source: Path, to: Path) -> None:
    """Turn every contract of `source` into `to/mallee/rpc/`; code without a contract is removed."""
    names = sorted(path.name for path in source.glob("*.proto"))
    room = to / ROOM
    room.mkdir(parents=True, exist_ok=True)
    for pattern in GENERATED:
        for old in room.glob(pattern):
            old.unlink()
    (room / "__init__.py").write_text(HEAD)
    if not names:
        return
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch) / "contracts.binpb"
        _protoc(
            f"-I{source}",
            f"--descriptor_set_out={compiled}",
            "--include_imports",
            "--include_source_info",
            *names,
        )
        compiled.write_bytes(_filed_under_room(compiled.read_bytes(), set(names)))
        outputs = [f"--{kind}_out={to}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
        _protoc(f"--descriptor_set_in={compiled}", *outputs, *(ROOM + name for name in names))


def _filed_under_room(compiled: bytes, ours: set[str]) -> bytes:
    contracts = FileDescriptorSet.FromString(compiled)
    for contract in contracts.file:
        if contract.name in ours:
            contract.name = ROOM + contract.name
        contract.dependency[:] = [ROOM + name if name in ours else name for name in contract.dependency]
    return contracts.SerializeToString()


def _protoc(*arguments: str) -> None:
    # The mypy plugin is a script beside the interpreter; a caller need not have activated anything.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"protoc: {done.stderr.strip()}")


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the `buf` of this environment at the root of the tree."""
    binary = Path(sys.executable).parent / "buf"
    return subprocess.run([str(binary), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def lint(source: str = "proto") -> subprocess.CompletedProcess[str]:
    """Style of the contracts; the exceptions and their reasons are in `proto/buf.yaml`."""
    return buf("lint", source)


def breaking(against: str = ".git#ref=HEAD,subdir=proto") -> subprocess.CompletedProcess[str]:
    """Whether a peer built from `against` would misread what this tree sends."""
    return buf("breaking", "proto", "--against", against)


def main(arguments: Sequence[str]) -> int:
    """The command line; 0 when the contracts hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=ROOT, help="folder that holds mallee/rpc")
    parser.add_argument("--lint", action="store_true")
    parser.add_argument("--breaking", action="store_true")
    chosen = parser.parse_args(arguments)
    checks = [check for asked, check in ((chosen.lint, lint), (chosen.breaking, breaking)) if asked]
    if not checks:
        generate(ROOT / "proto", chosen.to)
    results = [check() for check in checks]
    for result in results:
        sys.stdout.write(result.stdout + result.stderr)
    return max((result.returncode for result in results), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
