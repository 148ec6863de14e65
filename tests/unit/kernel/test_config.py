"""Configuration: what a mistyped setting says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mallee.kernel.config import load
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.secrets_box import Secret


@dataclass(frozen=True)
class Size:
    name: str
    cores: int
    memory: int = 1024


@dataclass(frozen=True)
class Settings:
    folder: Path
    port: int = 8773
    quick: bool = False
    lease: float = 10.0
    password: Secret | None = None
    sizes: tuple[Size, ...] = ()
    extra: dict[str, Size] = field(default_factory=dict)


def from_file(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "mallee.toml"
    path.write_text(text)
    return load(Settings, "clc", path, environ or {})


def test_file_environment_and_defaults(tmp_path: Path) -> None:
    text = '[clc]\nfolder = "/x"\nport = 1\n[[clc.sizes]]\nname = "a"\ncores = 2\n[nc]\nanything = 1\n'
    found = from_file(
        tmp_path, text, {"MALLEE_CLC_PORT": "9", "MALLEE_CLC_QUICK": "true", "MALLEE_NC_X": "1"}
    )
    assert found == Settings(Path("/x"), port=9, quick=True, sizes=(Size("a", 2),))


def test_the_environment_alone_is_enough() -> None:
    environ = {
        "MALLEE_CLC_FOLDER": "/x",
        "MALLEE_CLC_PASSWORD": "p",
        "MALLEE_CLC_SIZES": '[{name = "a", cores = 1}]',
        "MALLEE_CLC_LEASE": "2.5",
    }
    found = load(Settings, "clc", None, environ)
    assert found == Settings(Path("/x"), password=Secret("p"), lease=2.5, sizes=(Size("a", 1),))
    assert isinstance(found.password, Secret)


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ('[clc]\nfoldr = "/x"', {}, "Did you mean folder?"),
        ('[clcc]\nfolder = "/x"', {}, "Did you mean clc?"),
        ('[clc]\nfolder = "/x"\nport = "1"', {}, "`int`, got `str` - at `$.port`"),
        ("[clc]\nport = 1", {}, "`folder`"),
        ('[clc]\nfolder = "/x"\n[[clc.sizes]]\nname="a"\ncores=1\ncolour="red"', {}, "number 1"),
        ('[clc]\nfolder = "/x"\n[clc.extra.big]\nname="a"\ncore=1', {}, "Did you mean cores?"),
        ('[clc]\nfolder = "/x"', {"MALLEE_CLC_PROT": "1"}, "Did you mean port?"),
        ('[clc]\nfolder = "/x"', {"MALLEE_CLC_PORT": "one"}, "MALLEE_CLC_PORT"),
        ('[clc]\nfolder = "/x"', {"MALLEE_CLC_SIZES": "[{nam = 1}]"}, "Did you mean name?"),
        ("[clc", {}, "not TOML"),
        ("clc = 1", {}, "not a section"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, environ: dict[str, str], says: str) -> None:
    with pytest.raises(Fault) as refused:
        from_file(tmp_path, text, environ)
    fault = refused.value
    assert fault.kind is Kind.INVALID
    assert fault.what
    assert fault.why
    assert fault.fix
    assert says in str(fault)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="cannot be read"):
        load(Settings, "clc", tmp_path / "none.toml", {})
