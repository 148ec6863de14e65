import fnmatch
import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mallee.aws.errors import FilterLimitExceeded, InvalidParameterValue
from mallee.aws.filters import Pattern, parse, passes

DOCUMENTED = {"instance-state-name": str, "launch-time": str, "tag:": str, "tag-key": str}


def one(name, *values):
    return parse([{"Name": name, "Values": list(values)}], DOCUMENTED)[0]


@pytest.mark.parametrize(
    ("pattern", "text", "yes"),
    [
        ("running", "running", True),
        ("running", "Running", False),
        ("run*", "running", True),
        ("run*", "run", True),
        ("*ing", "running", True),
        ("*ing", "running!", False),
        ("r?nning", "running", True),
        ("r?nning", "rnning", False),
        ("*", "", True),
        ("", "", True),
        ("?", "", False),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        (r"a\?b", "a?b", True),
        (r"a\\b", r"a\b", True),
        ("a\\", "a\\", True),
        (r"a\nb", r"a\nb", True),
        ("a.b", "axb", False),
        ("a*b", "a\nb", True),
        ("*a*b*", "xxaxxbxx", True),
        ("*ab", "aab", True),
        ("a*a", "a", False),
    ],
)
def test_wildcards(pattern, text, yes) -> None:
    assert Pattern(pattern).matches(text) is yes


letters = st.text("ab*?\\%_[]^-", max_size=8)


@given(letters, letters)
def test_a_database_sees_what_python_sees(pattern, text) -> None:
    wanted = Pattern(pattern).matches(text)
    db = sqlite3.connect(":memory:")
    db.execute("PRAGMA case_sensitive_like = 1")
    glob, like = db.execute(
        "SELECT ?1 GLOB ?2, ?1 LIKE ?3 ESCAPE '\\'", (text, Pattern(pattern).glob, Pattern(pattern).like)
    ).fetchone()
    db.close()
    assert (bool(glob), bool(like)) == (wanted, wanted)


@given(st.text("ab*?", max_size=10), st.text("ab", max_size=10))
def test_a_slow_matcher_agrees(pattern, text) -> None:
    assert Pattern(pattern).matches(text) == fnmatch.fnmatchcase(text, pattern)


def test_no_pattern_is_slow() -> None:
    assert not Pattern("*a" * 127).matches("a" * 126 + "b" * 100)


def test_exact_values_are_given_for_an_index() -> None:
    assert one("tag:Name", "a", r"b\*").exact == ("a", "b*")
    assert one("tag:Name", "a", "b*").exact is None
    assert one("tag:Name", "a").tag_key == "Name"
    assert one("tag-key", "a").tag_key is None


def test_values_of_every_kind() -> None:
    assert one("instance-state-name", "true").matches(True)
    assert one("instance-state-name", "80").matches(80)
    assert one("launch-time", "2026-01-*").matches(datetime(2026, 1, 5, tzinfo=UTC))
    assert one("launch-time", "2026-01-05T00:00:00.000Z").matches(datetime(2026, 1, 5, tzinfo=UTC))
    assert one("instance-state-name", "b").matches(["a", "b"])
    assert not one("instance-state-name", "*").matches(None)
    assert not one("instance-state-name", "*").matches([])


def test_or_within_and_between() -> None:
    filters = parse(
        [
            {"Name": "instance-state-name", "Values": ["running", "stopped"]},
            {"Name": "tag:k", "Values": ["v"]},
        ],
        DOCUMENTED,
    )
    assert passes(filters, {"instance-state-name": "stopped"}, {"k": "v"})
    assert not passes(filters, {"instance-state-name": "stopped"}, {"k": "w"})
    assert not passes(filters, {"instance-state-name": "stopped"}, {})
    assert not passes(filters, {"instance-state-name": "pending"}, {"k": "v"})
    assert parse(None, DOCUMENTED) == ()


@pytest.mark.parametrize(
    "name", ["", "nonsense", "Instance-State-Name", "tag:", "tag", "instance-state-name "]
)
def test_only_documented_names(name) -> None:
    with pytest.raises(InvalidParameterValue, match=r"The filter '.*' is invalid"):
        one(name, "x")


def test_limits() -> None:
    assert len(one("tag-key", *map(str, range(200))).values) == 200
    with pytest.raises(FilterLimitExceeded):
        one("tag-key", *map(str, range(201)))
    with pytest.raises(FilterLimitExceeded):
        parse([{"Name": "tag-key", "Values": ["x"]}] * 51, DOCUMENTED)
    with pytest.raises(InvalidParameterValue):
        one("tag-key", "x" * 256)
    with pytest.raises(InvalidParameterValue):
        one("tag-key")
