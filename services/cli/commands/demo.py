"""`mallee demo`: start a cloud on this machine and tell its story."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mallee import __version__
from mallee.cli import options
from mallee.cli.options import Hypervisor
from mallee.cli.output import tell
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    from mallee.cli.state import Access, StateFolder


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    state: options.State = None,
    port: Annotated[int, typer.Option(help="Of the EC2 endpoint; 0 picks a free one.")] = 0,
    hypervisor: Annotated[
        Hypervisor,
        typer.Option(help="libvirt: one real guest on two hosts, which are made on this machine as root."),
    ] = Hypervisor.FAKE,
    *,
    stop: Annotated[bool, typer.Option("--stop", help="End the cloud with the story.")] = False,
) -> None:
    """Start the whole cloud and run, migrate, stop, start and terminate instances on it."""
    from mallee.cli.client import Cloud
    from mallee.cli.commands.clouds import end
    from mallee.cli.commands.migrations import follow
    from mallee.cli.state import StateFolder
    from mallee.cli.story import Story
    from mallee.kernel.clock import SystemClock

    if hypervisor is Hypervisor.LIBVIRT:
        _with_a_real_guest()
        return

    folder = StateFolder.find(state)
    clock = SystemClock()
    began = clock.monotonic()
    found = running(folder)
    access = found or launch(folder, port)[0]
    nodes = sum(name.startswith("nc-") for name in access.pids)
    tell(
        f"Mallee {__version__}  {len(access.zones)} zones, {nodes} fake nodes  ({clock.monotonic() - began:.1f} s)"
    )
    if found:
        tell("  This cloud was running before the story; what it holds is not of the story's making.")
    tell(f"  EC2 {access.endpoint}   S3 {access.s3_endpoint}   state {access.state}")
    cloud = Cloud(access)

    def watch(migration: str) -> dict[str, Any]:
        return asyncio.run(follow(cloud, migration, seconds=60))

    try:
        Story(cloud, clock, tell, watch).run()
    finally:
        if stop:
            end(folder)
    if not stop:
        _what_next(folder, asked=state is not None)


def _with_a_real_guest() -> None:
    """On hosts that end with the story: all that it makes is in one folder, which goes too."""
    from mallee.cli.client import Cloud
    from mallee.cli.commands.migrations import follow
    from mallee.cli.lab.laboratory import laboratory
    from mallee.cli.lab.story import RealStory
    from mallee.cli.state import StateFolder
    from mallee.kernel.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic()
    with TemporaryDirectory(prefix="mallee-demo-") as name:
        folder = StateFolder(Path(name))
        folder.make()
        with laboratory(folder, 2, tell) as lab:
            tell(
                f"Mallee {__version__}  2 hosts with a libvirt daemon each  ({clock.monotonic() - began:.1f} s)"
            )
            cloud = Cloud(lab.access)

            def watch(migration: str) -> dict[str, Any]:
                return asyncio.run(follow(cloud, migration, seconds=300))

            RealStory(lab, clock, tell, watch, Path(name) / "key").run()
    tell("The hosts and everything on them are gone. On machines of your own: docs/real-guests.md")


def running(folder: StateFolder) -> Access | None:
    """How to reach the cloud of this folder, if it runs now."""
    from mallee.kernel.state_folder import lock

    if not folder.root.exists():
        return None
    try:
        lock(folder.root).release()
    except Fault as fault:
        if fault.code != "state-folder-locked":
            raise
        return folder.access()
    return None


def launch(folder: StateFolder, port: int, *more: str) -> tuple[Access, subprocess.Popen[bytes]]:
    """Start `mallee up` in the background and wait until it is ready; it and its process.

    Raises:
        Fault: UNAVAILABLE, with what it said, when it ends instead.
    """
    import msgspec

    from mallee.cli.state import Access

    folder.make()
    log = folder.logs / "up.log"
    program = (sys.executable, "-P", "-m", "mallee.cli.main")
    words = ("up", "--json", "--port", str(port), "--state", str(folder.root), *more)
    with log.open("ab") as errors:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            [*program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        child.stdout.close()
        child.wait()
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise Fault(
            Kind.UNAVAILABLE,
            "The cloud did not start.",
            why=" ".join(said).removeprefix("mallee: "),
            fix=f"Read {log}, or run: mallee doctor",
            code="start-failed",
        )
    child.stdout.close()
    return msgspec.json.decode(line, type=Access), child


def _what_next(folder: StateFolder, *, asked: bool) -> None:
    mallee = sys.argv[0]
    where = f" --state {folder.root}" if asked else ""
    tell("The cloud stays. Next:")
    tell(f'  Use it    eval "$({mallee} env{where})"  and then  aws ec2 describe-instances')
    tell(f"  See it    {mallee} status{where}     {mallee} nodes{where}")
    tell(f"  Keep it   {mallee} configure{where}   (AWS profile `mallee`, `aws ec2 migrate-instances`)")
    tell(f"  Stop it   {mallee} down{where}       Trouble?  {mallee} doctor{where}")
