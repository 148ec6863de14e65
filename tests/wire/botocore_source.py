"""botocore's source distribution: its protocol cases, recorded answers and signature vectors, as data.

Fetched once by pip, kept in the temporary folder (or in MALLEE_TEST_CACHE); a test that needs it and cannot
have it is skipped and says so.
"""

import fcntl
import os
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

WANTED = ("tests/unit/protocols/", "tests/unit/response_parsing/xml/", "tests/unit/auth/aws4_testsuite/")


@cache
def source() -> Path:
    """The folder that holds `tests/unit/...` of the installed botocore's source."""
    home = (
        Path(os.environ.get("MALLEE_TEST_CACHE", tempfile.gettempdir()))
        / f"botocore-source-{version('botocore')}"
    )
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _fetch(home)
            (home / "complete").touch()
    return home / f"botocore-{version('botocore')}" / "tests" / "unit"


def _fetch(home: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "botocore"]
    got = subprocess.run(
        [*pip, "--no-build-isolation", "--dest", home, f"botocore=={version('botocore')}"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    archives = list(home.glob("botocore-*.tar.gz"))
    if not archives:
        pytest.skip(f"NOT TESTED: botocore's source distribution cannot be had: {got.stderr[-300:]}")
    with tarfile.open(archives[0]) as archive:
        wanted = [m for m in archive.getmembers() if any(part in m.name for part in WANTED)]
        archive.extractall(home, members=wanted, filter="data")
    archives[0].unlink()
