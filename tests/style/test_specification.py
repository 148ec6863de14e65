"""Every promise names a test or a bench, and what it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMISE = re.compile(r"^\| ([A-F]\d+) \|.*\| (.+) \|$", re.MULTILINE)
HOLDER = re.compile(r"`((?:tests|benches)/[\w/]+\.py)(?:::(\w+))?`")


def promises() -> dict[str, list[tuple[str, str]]]:
    return {
        number: HOLDER.findall(by) for number, by in PROMISE.findall((ROOT / "SPECIFICATION.md").read_text())
    }


def test_every_promise_is_held_by_something() -> None:
    assert len(promises()) > 30
    assert [number for number, holders in promises().items() if not holders] == []


def test_what_holds_a_promise_exists() -> None:
    missing = [
        f"{number}: {path}::{name}"
        for number, holders in promises().items()
        for path, name in holders
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text())
    ]
    assert missing == []
