"""Configuration: one TOML file with a section per service, and the environment over it.

A service declares a frozen dataclass; its fields, types and defaults are the whole description.
A name nobody knows is an error with the nearest known one, because a mistyped setting that is
silently ignored is found on the day it was needed.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.secrets_box import Secret

C = TypeVar("C")

SECTIONS = ("clc", "cc", "nc", "sc", "walrus", "console", "cloud")


def load(
    cls: type[C],
    section: str,
    path: Path | None,
    environ: Mapping[str, str],
    *,
    sections: Collection[str] = SECTIONS,
) -> C:
    """`[section]` of the file at `path` as a `cls`, `MALLEE_<SECTION>_<KEY>` taking precedence.

    Args:
        cls: a frozen dataclass; nested dataclasses, lists and tables of them are checked alike.
        section: its name in the file.
        path: the file, or None to use the environment and defaults alone.
        environ: e.g. `os.environ`. A value is text, or a TOML value where the type is none.
        sections: what else the file may hold.

    Faults: INVALID, naming the setting, what is wrong with it, and the nearest that would do.
    """
    whole = _read(path) if path is not None else {}
    where = str(path) if path is not None else "the environment"
    for name in whole:
        _known(name, {*sections, section}, f"{where} has an unknown section [{name}]", "section")
    table = whole.get(section, {})
    if not isinstance(table, dict):
        _refuse(
            f"{where}: {section} is not a section.", "It is a plain value.", f"Write [{section}] above it."
        )
    _check_names(cls, table, f"[{section}] of {where}")
    table = {**table, **_from_environment(cls, section, environ)}
    try:
        return msgspec.convert(table, cls, dec_hook=_made)
    except msgspec.ValidationError as error:
        _refuse(
            f"The configuration of {section} is not valid.",
            f"{error}.",
            f"Correct it in [{section}] of {where}, or set MALLEE_{section.upper()}_<KEY>.",
            error,
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        _refuse(
            f"The configuration {path} cannot be read.",
            f"{error.strerror}.",
            "Name a file that exists.",
            error,
        )
    except ValueError as error:
        _refuse(f"The configuration {path} is not TOML.", f"{error}.", "Correct that line.", error)


def _from_environment(cls: type[Any], section: str, environ: Mapping[str, str]) -> dict[str, Any]:
    types = get_type_hints(cls)
    prefix = f"MALLEE_{section.upper()}_"
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        key = variable.removeprefix(prefix).lower()
        _known(key, types, f"The environment sets {variable}, which is no setting of {section}", "setting")
        found[key] = _parsed(variable, text, types[key])
    return found


def _parsed(variable: str, text: str, wanted: Any) -> Any:
    """The text itself where the type takes it (numbers, booleans, paths), else a TOML value."""
    try:
        return msgspec.to_builtins(
            msgspec.convert(text, wanted, strict=False, dec_hook=_made), enc_hook=_plain
        )
    except msgspec.ValidationError as as_text:
        try:
            value = tomllib.loads(f"value = {text}")["value"]
            _check_names(wanted, value, variable)
            msgspec.convert(value, wanted, dec_hook=_made)
        except (ValueError, msgspec.ValidationError):
            _refuse(
                f"The environment variable {variable} is not valid.",
                f"{as_text}.",
                "Give it as it would stand in mallee.toml.",
                as_text,
            )
        return value


def _check_names(wanted: Any, value: Any, where: str) -> None:
    """Every key of every table is a field: msgspec itself lets strangers pass for dataclasses."""
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        types = get_type_hints(wanted)
        for key, content in value.items():
            _known(key, types, f"{where} has an unknown setting {key}", "setting")
            _check_names(types[key], content, f"{where}, {key}")
    elif get_origin(wanted) in {Union, UnionType}:
        for option in get_args(wanted):
            _check_names(option, value, where)
    elif isinstance(value, list) and get_args(wanted):
        for number, content in enumerate(value, 1):
            _check_names(get_args(wanted)[0], content, f"{where}, number {number}")
    elif isinstance(value, dict) and get_args(wanted):
        for name, content in value.items():
            _check_names(get_args(wanted)[1], content, f"{where}, {name}")


def _known(name: str, names: Collection[str], what: str, noun: str) -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    fix = f"Did you mean {near[0]}?" if near else f"Known {noun}s are: {', '.join(sorted(names))}."
    _refuse(f"{what}.", f"No {noun} has that name.", fix)


def _made(wanted: type[Any], value: Any) -> Any:
    if isinstance(value, str) and issubclass(wanted, Path | Secret):
        return wanted(value)
    raise NotImplementedError(wanted)


def _plain(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else str(value)


def _refuse(what: str, why: str, fix: str, cause: BaseException | None = None) -> NoReturn:
    raise Fault(Kind.INVALID, what, why=why, fix=fix, code="configuration") from cause
