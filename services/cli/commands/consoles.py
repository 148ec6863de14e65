"""`mallee console`: what a guest writes and shows, then and now."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mallee.cli import options
from mallee.cli.output import tell
from mallee.cli.state import StateFolder
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    from mallee.cli.client import Cloud
    from mallee.kernel.clock import Clock

LOOK_SECONDS: Final = 1.0  # between two looks where only the public API is in reach
MOVE_SECONDS: Final = 1.0  # until a guest that has left a node is looked for again
_TAIL: Final = 64 * 1024
_KNOWN: Final = 1024  # bytes by which what was heard is found again
_ENDED: Final = {"stopped", "shutting-down", "terminated"}
Listen = Callable[[str, str], AsyncIterator[bytes]]
"""(zone, instance) -> what was written of late, then what is, until the guest is on that node no more."""


def register(app: typer.Typer) -> None:
    app.command()(console)


def console(
    instance: Annotated[str, typer.Argument(help="The instance's ID.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends, or Ctrl-C.")] = False,
    screenshot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what its screen shows, as a JPEG, instead.")
    ] = None,
    state: options.State = None,
) -> None:
    """Print what an instance wrote on its console, the last 64 KiB of it."""
    from mallee.cli.client import Cloud

    cloud = Cloud.find(state)
    if screenshot is not None:
        picture = cloud.ec2.get_console_screenshot(InstanceId=instance)["ImageData"]
        screenshot.write_bytes(base64.b64decode(picture))
        tell(f"Wrote {screenshot}.")
    elif not follow:
        _write(_now(cloud, instance))
    else:
        asyncio.run(_follow(cloud, instance, StateFolder.find(state)))


async def _follow(cloud: Cloud, instance: str, folder: StateFolder) -> None:
    """Through its zone's cluster controller where this machine has the keys for that, else by asking again."""
    from mallee.kernel.clock import SystemClock

    clock = SystemClock()
    if cloud.access is not None and folder.shape() is not None and (folder.keys / "authority.pem").exists():
        listen = _through_zones(folder, clock)
    else:
        listen = _by_asking(cloud, clock)
    heard = b""
    while (zone := await asyncio.to_thread(_zone_of, cloud, instance)) is not None:
        async for some in _unheard(listen(zone, instance), heard):
            _write(some)
            heard = (heard + some)[-_TAIL:]
        await clock.sleep(MOVE_SECONDS)  # it has moved, or it ends


async def _unheard(written: AsyncIterator[bytes], heard: bytes) -> AsyncIterator[bytes]:
    """A guest that has moved brings along what it wrote before: that was printed already."""
    first = True
    async for some in written:
        yield after(heard, some) if first else some
        first = False


def after(heard: bytes, said: bytes) -> bytes:
    """What is new in the last of a log of which the last was heard before; in doubt too much, never too little."""
    if said.startswith(heard):
        return said[len(heard) :]
    known = heard[-_KNOWN:]
    if len(known) == _KNOWN:
        return said.partition(known)[2] if known in said else said
    overlap = next((n for n in range(len(known), 0, -1) if said.startswith(known[-n:])), 0)
    return said[overlap:]


def _through_zones(folder: StateFolder, clock: Clock) -> Listen:
    from mallee.cli.health import transport_of
    from mallee.cli.settings import CloudConfig
    from mallee.kernel.config import load
    from mallee.kernel.rpc import Identity
    from mallee.rpc.cluster_pb2 import FollowConsoleRequest
    from mallee.rpc.cluster_pb2_grpc import ClusterServiceStub

    name = load(CloudConfig, "cloud", None, os.environ).name
    transport = transport_of(folder.keys, name, clock)
    shape = folder.shape()
    assert shape is not None

    async def listen(zone: str, instance: str) -> AsyncIterator[bytes]:
        address = f"{shape.listen}:{shape.ports[f'cc-{zone}']}"
        channel = transport.connect(Identity(name, "clc", "clc"), address, expect="cc")
        stub: Any = ClusterServiceStub(channel)
        try:
            async for said in stub.FollowConsole(FollowConsoleRequest(instance_id=instance)):
                yield said.output
        except Fault as fault:
            if fault.kind not in {Kind.UNAVAILABLE, Kind.NOT_FOUND}:
                raise
        finally:
            await channel.close()

    return listen


def _by_asking(cloud: Cloud, clock: Clock) -> Listen:
    async def listen(_zone: str, instance: str) -> AsyncIterator[bytes]:
        heard = b""
        while True:
            now = await asyncio.to_thread(_now, cloud, instance)
            if news := after(heard, now):
                yield news
            heard = now
            if await asyncio.to_thread(_zone_of, cloud, instance) is None:
                return
            await clock.sleep(LOOK_SECONDS)

    return listen


def _now(cloud: Cloud, instance: str) -> bytes:
    answer = cloud.ec2.get_console_output(InstanceId=instance, Latest=True)
    said = answer.get("Output", "")
    return said.encode() if isinstance(said, str) else bytes(said)  # botocore has decoded it


def _zone_of(cloud: Cloud, instance: str) -> str | None:
    """Where it is; None once it will write no more."""
    [reservation] = cloud.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    [found] = reservation["Instances"]
    return None if found["State"]["Name"] in _ENDED else str(found["Placement"]["AvailabilityZone"])


def _write(some: bytes) -> None:
    """A guest may write anything: what would drive the terminal is not let through."""
    text = some.decode(errors="replace")
    sys.stdout.write("".join(each for each in text if each in "\n\t" or each.isprintable()))
    sys.stdout.flush()
