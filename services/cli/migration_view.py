"""A live migration as a drawing: its six stages, a bar for each round, the pause at the end."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from mallee.cli.output import size

STAGES = ("pre-migration", "reservation", "iterative pre-copy", "stop-and-copy", "commitment", "activation")
WIDTH = 32  # of the longest bar
SHOWN = 12  # rounds, the last ones; the first is always among them


def drawing(migration: dict[str, Any]) -> RenderableType:
    """What DescribeInstanceMigrations says about one migration, as it is now."""
    rounds = migration.get("Rounds", [])
    return Group(_heading(migration), *_stages(migration), *_rounds(rounds), _ending(migration))


def _heading(migration: dict[str, Any]) -> Text:
    way = f"{migration.get('SourceHost', '?')} -> {migration.get('DestinationHost', '?')}"
    return Text(f"{migration['InstanceId']}  {way}  {migration['State']}", style="bold", no_wrap=True)


def _stages(migration: dict[str, Any]) -> list[Text]:
    """Two lines of three: what is done, what happens now, what is to come."""
    lines = [Text("  ", no_wrap=True), Text("  ", no_wrap=True)]
    for number, name in enumerate(STAGES):
        mark, style = _mark(number, migration.get("Stage", 0), migration["State"])
        lines[number // 3].append(f"{mark} {number} {name:<20}", style=style)
    return lines


def _mark(number: int, now: int, state: str) -> tuple[str, str]:
    if number < now or state == "completed":
        return "*", "green"
    if number > now:
        return ".", "dim"
    return ("x", "red") if state in {"failed", "cancelled"} else (">", "bold yellow")


def _rounds(rounds: list[dict[str, Any]]) -> list[Text]:
    longest = max((sent.get("BytesSent", 0) for sent in rounds), default=0) or 1
    shown = rounds if len(rounds) <= SHOWN else [rounds[0], *rounds[1 - SHOWN :]]
    lines = []
    for sent in shown:
        count = sent.get("BytesSent", 0)
        bar = "#" * max(1, round(WIDTH * count / longest))
        line = Text(f"  round {sent['Number']:>2} ", no_wrap=True)
        line.append(f"{bar:<{WIDTH}} ", style="cyan")
        line.append(
            f"{size(count):>7} {sent.get('DurationMs', 0):>6.0f} ms  dirtied {size(sent.get('DirtyRate', 0))}/s"
        )
        lines.append(line)
    return lines


def _ending(migration: dict[str, Any]) -> Text:
    match migration["State"]:
        case "completed":
            count, sent = len(migration.get("Rounds", [])), size(migration.get("BytesSent", 0))
            text = (
                f"  {count} rounds, {sent}, the guest stood still for {migration.get('DowntimeMs', 0):.0f} ms"
            )
            return Text(text, style="bold green")
        case "failed" | "cancelled":
            return Text(
                f"  {migration.get('StateReason', {}).get('Message', migration['State'])}", style="red"
            )
        case _:
            left, pause = size(migration.get("BytesRemaining", 0)), migration.get("ExpectedDowntimeMs", 0)
            slowed = f", the guest slowed by {migration['Throttle']} %" if migration.get("Throttle") else ""
            return Text(f"  {left} left, a pause of {pause:.0f} ms if it stopped now{slowed}", style="dim")
