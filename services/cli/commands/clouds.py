"""`mallee up`, `mallee down` and `mallee run`: a cloud begins and ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mallee import __version__
from mallee.cli import options
from mallee.cli.options import Hypervisor
from mallee.cli.output import tell
from mallee.cli.state import StateFolder
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    from mallee.cli.state import Access

ENDS_WITHIN = 30.0  # seconds, a cloud that was told to end


class Role(StrEnum):
    """The services."""

    CLC = "clc"
    CC = "cc"
    NC = "nc"
    SC = "sc"
    WALRUS = "walrus"


def register(app: typer.Typer) -> None:
    for command in (up, down, run):
        app.command()(command)


def up(
    state: options.State = None,
    port: Annotated[
        int | None, typer.Option(help="Of the EC2 endpoint; 0 picks a free one. [default: 8773]")
    ] = None,
    zones: Annotated[int | None, typer.Option(help="Availability zones. [default: 2]")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes in each zone. [default: 2]")] = None,
    hypervisor: Annotated[
        Hypervisor | None, typer.Option(help="What nodes run guests on. [default: fake]")
    ] = None,
    node_vcpus: Annotated[int | None, typer.Option(help="Of each fake node. [default: 128]")] = None,
    node_memory: Annotated[int | None, typer.Option(help="Of each fake node, MiB. [default: 524288]")] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of this machine, where other machines can reach everything. [default: 127.0.0.1]",
        ),
    ] = None,
    config: options.Config = None,
    database: Annotated[
        str, typer.Option(metavar="URL", help="The cloud controller's. [default: SQLite]")
    ] = "",
    *,
    instant: Annotated[
        bool | None, typer.Option("--instant/--timed", help="Fake guests change state at once.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="When ready, print one JSON object on one line.")
    ] = False,
    processes: Annotated[
        bool, typer.Option("--processes", help="Each service its own process, started again if it dies.")
    ] = False,
) -> None:
    """Start a whole cloud on this machine and stay until Ctrl-C.

    The cloud lives in its state folder: starting again finds every instance as it was, and options
    that are not given are as they were.
    """
    from mallee.cli.plan import Wish
    from mallee.cli.running import Request
    from mallee.cli.running import up as run_cloud

    wish = Wish(port, zones, nodes, node_vcpus, node_memory, instant, hypervisor, listen)
    request = Request(StateFolder.find(state), wish, config, database, processes)
    asked = state is not None

    def ready(access: Access) -> None:
        if json:
            import msgspec

            typer.echo(msgspec.json.encode(access).decode())
        else:
            _welcome(access, asked=asked)

    # uvloop everywhere but in the supervisor, which starts processes and waits for them.
    _run(run_cloud(request, ready, os.environ), fast=not processes)


def down(
    state: options.State = None,
    *,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            help="Remove the state folder with everything in it, and what real guests have on this host.",
        ),
    ] = False,
) -> None:
    """End the cloud of a state folder and wait until it is gone."""
    folder = StateFolder.find(state)
    ended = end(folder)
    if purge and folder.root.exists():
        traces = sorted(folder.root.glob("services/*/host.json"))
        if folder.shape() is None and not traces:
            raise Fault(
                Kind.INVALID,
                f"{folder.root} was not removed.",
                why="It does not hold a cloud.",
                code="not-a-cloud",
            )
        for each in traces:
            _purge_host(each)
        shutil.rmtree(folder.root)
        tell(f"Removed {folder.root}.")
    elif not ended:
        tell(f"No cloud runs in {folder.root}.")


def _purge_host(traces: Path) -> None:
    """Take away what real guests have on this host; the folder stays until that is done."""
    from mallee.nc.drivers.libvirt.traces import purge

    for gone in asyncio.run(purge(traces)):
        tell(f"Removed {gone}.")


def run(
    service: Annotated[Role, typer.Argument(help="Which.")],
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Where it keeps its state.")
    ] = None,
    config: options.Config = None,
    name: Annotated[
        str, typer.Option(help="Its own name in the cloud. [default: its zone, or its role]")
    ] = "",
    zone: Annotated[str, typer.Option(help="The availability zone of a cc or nc.")] = "",
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its gRPC server listens.")] = "",
    fake_nodes: Annotated[int | None, typer.Option(help="How many fake nodes an nc is.")] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The authority's folder. [default: keys/ in the state]")
    ] = None,
    database: Annotated[
        str, typer.Option(metavar="URL", help="A clc's or cc's; several may share one. [default: SQLite]")
    ] = "",
    member: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run one service, as systemd units and containers do."""
    from mallee.cli.alone import Posting, post_of, run_post

    asked = Posting(
        role=service.value,
        folder=StateFolder.find(state),
        keys=keys,
        config=config,
        name=name,
        zone=zone,
        address=address,
        fake_nodes=fake_nodes,
        database=database,
        member=member,
    )
    _run(run_post(asked, post_of(asked, os.environ), os.environ), fast=True)


def end(folder: StateFolder) -> bool:
    """End the cloud of this folder; whether there was one. Returns when its lock is free.

    Raises:
        TimeoutError: it does not end.
    """
    from mallee.cli.commands.demo import running

    if running(folder) is None:
        return False
    pid = int((folder.root / "lock").read_text())
    os.kill(pid, signal.SIGTERM)
    asyncio.run(_gone(folder, pid))
    return True


async def _gone(folder: StateFolder, pid: int) -> None:
    from mallee.cli.commands.demo import running
    from mallee.kernel.clock import SystemClock

    clock = SystemClock()
    until = clock.monotonic() + ENDS_WITHIN
    while running(folder) is not None:
        if clock.monotonic() > until:
            raise TimeoutError(f"Process {pid} does not end. Its last resort: kill -9 {pid}")
        await clock.sleep(0.05)


def _run(work: Coroutine[Any, Any, None], *, fast: bool) -> None:
    if fast:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    else:
        asyncio.run(work)


def _welcome(access: Access, *, asked: bool) -> None:
    mallee, where = sys.argv[0], f" --state {access.state}" if asked else ""
    lines = (
        f"Mallee {__version__} is ready: {len(access.zones)} zones, {', '.join(access.zones)}",
        f"  EC2   {access.endpoint}",
        f"  S3    {access.s3_endpoint}",
        f"  keys  {access.access_key_id} (the secret: {mallee} env{where})",
        "Next, in another terminal:",
        f'  eval "$({mallee} env{where})"',
        "  aws ec2 describe-images",
        f"  {mallee} status{where}",
        f"Stop it with Ctrl-C, or: {mallee} down{where}",
    )
    for line in lines:
        tell(line)
