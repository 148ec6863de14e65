"""How each service is made, from the operator's settings and from where it is posted.

The one place that knows every service's constructor. `mallee up` makes all members of a plan in one
process, `mallee run` one of them, or one that stands alone under systemd or in a container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mallee.cli.plan import HOST, Member, Plan
from mallee.cli.state import StateFolder
from mallee.kernel.clock import Clock
from mallee.kernel.config import load
from mallee.kernel.entropy import Entropy
from mallee.kernel.rpc import Identity, Transport

C = TypeVar("C")


class Service(Protocol):
    """What every service's `app` is."""

    async def start(self) -> None:
        """Answer. Raises Fault when it cannot; nothing is left behind then."""

    async def stop(self) -> None:
        """Answer no more. May be called twice."""


@dataclass(frozen=True, slots=True)
class World:
    """What services of one process share."""

    cloud: str
    config: Path | None
    environ: Mapping[str, str]
    clock: Clock
    entropy: Entropy
    transport: Transport

    def settings(self, cls: type[C], section: str, posted: Mapping[str, Any]) -> C:
        """The operator's section, with what the post decides in its place."""
        return replace(load(cls, section, self.config, self.environ), **posted)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class Post:
    """One service in its place.

    Attributes:
        label: how people call it: in logs, in `pids.json`, as its folder.
        name: its own name in certificates.
        folder: what it alone writes.
        settings: fields of its section that its place decides.
    """

    label: str
    role: str
    name: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


def posts(plan: Plan, folder: StateFolder, database: str) -> Iterator[Post]:
    """The members of a plan, in the order in which they start."""
    for member in plan.members:
        yield Post(
            member.name,
            member.role,
            member.own_name,
            folder.service(member.name),
            _SETTINGS[member.role](plan, member) | ({"database": database} if member.role == "clc" else {}),
        )


def make(post: Post, world: World) -> Service:
    """The service, not started yet.

    Raises:
        Fault: INVALID, for a setting that is wrong or unknown.
    """
    return _MAKERS[post.role](post, Identity(world.cloud, post.role, post.name), world)


def _clc_settings(plan: Plan, member: Member) -> dict[str, Any]:
    from mallee.clc.config import ClusterConfig

    clusters = tuple(ClusterConfig(cc.zone, cc.address) for cc in plan.of_role("cc"))
    return {
        "host": HOST,
        "port": plan.ec2_port,
        "region": plan.region,
        "clusters": clusters,
        "address": member.address,
    }


def _cc_settings(_: Plan, member: Member) -> dict[str, Any]:
    return {"zone": member.zone, "address": member.address}


def _nc_settings(plan: Plan, member: Member) -> dict[str, Any]:
    cluster = next(cc for cc in plan.of_role("cc") if cc.zone == member.zone)
    return {
        "zone": member.zone,
        "address": member.address,
        "cluster": cluster.address,
        "fake_nodes": member.nodes,
        "vcpus": plan.shape.node_vcpus,
        "memory_mib": plan.shape.node_memory_mib,
        "instant": plan.shape.instant,
    }


def _sc_settings(_: Plan, member: Member) -> dict[str, Any]:
    return {"address": member.address}


def _walrus_settings(plan: Plan, member: Member) -> dict[str, Any]:
    return {"host": HOST, "port": plan.s3_port, "address": member.address}


_SETTINGS: Mapping[str, Callable[[Plan, Member], dict[str, Any]]] = {
    "clc": _clc_settings,
    "cc": _cc_settings,
    "nc": _nc_settings,
    "sc": _sc_settings,
    "walrus": _walrus_settings,
}


def _clc(post: Post, me: Identity, world: World) -> Service:
    from mallee.clc.app import CloudController
    from mallee.clc.config import ClcConfig

    config = world.settings(ClcConfig, "clc", post.settings)
    return CloudController(
        config, me, folder=post.folder, clock=world.clock, entropy=world.entropy, transport=world.transport
    )


def _cc(post: Post, me: Identity, world: World) -> Service:
    from mallee.cc.app import ClusterController
    from mallee.cc.config import CcConfig

    return ClusterController(
        world.settings(CcConfig, "cc", post.settings),
        me,
        database=_sqlite(post),
        clock=world.clock,
        entropy=world.entropy,
        transport=world.transport,
    )


def _nc(post: Post, me: Identity, world: World) -> Service:
    from mallee.nc.app import NodeController
    from mallee.nc.config import NcConfig

    return NodeController(
        world.settings(NcConfig, "nc", post.settings),
        me,
        database=_sqlite(post),
        clock=world.clock,
        entropy=world.entropy,
        transport=world.transport,
    )


def _sc(post: Post, me: Identity, world: World) -> Service:
    from mallee.sc.app import StorageController
    from mallee.sc.config import ScConfig

    config = world.settings(ScConfig, "sc", post.settings)
    return StorageController(config, me, clock=world.clock, transport=world.transport)


def _walrus(post: Post, me: Identity, world: World) -> Service:
    from mallee.walrus.app import Walrus
    from mallee.walrus.config import WalrusConfig

    config = world.settings(WalrusConfig, "walrus", post.settings)
    return Walrus(config, me, clock=world.clock, entropy=world.entropy, transport=world.transport)


def _sqlite(post: Post) -> str:
    return f"sqlite:///{post.folder / post.role}.db"


_MAKERS: Mapping[str, Callable[[Post, Identity, World], Service]] = {
    "clc": _clc,
    "cc": _cc,
    "nc": _nc,
    "sc": _sc,
    "walrus": _walrus,
}
ROLES = tuple(_MAKERS)
