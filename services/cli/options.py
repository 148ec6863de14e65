"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mallee.cli.output import Format


class Hypervisor(StrEnum):
    """The value of `--hypervisor`."""

    FAKE = "fake"
    LIBVIRT = "libvirt"


State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="The cloud's state folder. [default: $MALLEE_STATE or ~/.local/state/mallee]",
        show_default=False,
    ),
]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print.")]
Watch = Annotated[bool, typer.Option("--watch", help="Print again and again until Ctrl-C.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="mallee.toml, a section per service.")
]
