"""Secrets: sealed in the database, masked in the log."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from mallee.kernel import log
from mallee.kernel.clock import ManualClock
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.secrets_box import Secret, SecretsBox


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.fixture
def plain_log() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if type(kept).__module__ != log.__name__]
    root.setLevel(logging.WARNING)


def test_sealed_and_opened_by_the_next_process(key_file: Path) -> None:
    sealed = SecretsBox.open(key_file, SeededEntropy(1)).seal("wJalr")
    assert "wJalr" not in sealed
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert SecretsBox.open(key_file, SeededEntropy(2)).unseal(sealed).reveal() == "wJalr"


def test_a_new_key_leaves_old_secrets_readable(key_file: Path) -> None:
    box = SecretsBox.open(key_file, SeededEntropy(1))
    old = box.seal("x")
    assert box.is_current(old)
    assert box.rotate() == 2
    assert not box.is_current(old)
    assert box.is_current(box.seal("x"))
    assert SecretsBox.open(key_file, SeededEntropy(1)).unseal(old).reveal() == "x"


def test_a_key_file_that_others_may_read_is_refused(key_file: Path) -> None:
    SecretsBox.open(key_file, SeededEntropy(1))
    key_file.chmod(0o640)
    with pytest.raises(Fault) as refused:
        SecretsBox.open(key_file, SeededEntropy(1))
    assert refused.value.kind is Kind.FORBIDDEN


@pytest.mark.parametrize("content", ["", "nonsense", "1:short", "x:y"])
def test_a_damaged_key_file_is_said(key_file: Path, content: str) -> None:
    key_file.touch(0o600)
    key_file.write_text(content)
    with pytest.raises(Fault, match="version:key"):
        SecretsBox.open(key_file, SeededEntropy(1))


def test_a_changed_text_or_a_missing_key_is_said(key_file: Path) -> None:
    box = SecretsBox.open(key_file, SeededEntropy(1))
    sealed = box.seal("x")
    for wrong in (sealed[:-4] + "AAA=", "7" + sealed[1:], "", "no version"):
        with pytest.raises(Fault, match="cannot be opened"):
            box.unseal(wrong)


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hunter2")
    for shown in (repr(secret), str(secret), f"{secret}", "%s" % secret, repr({"k": [secret]})):  # noqa: UP031
        assert "hunter2" not in shown
    assert type(secret.reveal()) is str
    assert secret.encode() == b"hunter2"


@pytest.mark.usefixtures("plain_log")
@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_logged(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    log.configure(json=as_json, clock=ManualClock())
    told = structlog.get_logger()
    told.info(
        "made", key=Secret("hunter2"), user={"secret_access_key": "hunter2", "name": "ann"}, private_ip="10.1"
    )
    try:
        hidden = "hunter2"  # noqa: F841 - a local variable of the traceback
        _ = 1 // 0
    except ZeroDivisionError:
        told.exception("failed", parts=[Secret("hunter2")])
    logging.getLogger("library").warning("said %s", "this")

    out, err = capsys.readouterr()
    assert out == ""
    assert "hunter2" not in err
    for expected in ("made", "ann", "10.1", "ZeroDivisionError", "said this", "2026-01-01T00:00:00"):
        assert expected in err


@pytest.mark.usefixtures("plain_log")
def test_configuring_again_counts_and_doubles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    told = structlog.get_logger()
    log.configure(json=False)
    told.info("first")
    log.configure(json=True, level="warning")
    log.configure(json=True, level="warning")
    told.info("hidden")
    told.warning("second")
    logging.getLogger("library").warning("third")

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert [json.loads(line)["event"] for line in lines[1:]] == ["second", "third"]


def test_a_full_disk_costs_the_log_and_nothing_else(plain_log: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    log.configure(json=True, clock=ManualClock())

    structlog.get_logger().warning("nobody will read this")
    logging.getLogger("library").warning("nor this")


@pytest.mark.usefixtures("plain_log")
def test_the_short_way_of_a_line_says_what_the_long_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json=False, clock=ManualClock())
    told = structlog.get_logger()
    fields = {"status": 200, "who": "ann", "none": None, "parts": [Secret("x")], "password": "y", "ms": 0.5}
    told.info("request", **fields)
    told.warning("request", **fields)

    short, long = capsys.readouterr().err.splitlines()
    assert short == long.replace("[warning ]", "[info    ]")
    assert "parts=['[secret]'] password=[secret]" in short


@pytest.mark.usefixtures("plain_log")
async def test_lines_of_requests_are_written_many_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json=True, clock=ManualClock())
    lines, when = log.Lines(), datetime(2026, 2, 3, tzinfo=UTC)
    for number in range(log.HELD_LINES):
        assert capsys.readouterr().err == ""
        lines.info("request", when, lambda of: {"number": of, "secret_access_key": "hunter2"}, number)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["number"] for line in told] == list(range(log.HELD_LINES))
    assert {line["level"] for line in told} == {"info"}
    assert {line["secret_access_key"] for line in told} == {"[secret]"}

    assert {line["timestamp"] for line in told} == {"2026-02-03T00:00:00.000+00:00"}

    lines.info("request", when, lambda: {"number": "last"})
    lines.flush()
    assert json.loads(capsys.readouterr().err)["number"] == "last"
    lines.flush()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("plain_log")
async def test_a_line_of_a_request_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    log.configure(json=False)
    written: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            written.set_result(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Screen())
    log.Lines().info("request", ManualClock().now(), lambda: {"number": 1})
    async with asyncio.timeout(60):
        said = await written  # it comes by itself
    assert said == "2026-01-01T00:00:00.000+00:00 [info    ] request number=1\n"


@pytest.mark.usefixtures("plain_log")
async def test_lines_below_the_level_are_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json=False, level="warning")
    lines = log.Lines()
    lines.info("request", ManualClock().now(), dict)
    lines.flush()
    assert capsys.readouterr().err == ""
