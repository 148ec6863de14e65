"""Starting a cloud and ending it: all services in this process, or each in its own."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from mallee.cli import health
from mallee.cli.composition import Post, World, make, posts
from mallee.cli.plan import Plan, Wish, plan, shape_of
from mallee.cli.settings import CloudConfig
from mallee.cli.state import Access, StateFolder
from mallee.kernel import log
from mallee.kernel.clock import SystemClock
from mallee.kernel.config import load
from mallee.kernel.entropy import SystemEntropy
from mallee.kernel.state_folder import lock

if TYPE_CHECKING:
    from mallee.clc.bootstrap import FirstKey
    from mallee.cli.supervisor import Command

PATIENCE = 60.0  # seconds without any node that came, while some are missing

# The collector of cycles looks at everything that is young so often. With Python's own numbers a start with many
# instances, all of which stay, is looked through again and again: a third of its time.
SWEEPS = (50_000, 20, 10)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line of `mallee up` says.

    Attributes:
        config: `mallee.toml`.
        database: the CLC's, as a SQLAlchemy URL; empty for SQLite in the state folder.
        separate: each service its own process.
    """

    folder: StateFolder
    wish: Wish
    config: Path | None = None
    database: str = ""
    separate: bool = False


async def up(request: Request, ready: Callable[[Access], None], environ: Mapping[str, str]) -> None:
    """Run a cloud until SIGINT or SIGTERM.

    Args:
        request: which.
        ready: told once, when the first request will be answered and every node has room.
        environ: overrides of the settings.

    Raises:
        Fault: in three parts, when it cannot start. Nothing runs then.
    """
    ended = _told_to_end()
    gc.set_threshold(*SWEEPS)
    request.folder.make()
    with lock(request.folder.root):
        planned, config = _planned(request, environ)
        log.configure(json=config.log_json, level=config.log_level)
        run = _separately if request.separate else _together
        async with run(request, planned, config, environ, ended):
            await _announce(request, planned, config, ready)
            gc.freeze()
            await ended.wait()
        request.folder.keep_pids({})


def _planned(request: Request, environ: Mapping[str, str]) -> tuple[Plan, CloudConfig]:
    from mallee.clc.config import ClcConfig

    config = load(CloudConfig, "cloud", request.config, environ)
    region = load(ClcConfig, "clc", request.config, environ).region
    kept = request.folder.shape()
    wish = Wish(
        **{
            name: asked if (asked := getattr(request.wish, name)) is not None else getattr(config, name)
            for name in Wish.__dataclass_fields__
        }
    )
    shape = shape_of(wish, kept)
    offer = "mallee up --port {port}" + (f" --state {request.folder.root}")
    planned = plan(shape, region, wish, offer)
    request.folder.keep_shape(planned.shape)
    return planned, config


@asynccontextmanager
async def _together(
    request: Request, planned: Plan, config: CloudConfig, environ: Mapping[str, str], ended: asyncio.Event
) -> AsyncIterator[None]:
    """All in one process and one loop, over real gRPC on loopback."""
    del ended
    world = world_of(request.folder.keys, config, request.config, environ, found=True)
    async with AsyncExitStack() as running:
        for post in posts(planned, request.folder, request.database):
            await running.enter_async_context(_serving(post, world))
        request.folder.keep_pids({member.name: os.getpid() for member in planned.members})
        yield


@asynccontextmanager
async def _separately(
    request: Request, planned: Plan, config: CloudConfig, environ: Mapping[str, str], ended: asyncio.Event
) -> AsyncIterator[None]:
    """Each in a process of its own, under a supervisor."""
    from mallee.cli.supervisor import Supervisor
    from mallee.kernel.pki import Authority

    del environ  # children inherit it
    clock = SystemClock()
    # Before any child: two that find no authority would make two.
    Authority.open(request.folder.keys, config.name, clock)
    commands = [_command(post, request) for post in posts(planned, request.folder, request.database)]
    supervisor = Supervisor(commands, clock, request.folder.keep_pids)
    starting = asyncio.create_task(supervisor.start())
    interrupted = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({starting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        yield
    finally:
        interrupted.cancel()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await supervisor.stop()


def _command(post: Post, request: Request) -> Command:
    from mallee.cli.supervisor import Command

    arguments = ["run", post.role, "--member", post.label, "--state", str(request.folder.root)]
    if request.config is not None:
        arguments += ["--config", str(request.config.absolute())]
    if request.database and post.role == "clc":
        arguments += ["--database", request.database]
    return Command(post.label, tuple(arguments), request.folder.logs / f"{post.label}.log")


async def serve(post: Post, world: World, ready: Callable[[], None]) -> None:
    """Run one service until SIGINT or SIGTERM."""
    ended = _told_to_end()
    gc.set_threshold(*SWEEPS)
    async with _serving(post, world):
        gc.freeze()
        ready()
        await ended.wait()


def world_of(
    keys: Path, config: CloudConfig, path: Path | None, environ: Mapping[str, str], *, found: bool
) -> World:
    """The real one: system clock, system entropy, mutual TLS. `found`: a new cloud may begin here."""
    clock = SystemClock()
    transport = health.transport_of(keys, config.name, clock, found=found)
    return World(config.name, keys, path, environ, clock, SystemEntropy(), transport)


@asynccontextmanager
async def _serving(post: Post, world: World) -> AsyncIterator[None]:
    """One service, from its folder's lock to its last word."""
    with lock(post.folder):
        service = make(post, world)
        await service.start()
        try:
            yield
        finally:
            await service.stop()


def first_key(folder: Path) -> FirstKey:
    """The administrator's access key, which the cloud controller writes in its folder."""
    from mallee.clc.bootstrap import FIRST_KEY, FirstKey

    return msgspec.json.decode((folder / FIRST_KEY).read_bytes(), type=FirstKey)


async def _announce(
    request: Request, planned: Plan, config: CloudConfig, ready: Callable[[Access], None]
) -> None:
    clock = SystemClock()
    transport = health.transport_of(request.folder.keys, config.name, clock)
    zones = [
        (
            cc.zone,
            cc.address,
            [name for nc in planned.of_role("nc") if nc.zone == cc.zone for name in nc.node_names],
        )
        for cc in planned.of_role("cc")
    ]
    await health.nodes_came(transport, config.name, zones, clock, patience=PATIENCE)
    first = first_key(request.folder.service("clc"))
    access = Access(
        endpoint=f"http://{planned.host}:{planned.ec2_port}",
        s3_endpoint=f"http://{planned.host}:{planned.s3_port}",
        region=planned.region,
        zones=planned.zones,
        pids=request.folder.pids(),
        state=str(request.folder.root),
        account_id=first.account_id,
        access_key_id=first.access_key_id,
        secret_access_key=first.secret_access_key,
    )
    request.folder.keep_access(access)
    ready(access)


def _told_to_end() -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    return ended
