"""`mallee audit`: whether the books of the whole cloud agree; 0 only when they do."""

from __future__ import annotations

from typing import Any

import typer

from mallee.cli import options
from mallee.cli.output import Format, Row, as_json, show, tell

_AWAY = "A zone could not be asked."
_BRIEF = ("invariant", "rule", "subject", "zone", "what")


def register(app: typer.Typer) -> None:
    app.command()(audit)


def audit(state: options.State = None, output: options.Output = Format.TABLE) -> None:
    """Compare what was wished, what the zones hold and what the nodes run; exit code 0 only when all agree.

    A doubt is looked into once more, which takes some fifteen seconds.
    """
    from mallee.cli.client import Cloud

    answer = Cloud.find(state).ec2.describe_audit()
    rows = [*(_violation(each) for each in answer["Violations"]), *_away(answer["Zones"])]
    if output is Format.JSON:
        typer.echo(as_json({"clean": not rows, "instances": answer["InstanceCount"], "violations": rows}))
    else:
        brief = [{name: row[name] for name in _BRIEF} for row in rows]
        show(brief, output, none=f"All books agree: {answer['InstanceCount']} instances.")
        for row in rows:
            tell(f"{row['subject']}: {row['what']} {row['why']} {row['fix']}")
        if (more := answer["ViolationCount"] - len(answer["Violations"])) > 0:
            tell(f"And {more} more.")
    if rows:
        raise typer.Exit(1)


def _violation(told: dict[str, Any]) -> Row:
    return {
        "invariant": told["Invariant"],
        "rule": told["Rule"],
        "subject": told["ResourceId"],
        "zone": told.get("AvailabilityZone", ""),
        "what": told["What"],
        "why": told["Why"],
        "fix": told["Fix"],
    }


def _away(zones: list[dict[str, Any]]) -> list[Row]:
    return [
        {
            "invariant": "",
            "rule": "",
            "subject": each["ZoneName"],
            "zone": each["ZoneName"],
            "what": _AWAY,
            "why": "Its cluster controller does not answer.",
            "fix": "Start it, or look at its log: mallee status",
        }
        for each in zones
        if each["State"] == "away"
    ]
