"""Schedules: those that once found something, fresh ones, and the proof that a seed is a schedule."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FRESH = int(os.environ.get("SEEDS", "2000"))
FIRST = int(os.environ.get("FIRST", "0"))
JOBS = str(os.cpu_count() or 1)


def simulated(*arguments: str, **environ: str) -> str:
    """What the command prints when it found nothing, run apart: worlds abandon what they leave behind."""
    command = [sys.executable, "-m", "tests.sim", "--jobs", JOBS, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def kept() -> list[Any]:
    with (Path(__file__).parent / "kept_seeds.toml").open("rb") as file:
        return tomllib.load(file)["seed"]


@pytest.mark.timeout(300)
def test_one_seed_is_one_course_of_things():
    """In other processes, with other hashes of strings and other places in memory."""
    first, second = (
        sorted(simulated("--seeds", "0..11", "--hashes", PYTHONHASHSEED=number).splitlines()[:12])
        for number in ("1", "2")
    )
    assert first == second
    assert len({line.split()[1] for line in first}) == 12


@pytest.mark.timeout(600)
def test_seeds_that_once_found_something():
    for ways in ((), ("--migrations", "1")):
        numbers = [str(each["number"]) for each in kept() if each.get("migrations", False) is bool(ways)]
        simulated(*ways, "--these", *numbers)


@pytest.mark.timeout(3600)
def test_fresh_schedules():
    """Any change of the code makes other courses of them; a failure names its seed: `make sim SEED=<it>` tells it.

    The same seeds for the same code, so that who sees it red sees it red again; `FIRST=` gives others.
    """
    print(simulated("--seeds", f"{FIRST}..{FIRST + FRESH - 1}"))


@pytest.mark.timeout(900)
def test_a_thousand_migrations_under_faults():
    told = simulated("--migrations", "1000", "--seeds", f"{FIRST}..{FIRST + 400}")
    print(told)
