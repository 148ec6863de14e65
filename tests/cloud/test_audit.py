"""`mallee audit`: silent and 0 on a cloud that is well, and 1 with what, why and what to do on one that is not."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.clouds import TestCloud


def audit(cloud: TestCloud, *more: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "mallee.cli.main", "audit", "--state", str(cloud.folder.root), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def gauges(cloud: TestCloud) -> dict[str, float]:
    """Violations by invariant."""
    with urllib.request.urlopen(f"{cloud.access.endpoint}/metrics", timeout=10) as answer:
        lines = [
            line
            for line in answer.read().decode().splitlines()
            if line.startswith("mallee_audit_violations{")
        ]
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}


@pytest.mark.timeout(300)
def test_a_cloud_that_is_well_and_one_that_is_not(tmp_path: Path) -> None:
    cloud = TestCloud.start(tmp_path / "state", "--nodes", "3", "--instant")
    try:
        ids = cloud.run(4)
        cloud.ec2.terminate_instances(InstanceIds=ids[:1])
        cloud.wait("instance_terminated", ids[:1])
        code, out, said = audit(cloud)
        assert (code, out) == (0, ""), said
        assert "All books agree: 4 instances." in said
        assert set(gauges(cloud).values()) == {0.0}

        cloud.stop()
        with closing(sqlite3.connect(cloud.folder.root / "services" / "clc" / "clc.db")) as books:
            books.execute("UPDATE subnets SET free = free + 1 WHERE id = (SELECT min(id) FROM subnets)")
            books.commit()
        cloud.start_again()
        code, out, _ = audit(cloud, "-o", "json")
        told: dict[str, Any] = json.loads(out)
        assert (code, told["clean"], told["instances"]) == (1, False, 4)
        (found,) = told["violations"]
        assert found["invariant"] == "I9"
        assert all(found[part] for part in ("subject", "what", "why", "fix"))
        code, out, said = audit(cloud)
        assert (code, found["subject"] in out, found["why"] in said) == (1, True, True)
        assert gauges(cloud)["I9"] == 1.0
    finally:
        cloud.stop()
