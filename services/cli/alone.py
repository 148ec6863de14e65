"""One service by itself: a member of a cloud that `mallee up --processes` keeps, or posted by systemd."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mallee.cli import notify
from mallee.cli.composition import Post, posts
from mallee.cli.joining import joined, renew_for_ever
from mallee.cli.parent import end_with_parent
from mallee.cli.plan import Plan, members
from mallee.cli.ports import way_to
from mallee.cli.running import first_key, serve, world_of
from mallee.cli.settings import CloudConfig
from mallee.cli.state import Access, StateFolder
from mallee.kernel import log
from mallee.kernel.config import load
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import StoredKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What the command line of `mallee run` says.

    Attributes:
        keys: the authority's folder; None for the one in the state folder.
        member: its label in the plan of the state folder's cloud; empty when it stands alone.
    """

    role: str
    folder: StateFolder
    keys: Path | None = None
    config: Path | None = None
    name: str = ""
    zone: str = ""
    address: str = ""
    fake_nodes: int | None = None
    database: str = ""
    member: str = ""


def post_of(asked: Posting, environ: Mapping[str, str]) -> Post:
    """Where the service stands: by the cloud's plan, by what it joined, by the command line."""
    if asked.member:
        return _as_member(asked, environ)
    settings: dict[str, Any] = {}
    otherwise: dict[str, Any] = {}
    home = joined(asked.folder) if asked.role == "nc" else None
    if home is not None:
        settings |= {"zone": home.zone, "cluster": home.cluster}
        if home.objects:
            settings["objects"] = home.objects
        # The cluster controller, and nodes that send it guests, reach it where it reaches them.
        otherwise["address"] = f"{way_to(home.cluster.split(',')[0].rpartition(':')[0])}:0"
    if asked.zone:
        settings["zone"] = asked.zone
    if asked.fake_nodes is not None:
        settings["fake_nodes"] = asked.fake_nodes
    if asked.database:
        settings["database"] = asked.database
    name = home.node if home is not None else asked.name or asked.zone or asked.role
    label = asked.role if name == asked.role else f"{asked.role}-{name}"
    folder = asked.folder.service(label)
    return Post(label, asked.role, name, folder, asked.address, settings, otherwise)


async def run_post(asked: Posting, post: Post, environ: Mapping[str, str]) -> None:
    """Run it until it is told to end, and say when it is ready."""
    end_with_parent(environ)
    asked.folder.make()
    config = load(CloudConfig, "cloud", asked.config, environ)
    log.configure(json=config.log_json, level=config.log_level)
    home = joined(asked.folder) if post.role == "nc" and not asked.member else None
    if home is not None:
        config = replace(config, name=home.cloud)
    keys = asked.keys or asked.folder.keys
    world = world_of(keys, config, asked.config, environ, found=post.role == "clc")
    async with AsyncExitStack() as running:
        if home is not None:
            renewing = renew_for_ever(home, StoredKeys(keys, world.clock), world.transport, world.clock)
            running.callback(asyncio.create_task(renewing).cancel)
        await serve(post, world, lambda: _ready(asked, post, config, environ))


def _ready(asked: Posting, post: Post, config: CloudConfig, environ: Mapping[str, str]) -> None:
    if post.role == "clc" and not asked.member:
        _keep_access(asked, post, config, environ)
    notify.tell("READY=1", environ)


def _keep_access(asked: Posting, post: Post, config: CloudConfig, environ: Mapping[str, str]) -> None:
    """What `mallee env` prints beside a cloud controller that stands alone."""
    from mallee.clc.config import ClcConfig

    clc = load(ClcConfig, "clc", asked.config, environ)
    first = first_key(post.folder)
    asked.folder.keep_access(
        Access(
            endpoint=config.endpoint or f"http://{clc.host}:{clc.port}",
            s3_endpoint=config.s3_endpoint,
            region=clc.region,
            zones=[cluster.zone for cluster in clc.clusters],
            account_id=first.account_id,
            access_key_id=first.access_key_id,
            secret_access_key=first.secret_access_key,
            pids={},
            state=str(asked.folder.root),
        )
    )


def _as_member(asked: Posting, environ: Mapping[str, str]) -> Post:
    shape = asked.folder.shape()
    if shape is not None:
        from mallee.clc.config import ClcConfig

        region = load(ClcConfig, "clc", asked.config, environ).region
        planned = Plan(shape, region, members(shape, region))
        for post in posts(planned, asked.folder, asked.database):
            if post.label == asked.member:
                return post
    raise Fault(
        Kind.NOT_FOUND,
        f"The cloud of {asked.folder.root} has no member {asked.member}.",
        fix="Start the whole cloud: mallee up --processes",
        code="unknown-member",
    )
