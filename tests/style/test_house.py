"""The house keeps its own rules: floors, sizes, names, docstrings, links.

The exceptions below may only shrink. A file or function that no longer needs its entry fails the test
until the entry is gone.
"""

from __future__ import annotations

import ast
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "services/rpc"

FILE_MAX, FILE_MEDIAN = 500, 120  # lines
FUNCTION_MAX, FUNCTION_MEDIAN = 60, 12
FOLDER_MAX = 20  # modules beside each other
TOP_FOLDERS_MAX = 10

LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
WIDE_FOLDERS: dict[str, int] = {}

FORBIDDEN_MODULES = re.compile(r"(^|_)(utils?|helpers?|managers?|base|common|misc)(_|$)")
FORBIDDEN_NAMES = re.compile(r"^(do_|process_|handle_stuff)|([a-z]Manager|Helper|Utils?|Base)$")
ALLOWED_NAMES = {"do"}


def _modules(*rooms: str) -> list[Path]:
    found = (path for room in rooms for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if GENERATED not in path.parents)


SERVICES = _modules("services")
EVERYTHING = _modules("services", "tests", "benches", "tools")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    # A migration is one list of statements that nobody changes once it is out.
    for path in (path for path in SERVICES if path.parent.name != "migrations"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{_name(path)}:{node.name}", node


def _held(measured: dict[str, int], limit: int, exceptions: dict[str, int], what: str) -> None:
    """Each is within the limit or within its own exception, and no exception is larger than needed."""
    over = {name: size for name, size in measured.items() if size > exceptions.get(name, limit)}
    assert not over, f"{what} over {limit}: {over}"
    stale = {name for name, size in exceptions.items() if measured.get(name, 0) < size}
    assert not stale, f"these exceptions can be lowered or removed: {sorted(stale)}"


def test_files_are_short() -> None:
    sizes = {_name(path): _lines(path) for path in SERVICES}

    _held(sizes, FILE_MAX, LONG_FILES, "files")
    assert statistics.median(size for size in sizes.values() if size > 1) <= FILE_MEDIAN


def test_functions_are_short() -> None:
    sizes: dict[str, int] = {}
    for name, node in _functions():
        # Two of one name in a file: the longer one counts.
        sizes[name] = max(sizes.get(name, 0), (node.end_lineno or node.lineno) - node.lineno + 1)

    _held(sizes, FUNCTION_MAX, LONG_FUNCTIONS, "functions")
    assert statistics.median(sizes.values()) <= FUNCTION_MEDIAN


def test_folders_can_be_read_at_a_glance() -> None:
    rooms = {path.parent for path in SERVICES}
    sizes = {_name(room): sum(path.name != "__init__.py" for path in room.glob("*.py")) for room in rooms}

    _held(sizes, FOLDER_MAX, WIDE_FOLDERS, "folders")


def test_the_top_level_can_be_read_at_a_glance() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {path.split("/")[0] for path in tracked if "/" in path}

    assert len([name for name in folders if not name.startswith(".")]) <= TOP_FOLDERS_MAX


@pytest.mark.parametrize("path", SERVICES, ids=_name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()

    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{_name(path)} has no docstring"


def test_names_say_what_things_are() -> None:
    modules = [_name(path) for path in EVERYTHING if FORBIDDEN_MODULES.search(path.stem)]
    assert not modules, f"modules named after nothing: {modules}"

    names = []
    for path in SERVICES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bare = node.name.strip("_")
                if FORBIDDEN_NAMES.search(bare) and bare not in ALLOWED_NAMES:
                    names.append(f"{_name(path)}:{node.name}")
    assert not names, f"names that say nothing: {names}"


@pytest.mark.parametrize(
    ("name", "bad"),
    [("process_orders", True), ("NodeManager", True), ("do_it", True), ("claim", False), ("undo", False)],
)
def test_the_law_of_names_can_fail(name: str, bad: bool) -> None:
    assert bool(FORBIDDEN_NAMES.search(name)) is bad


def test_an_exception_that_nobody_needs_is_found() -> None:
    with pytest.raises(AssertionError, match="can be lowered"):
        _held({"a": 10}, 20, {"a": 30}, "files")
    with pytest.raises(AssertionError, match="over 20"):
        _held({"a": 21}, 20, {}, "files")


def test_rooms_only_know_the_floors_below() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is not installed: pip install -e '.[dev]'"

    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_a_package_is_in_every_room() -> None:
    rooms = {path.parent for path in SERVICES}
    missing = [
        _name(room) for room in rooms if not (room / "__init__.py").exists() and room.name != "migrations"
    ]

    assert not missing, f"without __init__.py the package finder overlooks them: {missing}"


LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benches").glob("*.md")]
    if path.is_file()
)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        target
        for target, _ in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
        if not (page.parent / target).exists()
    ]

    assert not dead, f"{_name(page)} links to what is not there: {dead}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_pages_name_files_that_exist(page: Path) -> None:
    """A path in backticks under a folder of ours is one that exists."""
    named = re.findall(
        r"`((?:services|tests|benches|docs|tools|packaging|proto)/[\w./-]+\.\w+)(?:::\w+)?`", page.read_text()
    )
    gone = [path for path in named if not (ROOT / path).exists()]

    assert not gone, f"{_name(page)} names what is not there: {gone}"
