"""`mallee image`: what guests boot from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mallee.cli.output import tell

app = typer.Typer(help="Images: build a tiny one.", no_args_is_help=True)


@app.callback()
def images() -> None:
    """Images: build a tiny one."""


@app.command()
def build_tiny(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where it is put.")] = Path(
        "/var/lib/mallee/images/tiny"
    ),
) -> None:
    """Make a bootable guest of a few MB from Debian's packages: kernel, busybox, dropbear."""
    from mallee.cli.tiny import build

    for path in build(to):
        tell(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
