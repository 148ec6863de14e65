"""What commands print."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from mallee.cli.commands.access import aws_sections, exports, provider
from mallee.cli.migration_view import SHOWN, drawing
from mallee.cli.output import Format, show, size
from mallee.cli.state import Access

ACCESS = Access(
    endpoint="http://127.0.0.1:8773",
    s3_endpoint="http://127.0.0.1:8774",
    region="mallee-1",
    zones=["mallee-1a"],
    account_id="000000000001",
    access_key_id="AKIAEXAMPLE",
    secret_access_key="it's/secret+",
    pids={},
    state="/nowhere",
)


def drawn(**migration: Any) -> str:
    described = {
        "InstanceId": "i-0123456789abcdef0",
        "SourceHost": "a1",
        "DestinationHost": "a2",
        "State": "running",
        "Stage": 2,
    } | migration
    out = io.StringIO()
    Console(file=out, width=140, color_system=None).print(drawing(described))
    return out.getvalue()


def rounds(count: int) -> list[dict[str, Any]]:
    return [
        {"Number": n, "BytesSent": 1_000_000 // n, "DurationMs": 100 / n, "DirtyRate": 1e6}
        for n in range(1, count + 1)
    ]


def test_a_running_migration_shows_its_rounds_and_what_is_left() -> None:
    text = drawn(Rounds=rounds(3), BytesRemaining=5_000_000, ExpectedDowntimeMs=41.0, Throttle=20)

    assert "a1 -> a2" in text
    assert "> 2 iterative pre-copy" in text
    bars = [line.count("#") for line in text.splitlines() if "round" in line and "#" in line]
    assert bars == sorted(bars, reverse=True)
    assert len(bars) == 3
    assert "5 MB left, a pause of 41 ms" in text
    assert "slowed by 20 %" in text


def test_the_end_tells_the_pause() -> None:
    text = drawn(State="completed", Stage=5, Rounds=rounds(7), BytesSent=412_000_000, DowntimeMs=41.4)

    assert "7 rounds, 412 MB, the guest stood still for 41 ms" in text
    assert text.count("* ") == 6


def test_a_failure_tells_its_reason_at_its_stage() -> None:
    text = drawn(State="failed", Stage=1, StateReason={"Message": "No room on a2."})

    assert "x 1 reservation" in text
    assert "No room on a2." in text


def test_many_rounds_fit_a_screen() -> None:
    text = drawn(Rounds=rounds(29))

    shown = [line for line in text.splitlines() if line.startswith("  round")]
    assert len(shown) == SHOWN
    assert "round  1" in shown[0]
    assert "round 29" in shown[-1]


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (4.2e8, "420 MB"), (3e12, "3 TB")])
def test_sizes_are_read_at_a_glance(count: float, text: str) -> None:
    assert size(count) == text


def test_json_is_data_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"at": datetime(2026, 1, 1, tzinfo=UTC), "list": [1, 2]}], Format.JSON, none="nothing")
    show([], Format.JSON, none="nothing")

    out = capsys.readouterr()
    first, second = json.JSONDecoder().raw_decode(out.out)[0], out.out.rstrip().endswith("[]")
    assert first == [{"at": "2026-01-01T00:00:00+00:00", "list": [1, 2]}]
    assert second
    assert out.err == ""


def test_an_empty_table_is_a_word_to_the_reader_and_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    show([], Format.TABLE, none="No nodes.")

    assert capsys.readouterr() == ("", "No nodes.\n")


def test_a_secret_with_a_quote_survives_the_shell() -> None:
    import subprocess

    said = subprocess.run(
        ["bash", "-c", f'{exports(ACCESS)}\nprintf %s "$AWS_SECRET_ACCESS_KEY"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert said == ACCESS.secret_access_key


def test_terraform_and_aws_forms_name_every_service() -> None:
    for word in ("ec2", "iam", "sts", "s3", "skip_region_validation", "s3_use_path_style"):
        assert word in provider(ACCESS)
    assert "skip_requesting_account_id" not in provider(ACCESS), "a rule's peer would seem foreign"
    assert "[profile mallee]" in aws_sections(ACCESS)
    assert "[services mallee]" in aws_sections(ACCESS)
