"""What the tables of actions say, the models allow and the page tells is the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mallee.aws import model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def gen_compatibility() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import gen_compatibility
    finally:
        sys.path.pop(0)
    return gen_compatibility


def test_the_page_is_what_the_tables_say(gen_compatibility: ModuleType) -> None:
    committed = (ROOT / "docs/compatibility.md").read_text()
    assert committed == gen_compatibility.document(), "run: python tools/gen_compatibility.py"


def test_every_table_agrees_with_its_model(gen_compatibility: ModuleType) -> None:
    tables = gen_compatibility.tables()
    assert {"ec2", "iam", "sts"} <= set(tables)
    for service, table in tables.items():
        table.verify(model.load(service))


def test_every_action_says_what_it_does(gen_compatibility: ModuleType) -> None:
    silent = [
        action.name for table in gen_compatibility.tables().values() for action in table if not action.doc
    ]
    assert not silent


def test_what_is_refused_is_named_where_it_is_whole(gen_compatibility: ModuleType) -> None:
    paths = {"A", "B", "B.C", "B.C.D", "B.E", "F", "F.G"}
    assert gen_compatibility.refused(paths, ("A", "B.E")) == ["B.C", "F"]
    assert gen_compatibility.refused(paths, ("A", "B", "F.G")) == []


def test_every_operation_of_s3_says_what_it_does(gen_compatibility: ModuleType) -> None:
    table = gen_compatibility.operations()
    table.verify(model.load("s3"))
    assert not [operation.name for operation in table if not operation.doc]
    page = gen_compatibility.document().partition("## S3\n")[2]
    assert [name for name in model.load("s3").operations if name not in page] == []
