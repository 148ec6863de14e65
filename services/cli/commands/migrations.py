"""`mallee migrate`: move an instance, and see how it is done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mallee.cli import options
from mallee.cli.output import Format, as_json, console, tell
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    from mallee.cli.client import Cloud

ENDED = ("completed", "failed", "cancelled")


def register(app: typer.Typer) -> None:
    app.command()(migrate)


def migrate(
    instance: Annotated[str, typer.Argument(help="The instance's ID.")],
    to: Annotated[
        str, typer.Option(help="The node to go to, by name or host ID. [default: the cloud chooses]")
    ] = "",
    mode: Annotated[str, typer.Option(help="live, cold or storage.")] = "live",
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Draw its stages and rounds until it ends.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say where it could go and why not elsewhere; move nothing.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to watch at most.")] = 600,
    state: options.State = None,
    output: options.Output = Format.TABLE,
) -> None:
    """Move a running instance to another node without stopping it."""
    from mallee.cli.client import Cloud

    cloud = Cloud.find(state)
    begun = begin(cloud, instance, to=to, mode=mode, plan=plan)
    if plan:
        typer.echo(as_json(begun))
        return
    moved = begun["Migrations"][0]
    if watch:
        moved = asyncio.run(follow(cloud, moved["MigrationId"], seconds=timeout))
    if output is Format.JSON:
        typer.echo(as_json(moved))
    else:
        typer.echo(moved["MigrationId"])
        if not watch:
            tell("It is on its way. See it: mallee migrations --watch")
    if moved["State"] in {"failed", "cancelled"}:
        raise Fault(
            Kind.CONFLICT,
            f"The migration of {instance} {moved['State']}.",
            why=moved.get("StateReason", {}).get("Message", ""),
            fix="The instance runs on where it was.",
            code="migration-failed",
        )


def begin(
    cloud: Cloud, instance: str, *, to: str = "", mode: str = "live", plan: bool = False
) -> dict[str, Any]:
    """Ask for a migration.

    Raises:
        Fault: CONFLICT, with the reason of every node, when none can take the instance.
    """
    where = {"DestinationHosts": [to], "AllowHosts": True} if to else {}
    answer: dict[str, Any] = cloud.ec2.migrate_instances(
        InstanceIds=[instance], Mode=mode, Plan=plan, **where
    )
    answer.pop("ResponseMetadata", None)
    if plan or answer.get("Migrations"):
        return answer
    reasons = [
        f"{r.get('Host') or instance}: {r.get('Message', r.get('Code'))}" for r in answer.get("Refusals", [])
    ]
    raise Fault(
        Kind.CONFLICT,
        f"{instance} cannot migrate.",
        why=" ".join(reasons),
        fix="Choose another node, or make room: mallee nodes",
        code="migration-refused",
    )


async def follow(cloud: Cloud, migration: str, *, seconds: float) -> dict[str, Any]:
    """Draw a migration on standard error until it has ended; how it ended.

    Raises:
        TimeoutError: it still runs.
    """
    from rich.live import Live

    from mallee.cli.migration_view import drawing
    from mallee.kernel.clock import SystemClock

    clock = SystemClock()
    ec2 = cloud.ec2
    until = clock.monotonic() + seconds
    screen = console(stderr=True)
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            moved: dict[str, Any] = ec2.describe_instance_migrations(MigrationIds=[migration])["Migrations"][
                0
            ]
            live.update(drawing(moved), refresh=True)
            if moved["State"] in ENDED:
                break
            if clock.monotonic() > until:
                raise TimeoutError(
                    f"{migration} still runs after {seconds:.0f} s. See it: mallee migrations --watch"
                )
            await clock.sleep(0.1)
    if not screen.is_terminal:  # there the drawing is printed once, at its end, without the end of its line
        screen.print()
    return moved
