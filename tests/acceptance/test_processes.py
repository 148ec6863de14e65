"""The story of `mallee demo`, and the command line around it, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mallee.cli.ports import any_free


def mallee(*words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mallee")), *words],
        env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (
        f"mallee {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


@pytest.mark.slow
def test_the_demo_tells_the_story_and_leaves_a_cloud(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))

    told = mallee("demo", *state).stderr
    try:
        for action in (
            "create-key-pair",
            "run-instances",
            "migrate-instances",
            "stop-instances",
            "terminate-instances",
        ):
            assert f"> {action}" in told
        assert "the guest stood still for" in told
        assert "mallee down" in told

        table = mallee("status", *state).stdout
        assert "clc" in table
        assert "mallee-1a" in table
        nodes = json.loads(mallee("nodes", "-o", "json", *state).stdout)
        assert len(nodes) == 4
        moves = json.loads(mallee("migrations", "-o", "json", *state).stdout)
        assert [move["state"] for move in moves] == ["completed"]
        assert json.loads(mallee("instances", "-o", "json", *state).stdout) is not None
        assert mallee("healthz", "cc-mallee-1a", *state).stdout == "ok\n"
        shell = mallee("env", *state).stdout
        endpoint = subprocess.run(
            ["bash", "-c", f"{shell}\nprintf %s $AWS_ENDPOINT_URL"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert endpoint.startswith("http://127.0.0.1:")
        assert "is in use" in mallee("up", *state, code=1).stderr
    finally:
        mallee("down", *state)
    assert mallee("down", "--purge", *state)
    assert not (tmp_path / "state").exists()


def test_what_cannot_start_is_a_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "mallee.toml"
    wrong.write_text("[clc]\nprot = 1\n")
    state = ("--state", str(tmp_path / "state"))

    assert "Did you mean port" in mallee("up", "--config", str(wrong), *state, code=1).stderr
    assert (
        "one node in one zone"
        in mallee("up", "--hypervisor", "libvirt", "--zones", "2", *state, code=1).stderr
    )
    assert "out of range" in mallee("up", "--zones", "99", *state, code=1).stderr
    assert mallee("up", "--zones", "many", code=2).stderr


def test_a_taken_port_is_told_with_its_holder(tmp_path: Path) -> None:
    import socket

    port = any_free()
    with socket.socket() as held:
        held.bind(("127.0.0.1", port))
        held.listen()

        said = mallee("up", "--port", str(port), "--state", str(tmp_path / "state"), code=1).stderr

    assert f"pid {os.getpid()}" in said
    assert "mallee up --port" in said


def test_there_is_no_cloud(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "none"))

    for command in ("status", "instances", "env"):
        assert "There is no cloud" in mallee(command, *state, code=3).stderr
    assert "No cloud runs" in mallee("down", *state).stderr


def test_help_costs_little() -> None:
    spent = os.times()
    for _ in range(3):
        mallee("--help")
    now = os.times()
    cpu = (now.children_user + now.children_system - spent.children_user - spent.children_system) / 3

    assert cpu < 0.6, f"mallee --help costs {cpu:.2f} s of CPU"


def test_doctor_has_a_line_for_each_check(tmp_path: Path) -> None:
    said = mallee("doctor", "--state", str(tmp_path / "none"), HOME=str(tmp_path)).stdout

    for check in (
        "Python",
        "versions",
        "disk",
        "clock",
        "ports",
        "KVM",
        "QEMU",
        "AWS profile",
        "model extension",
    ):
        assert check in said
    assert "-> mallee configure" in said
