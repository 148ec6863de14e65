"""`mallee node`: who may join, and which nodes take new instances."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from mallee.cli import options
from mallee.cli.output import tell
from mallee.kernel.errors import Fault, Kind

app = typer.Typer(help="Nodes: join, cordon, uncordon.", no_args_is_help=True)


@app.command()
def token(
    zone: Annotated[str, typer.Option(help="The availability zone it will be in.")],
    name: Annotated[str, typer.Option(help="The node's name, one of its kind.")],
    state: options.State = None,
) -> None:
    """Print a token with which one machine can join within the hour, once."""
    from mallee.cli.client import Cloud

    typer.echo(Cloud.find(state).ec2.create_node_token(AvailabilityZone=zone, NodeName=name)["Token"])


@app.command()
def join(
    token: Annotated[str, typer.Argument(help="What `mallee node token` printed.")],
    state: options.State = None,
    config: options.Config = None,
    *,
    start: Annotated[bool, typer.Option(help="Run the node controller at once and stay.")] = True,
) -> None:
    """Make this machine a node: get its certificate and run its node controller.

    From the next time on: mallee run nc, with the same --state and --config.
    """
    from mallee.cli.commands.clouds import Role, run
    from mallee.cli.joining import join as spend
    from mallee.cli.state import StateFolder
    from mallee.kernel.clock import SystemClock

    folder = StateFolder.find(state)
    folder.make()
    where = asyncio.run(spend(folder, token, SystemClock()))
    tell(f"{where.node} has joined {where.zone} of {where.cloud}.")
    if start:
        run(Role.NC, state=folder.root, config=config)


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
    from mallee.cli.commands.looks import node_rows

    cloud = Cloud.find(state)
    host = next((row["host"] for row in node_rows(cloud) if row["node"] == node), node)
    answer = cloud.ec2.modify_hosts(HostIds=[host], AutoPlacement=placing)
    for failed in answer.get("Unsuccessful", []):
        error = failed.get("Error", {})
        kind = Kind.NOT_FOUND if "NotFound" in error.get("Code", "") else Kind.CONFLICT
        raise Fault(kind, error.get("Message", "It was refused."), code=error.get("Code", ""))
    tell(f"{node} takes {'no ' if placing == 'off' else ''}new instances.")
