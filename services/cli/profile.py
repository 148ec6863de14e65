"""The AWS profile `mallee`, for every tool that reads `~/.aws`, and the models of Mallee's own operations.

Other profiles, `[default]` and other vendors' model extensions stay as they are. Every file is made
beside its place, loaded by botocore from there, and only then renamed into it: an extension file that
botocore cannot read would break every `aws ec2` command of the user.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mallee.cli.client import EC2_VERSION, extras
from mallee.cli.state import Access
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.state_folder import replace

NAME = "mallee"
_HEADING = re.compile(r"^\s*\[\s*(.*?)\s*\]\s*(?:[#;].*)?$")


@dataclass(frozen=True, slots=True)
class Places:
    """Where this user's AWS tools look."""

    config: Path
    credentials: Path
    models: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Places:
        home = Path(environ.get("HOME") or Path.home()) / ".aws"
        return cls(
            Path(environ.get("AWS_CONFIG_FILE") or home / "config").expanduser(),
            Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials").expanduser(),
            home / "models",
        )


def sections(access: Access) -> dict[str, str]:
    """The two sections of `~/.aws/config`. No request leaves for AWS with this profile."""
    return {
        f"profile {NAME}": f"region = {access.region}\nservices = {NAME}\nendpoint_url = {access.endpoint}\n"
        "s3 =\n    addressing_style = path\n",
        f"services {NAME}": f"ec2 =\n    endpoint_url = {access.endpoint}\n"
        f"s3 =\n    endpoint_url = {access.endpoint}\n",
    }


def keys(access: Access) -> dict[str, str]:
    """The section of `~/.aws/credentials`."""
    return {
        NAME: f"aws_access_key_id = {access.access_key_id}\n"
        f"aws_secret_access_key = {access.secret_access_key}\n"
    }


def edited(text: str, change: Mapping[str, str | None]) -> str:
    """An ini file with some sections replaced, added or (None) removed; every other byte stays."""
    kept: list[str] = []
    inside = ""
    for line in text.splitlines(keepends=True):
        heading = _HEADING.match(line)
        if heading:
            inside = " ".join(heading[1].replace('"', "").replace("'", "").split())
        if inside not in change:
            kept.append(line)
    body = "".join(kept)
    for name, lines in change.items():
        if lines is not None:
            gap = "" if not body or body.endswith("\n\n") else "\n" if body.endswith("\n") else "\n\n"
            body += f"{gap}[{name}]\n{lines}"
    return body


def write(access: Access, places: Places) -> list[Path]:
    """Make the profile, or bring it up to date. Returns the files that it stands in.

    Raises:
        Fault: CONFLICT, when another vendor's extension gives one of our names another meaning;
            INVALID, when a file of the user's cannot be read.
    """
    files = {
        places.config: edited(_read(places.config), dict(sections(access))).encode(),
        places.credentials: edited(_read(places.credentials), dict(keys(access))).encode(),
    }
    models, added = _models(places.models, install=True)
    _check(files | models, places)
    shutil.rmtree(places.models / f".{NAME}", ignore_errors=True)
    _replace(added | files | models)
    return [*files, *models]


def remove(places: Places) -> list[Path]:
    """Take out of the user's files what `write` put in."""
    files: dict[Path, bytes] = {}
    changes: tuple[tuple[Path, dict[str, str | None]], ...] = (
        (places.config, {f"profile {NAME}": None, f"services {NAME}": None}),
        (places.credentials, {NAME: None}),
    )
    for path, gone in changes:
        before = _read(path)
        after = edited(before, gone)
        if after != before:
            files[path] = after.encode()
    files |= _models(places.models, install=False)[0]
    _replace(files)
    shutil.rmtree(places.models / f".{NAME}", ignore_errors=True)
    _prune(places.models)
    return list(files)


def merged(theirs: Any, ours: Any, path: str) -> Any:
    """Both models in one. The same name must mean the same in both."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        both = dict(theirs)
        for key, value in ours.items():
            both[key] = merged(theirs[key], value, f"{path}.{key}") if key in theirs else value
        return both
    if theirs != ours:
        raise Fault(
            Kind.CONFLICT,
            "Another extension of the AWS models stands in the way.",
            why=f"{path} is defined there and means something else.",
            fix="Move that file away, or keep it and call boto3 with AWS_DATA_PATH set to Mallee's extras.",
            code="extras-conflict",
        )
    return theirs


def without(theirs: Any, ours: Any) -> Any:
    """The model without what `ours` added; None when nothing else is left."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        rest = {
            key: kept
            for key, value in theirs.items()
            if (kept := without(value, ours[key]) if key in ours else value) is not None
        }
        return rest or None
    return None if theirs == ours else theirs


def _models(folder: Path, *, install: bool) -> tuple[dict[Path, bytes], dict[Path, bytes]]:
    """The extension files as they should be, and a note of what in each of them is ours alone.

    By that note an older Mallee's part is taken out first, and nothing that others wrote ever is.
    """
    files: dict[Path, bytes] = {}
    notes: dict[Path, bytes] = {}
    before = folder / f".{NAME}"
    names = {path.relative_to(room) for room in (extras(), before) for path in room.rglob("*.json")}
    for name in sorted(names):
        rest = without(_json(folder / name), _json(before / name))
        others = None if rest is None or set(rest) <= {"version"} else rest
        wanted = others
        if install and (extras() / name).exists():
            ours = _json(extras() / name)
            wanted = ours if others is None else merged(others, ours, str(name))
            notes[before / name] = json.dumps(without(ours, others) or {}).encode()
        if wanted is not None:
            files[folder / name] = json.dumps({"version": 1.0} | wanted, indent=1).encode()
        elif (folder / name).exists():
            files[folder / name] = b""
    return files, notes


def _check(files: Mapping[Path, bytes], places: Places) -> None:
    """Load everything by botocore from a copy before a single file is put in its place."""
    import botocore.session

    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models"
        if places.models.is_dir():
            shutil.copytree(places.models, models)
        for path, content in files.items():
            inside = path.is_relative_to(places.models)
            copy = models / path.relative_to(places.models) if inside else Path(scratch) / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        core = botocore.session.Session()
        core.set_config_variable("config_file", str(Path(scratch) / places.config.name))
        core.set_config_variable("credentials_file", str(Path(scratch) / places.credentials.name))
        core.set_config_variable("profile", NAME)
        loader = core.get_component("data_loader")
        loader.search_paths[:0] = [str(models)]
        try:
            region, made = (
                core.get_config_variable("region"),
                core.create_client("ec2", api_version=EC2_VERSION),
            )
        except Exception as error:
            raise Fault(
                Kind.INVALID,
                "The AWS profile was not written.",
                why=f"botocore could not load it: {error}",
                fix="Mend the file it names; nothing was changed.",
                code="profile-invalid",
            ) from error
        if not region or not hasattr(made, "migrate_instances"):
            raise Fault(Kind.INTERNAL, "The AWS profile was not written.", why="botocore overlooks it.")


def _replace(files: Mapping[Path, bytes]) -> None:
    for path, content in files.items():
        if not content and path.suffix == ".json":
            path.unlink()
            _prune(path.parent)
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link stays a link: dotfiles are often kept elsewhere.
        replace(Path(os.path.realpath(path)), content)


def _prune(folder: Path) -> None:
    """Remove a folder that has become empty, and those above it that become so, inside `~/.aws`."""
    while folder.name != ".aws" and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(
            Kind.INVALID, f"{path} cannot be read.", why=f"{error}.", fix="Mend or move it."
        ) from error


def _json(path: Path) -> Any:
    text = _read(path)
    if not text:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Fault(
            Kind.INVALID, f"{path} is not JSON.", why=f"{error}.", fix="Mend or move it; nothing was changed."
        ) from error
