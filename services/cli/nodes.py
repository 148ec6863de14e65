"""`mallee node`: who may join, and which nodes take new instances."""

from __future__ import annotations

import typer

from mallee.cli import options
from mallee.cli.output import tell

app = typer.Typer(help="Nodes: join, cordon, uncordon.", no_args_is_help=True)


@app.command()
def cordon(node: str, state: options.State = None) -> None:
    """Place no new instances on a node; what runs there stays."""
    _set(node, state, placing="off")


@app.command()
def uncordon(node: str, state: options.State = None) -> None:
    """Place new instances on a node again."""
    _set(node, state, placing="on")


def _set(node: str, state: options.State, *, placing: str) -> None:
    """By EC2's own word for it: a host without automatic placement takes what names it and nothing else."""
    from mallee.cli.client import Cloud
    from mallee.cli.looks import node_rows

    cloud = Cloud.find(state)
    host = next((row["host"] for row in node_rows(cloud) if row["node"] == node), node)
    answer = cloud.ec2.modify_hosts(HostIds=[host], AutoPlacement=placing)
    for failed in answer.get("Unsuccessful", []):
        from mallee.kernel.errors import Fault, Kind

        error = failed.get("Error", {})
        kind = Kind.NOT_FOUND if "NotFound" in error.get("Code", "") else Kind.CONFLICT
        raise Fault(kind, error.get("Message", "It was refused."), code=error.get("Code", ""))
    tell(f"{node} takes {'no ' if placing == 'off' else ''}new instances.")
