"""What commands print: data on standard output as a table or JSON, all else on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = dict[str, Any]
PIPE_WIDTH = 250


class Format(StrEnum):
    """The value of `-o`."""

    TABLE = "table"
    JSON = "json"


def tell(text: str) -> None:
    """A word to the person at the terminal."""
    typer.echo(text, err=True)


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, default=_plain)


def as_table(rows: Sequence[Row]) -> Table:
    """A table whose columns are the first row's keys; a list shows how long it is."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in rows[0] if rows else ():
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def show(rows: Sequence[Row], form: Format, *, none: str) -> None:
    """Print rows once; `none` says on standard error that there are no rows."""
    if form is Format.JSON:
        typer.echo(as_json(list(rows)))
    elif rows:
        console().print(as_table(rows))
    else:
        tell(none)


async def watch(fetch: Callable[[], Sequence[Row]], form: Format, *, none: str, every: float = 1.0) -> None:
    """Print rows again and again until Ctrl-C: JSON as one line each time, a table in place."""
    from rich.live import Live

    from mallee.kernel.clock import SystemClock

    clock = SystemClock()
    if form is Format.JSON:
        while True:
            typer.echo(json.dumps(list(fetch()), default=_plain))
            await clock.sleep(every)
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            rows = fetch()
            live.update(as_table(rows) if rows else none, refresh=True)
            await clock.sleep(every)


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; into a file or a pipe as wide as a row may get, so nothing is cut off."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def size(count: float) -> str:
    """Bytes as people read them: `412 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%H:%M:%S")
    if isinstance(value, list):
        return str(len(value))
    return "" if value is None else str(value)
