"""How each service is made, from the operator's settings and from where it is posted.

The one place that knows every service's constructor. `mallee up` makes all members of a plan in one
process, `mallee run` one of them, or one that stands alone under systemd or in a container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mallee.cli.plan import Member, Plan
from mallee.cli.state import StateFolder
from mallee.kernel.clock import Clock
from mallee.kernel.config import load
from mallee.kernel.entropy import Entropy
from mallee.kernel.rpc import GrpcTransport, Identity, Transport
from mallee.kernel.state_folder import own_id

C = TypeVar("C")

RENEW_SHARE = 0.3  # of a lease, between two renewals
CC_ADDRESS = "127.0.0.1:8775"  # where a cluster controller listens that was told nothing else


class Service(Protocol):
    """What every service's `app` is."""

    async def start(self) -> None:
        """Answer. Raises Fault when it cannot; nothing is left behind then."""

    async def stop(self) -> None:
        """Answer no more. May be called twice."""


@dataclass(frozen=True, slots=True)
class World:
    """What services of one process share.

    Attributes:
        keys: the folder of the authority, or of a node's own keys.
        neighbours: the services of this process, by role; who has none of a role reaches it by network.
    """

    cloud: str
    keys: Path
    config: Path | None
    environ: Mapping[str, str]
    clock: Clock
    entropy: Entropy
    transport: Transport
    neighbours: dict[str, Any] = field(default_factory=dict)

    def settings(
        self,
        cls: type[C],
        section: str,
        posted: Mapping[str, Any],
        otherwise: Mapping[str, Any] | None = None,
    ) -> C:
        """The operator's section, with what the post decides in its place.

        Args:
            cls: what the section is read as.
            section: its name.
            posted: fields that the post decides.
            otherwise: fields whose defaults are worse here than these, unless the operator chose one of them.
        """
        read = load(cls, section, self.config, self.environ)
        better = dict(otherwise or {})
        defaults = {each.name: each.default for each in fields(cls)}  # type: ignore[arg-type]
        if any(getattr(read, name) != defaults[name] for name in better):
            better = {}
        return replace(read, **better, **posted)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class Post:
    """One service in its place.

    Attributes:
        label: how people call it: in logs, in `pids.json`, as its folder.
        name: its own name in certificates.
        folder: what it alone writes.
        address: `host:port` of its gRPC server; empty for what its section says.
        settings: other fields of its section that its place decides.
        otherwise: those that it decides unless the operator does.
    """

    label: str
    role: str
    name: str
    folder: Path
    address: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    otherwise: Mapping[str, Any] = field(default_factory=dict)


def posts(plan: Plan, folder: StateFolder, database: str) -> Iterator[Post]:
    """The members of a plan, in the order in which they start."""
    for member in plan.members:
        yield Post(
            member.name,
            member.role,
            member.own_name,
            folder.service(member.name),
            member.address,
            _SETTINGS[member.role](plan, member) | ({"database": database} if member.role == "clc" else {}),
            _leases(plan, member),
        )


def make(post: Post, world: World) -> Service:
    """The service, not started yet.

    Raises:
        Fault: INVALID, for a setting that is wrong or unknown.
    """
    return _MAKERS[post.role](post, Identity(world.cloud, post.role, post.name), world)


def _clc_settings(plan: Plan, _: Member) -> dict[str, Any]:
    from mallee.clc.config import ClusterConfig

    clusters = tuple(ClusterConfig(cc.zone, cc.address) for cc in plan.of_role("cc"))
    (walrus,) = plan.of_role("walrus")
    return {
        "host": plan.host,
        "port": plan.ec2_port,
        "region": plan.region,
        "clusters": clusters,
        "enrolment_address": f"{plan.host}:{plan.shape.ports['join']}",
        "s3": f"http://{plan.host}:{plan.s3_port}",
        "objects": walrus.address,
    }


def _cc_settings(_: Plan, member: Member) -> dict[str, Any]:
    return {"zone": member.zone}


def _leases(plan: Plan, member: Member) -> dict[str, Any]:
    """Leases as long as a start of so many nodes on one machine takes: one that lapses meanwhile pauses them all."""
    seconds = plan.lease_seconds
    if member.role == "cc":
        return {"lease_seconds": seconds, "renew_seconds": seconds * RENEW_SHARE}
    return {"lease_seconds": seconds} if member.role == "nc" else {}


def _nc_settings(plan: Plan, member: Member) -> dict[str, Any]:
    cluster = next(cc for cc in plan.of_role("cc") if cc.zone == member.zone)
    (walrus,) = plan.of_role("walrus")
    belongs = {"zone": member.zone, "cluster": cluster.address, "objects": walrus.address}
    if plan.shape.hypervisor == "libvirt":
        return belongs | {"hypervisor": "libvirt"}
    return belongs | {
        "fake_nodes": member.nodes,
        "vcpus": plan.shape.node_vcpus,
        "memory_mib": plan.shape.node_memory_mib,
        "instant": plan.shape.instant,
    }


def _sc_settings(_: Plan, __: Member) -> dict[str, Any]:
    return {}


def _walrus_settings(plan: Plan, _: Member) -> dict[str, Any]:
    (clc,) = plan.of_role("clc")
    return {"host": plan.host, "port": plan.s3_port, "region": plan.region, "clc": clc.address}


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
    from mallee.kernel.pki import Authority

    return CloudController(
        world.settings(ClcConfig, "clc", _listening(post)),
        me,
        folder=post.folder,
        clock=world.clock,
        entropy=world.entropy,
        transport=world.transport,
        authority=Authority.open(world.keys, world.cloud, world.clock),
        s3=lambda: store.front if (store := world.neighbours.get("walrus")) else None,
    )


def _cc(post: Post, me: Identity, world: World) -> Service:
    return _Cluster(post, me, world)


class _Cluster:
    """A cluster controller, or one that stands by, and the database that it is given."""

    def __init__(self, post: Post, me: Identity, world: World) -> None:
        from mallee.cc.config import CcConfig

        self._config = world.settings(CcConfig, "cc", post.settings, post.otherwise)
        self._post = post
        self._me = me
        self._world = world
        self._running = AsyncExitStack()

    async def start(self) -> None:
        from mallee.cc.app import ClusterController
        from mallee.cc.db import METADATA
        from mallee.cc.succession import Candidate, Succession
        from mallee.kernel.db import Database

        world, config = self._world, self._config
        holder = own_id(self._post.folder, world.entropy)
        async with AsyncExitStack() as starting:
            url = config.database or _sqlite(self._post)
            db = await Database.open(url, metadata=METADATA, migrations="mallee.cc.db")
            starting.push_async_callback(db.close)
            controller = partial(
                ClusterController,
                config,
                db,
                world.transport,
                self._me,
                listen=self._post.address or CC_ADDRESS,
                clock=world.clock,
                entropy=world.entropy,
                holder=holder,
            )
            line = Succession(db, config.zone, holder, world.clock, silence=config.takeover_seconds)
            candidate = Candidate(line, controller, world.clock)
            starting.push_async_callback(candidate.stop)
            await candidate.start()
            self._running = starting.pop_all()

    async def stop(self) -> None:
        await self._running.aclose()


def _nc(post: Post, me: Identity, world: World) -> Service:
    from mallee.nc.app import NodeController
    from mallee.nc.config import NcConfig

    config = world.settings(NcConfig, "nc", _listening(post), post.otherwise)
    if not config.guest_folder:
        config = replace(config, guest_folder=str(post.folder / "guests"))
    return NodeController(
        config,
        me,
        database=_sqlite(post),
        clock=world.clock,
        entropy=world.entropy,
        transport=world.transport,
        leases=post.folder / "leases",
        keys=world.transport.keys if isinstance(world.transport, GrpcTransport) else None,
    )


def _sc(post: Post, me: Identity, world: World) -> Service:
    from mallee.sc.app import StorageController
    from mallee.sc.config import ScConfig

    config = world.settings(ScConfig, "sc", _listening(post))
    return StorageController(config, me, clock=world.clock, transport=world.transport)


def _walrus(post: Post, me: Identity, world: World) -> Service:
    from mallee.walrus.app import Walrus
    from mallee.walrus.config import WalrusConfig

    config = world.settings(WalrusConfig, "walrus", _listening(post))
    store = world.neighbours["walrus"] = Walrus(
        config,
        me,
        folder=post.folder,
        clock=world.clock,
        entropy=world.entropy,
        transport=world.transport,
    )
    return store


def _listening(post: Post) -> dict[str, Any]:
    return {**post.settings, "address": post.address} if post.address else {**post.settings}


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
