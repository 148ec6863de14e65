"""The systemd unit: systemd understands it, and what it starts exists."""

from __future__ import annotations

import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from mallee.cli.commands.clouds import Role

UNIT = Path(__file__).resolve().parents[3] / "packaging/systemd/mallee@.service"


def unit() -> RawConfigParser:
    parsed = RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(UNIT.read_text())
    return parsed


def test_it_runs_a_service_that_says_when_it_is_ready() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    words = service["ExecStart"].split()
    assert words[1:3] == ["run", "%i"]
    assert {"--config", "--state"} <= set(words)
    named = UNIT.read_text().splitlines()[0].split("mallee@")[1:]
    assert {word.split()[0].strip(";:") for word in named} <= {role.value for role in Role}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_it(tmp_path: Path) -> None:
    there = tmp_path / "mallee@clc.service"  # an instance of it, with a program that exists here
    there.write_text(UNIT.read_text().replace("/opt/mallee/bin/mallee", "/bin/true"))
    asked = ["systemd-analyze", "verify", "--man=no", str(there)]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "mallee@" in line]
    assert ours == []
