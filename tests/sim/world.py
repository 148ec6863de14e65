"""One simulated cloud: the real services, each a process that may die, on disks and wires that may fail.

What is pretended is only what lies outside the services: the loop, the clock, chance, the wire, the moment of
a commit, and HTTP's bytes. Everything else is the code that is shipped.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from mallee.aws import model
from mallee.aws.protocol import Protocol
from mallee.cc.app import ClusterController
from mallee.clc import app as clc_app
from mallee.clc import enrolment, host_ids
from mallee.clc.app import CloudController
from mallee.clc.config import ClcConfig, ClusterConfig, InstanceTypeConfig
from mallee.cli import composition
from mallee.cli.composition import Post
from mallee.kernel.db import sqlite as product_sqlite
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault
from mallee.kernel.rpc import Identity
from mallee.kernel.rpc.memory import MemoryServed, MemoryTransport
from mallee.walrus.config import WalrusConfig
from tests.sim import objects
from tests.sim.disk import DISKS, Commits, Disk, Line
from tests.sim.loop import LIFE, Life, VirtualLoop
from tests.sim.network import Network
from tests.sim.objects import SimulatedWalrus, StoredBytes
from tests.sim.shared import TURNS, PossiblyShared, Turns
from tests.sim.trace import Trace, listen

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
CLOUD = "simulated"
STORE = "walrus:1"
REGION = "mallee-1"
TOKEN_PREFIX = "simulated-"
TYPES = (InstanceTypeConfig("sim.small", 1, 8), InstanceTypeConfig("sim.large", 2, 16))


@dataclass(frozen=True)
class Shape:
    """How large a world is."""

    zones: int = 1
    nodes: int = 2  # of each zone
    vcpus: int = 3
    memory_mib: int = 64
    bandwidth_mbps: float = 100.0  # of each node's line: slow, so that guests of 8 MiB take long to migrate
    quota: int = 0
    clcs: int = 1  # cloud controllers, which share a database if there are several
    standby: bool = False  # a second cluster controller for each zone
    store: bool = False  # the object store and the storage controller

    @property
    def zone_names(self) -> list[str]:
        return [f"{REGION}{'abcdef'[number]}" for number in range(self.zones)]


class SimClock:
    """A clock that a process believes in. Args: `rate` of its seconds to the world's, `offset` of its calendar."""

    def __init__(self, loop: VirtualLoop, rate: float = 1.0, offset: float = 0.0) -> None:
        self._loop = loop
        self.rate = rate
        self.offset = offset

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self._loop.now * self.rate + self.offset)

    def monotonic(self) -> float:
        return self._loop.now * self.rate

    boot = monotonic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.rate)


class OwnTransport:
    """The network as one process has it: what it opened is closed when it dies."""

    def __init__(self, wire: MemoryTransport) -> None:
        self._wire = wire
        self.served: list[MemoryServed] = []
        self.channels: list[Any] = []

    async def serve(self, *args: Any, **named: Any) -> MemoryServed:
        self.served.append(await self._wire.serve(*args, **named))
        return self.served[-1]

    def connect(self, *args: Any, **named: Any) -> Any:
        self.channels.append(self._wire.connect(*args, **named))
        return self.channels[-1]

    def connect_with_ca(self, *args: Any, **named: Any) -> Any:
        self.channels.append(self._wire.connect_with_ca(*args, **named))
        return self.channels[-1]

    def close(self) -> None:
        """The kernel closes what a dead process had open, and tells the other side."""
        for each in (*self.served, *self.channels):
            _at_once(each.close())

    def silence(self) -> None:
        """Nobody answers any more, and whoever waits for an answer will notice by himself."""
        calls = [call for served in self.served for call in served.calls]
        for channel in self.channels:
            calls += channel._shut.__self__._calls
        for call in calls:
            call.up._cut = call.down._cut = True
            call._cut()


class SimulatedClc(CloudController):
    """The cloud controller, its front called directly."""

    front: Any = None

    def _front(self, *about: Any) -> Any:
        self.front = super()._front(*about)
        return self.front


class SimulatedAuthority:
    """Signs what it is shown: what keys and certificates are worth is decided elsewhere."""

    cloud = CLOUD
    pem = b""

    def sign_csr(self, request: bytes, who: Identity) -> bytes:
        return f"{who} {request!r}".encode()


class Process:
    """A place where a service runs, dies and is started again."""

    def __init__(self, world: World, post: Post) -> None:
        self.world = world
        self.post = post
        self.name = post.label
        self.identity = Identity(CLOUD, post.role, post.name)
        self.clock = SimClock(world.loop)
        self.disk = Disk(world.chance(f"disk {self.name}"), self._committed, self.at)
        self.life = Life(self.name)
        self.life.alive = False
        self.lives: list[Life] = []
        self.service: Any = None
        self.transport = OwnTransport(world.wire)
        self.connections: list[asyncio.Future[Any]] = []  # of HTTP clients that wait for an answer
        self.commits = 0
        self.off = False  # the host has no power
        self.database = post.settings.get("database", "").removeprefix("sqlite:///")
        self._reader: sqlite3.Connection | None = None
        self.on_point: Callable[[str], None] | None = None
        self.bytes: StoredBytes | None = None  # an object store's
        if post.role == "walrus":
            self.bytes = StoredBytes(self, world.chance(f"bytes of {self.name}"))

    @property
    def up(self) -> bool:
        return self.life.alive and self.service is not None

    def start(self) -> None:
        """A new life begins, on what is on the disk."""
        self.life = Life(self.name, self.life.number + 1)
        self.lives.append(self.life)
        DISKS[self.life] = self.disk
        self.transport = OwnTransport(self.world.wire)
        self.service = None
        context = contextvars.Context()
        context.run(LIFE.set, self.life)
        self.world.trace(f"{self.life} starts")
        self.world.loop.create_task(self._run(), context=context)

    async def _run(self) -> None:
        try:
            made = self.world.make(self)
            await made.start()
        except Fault as fault:
            self.world.trace(f"{self.life} cannot start: {fault}")
            self.world.later(1.0, self.restart, self.life)
            return
        except Exception as error:  # noqa: BLE001 - no service may fail to start by a mistake of ours
            self.world.trace.log("error", "cannot start", {"exc_info": error})
            return
        self.service = made
        self.world.trace(f"{self.life} answers")

    def restart(self, life: Life) -> None:
        """What a supervisor does, if this life is still the one that failed."""
        if self.life is life:
            self.kill()
            self.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have its service do something, as if it had thought of it itself."""
        context = contextvars.Context()
        context.run(LIFE.set, self.life)
        self.world.loop.create_task(work, context=context)

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL: nothing more of it runs. Its kernel closes what it had open, unless that died as well."""
        if not self.life.alive:
            return
        self.world.trace(f"{self.life} dies")
        self.world.loop.kill(self.life)
        self.service = None
        self.disk.let_go()
        if self.database:
            TURNS[self.database].bury(self.life)
        if silently:
            self.transport.silence()
            for served in self.transport.served:
                served._forget()
        else:
            self.transport.close()
        waiting, self.connections = self.connections, []
        for each in waiting:
            if not each.done():
                each.set_exception(ConnectionResetError(self.name))
        self.world.died(self)

    def lose_power(self) -> None:
        """With its host: what was not synced is gone."""
        self.off = True
        self.kill(silently=True)
        if self.bytes is not None:
            self.bytes.lose_power()

    def freeze(self) -> None:
        """SIGSTOP, or a host that hangs."""
        if self.life.alive and not self.life.frozen:
            self.world.trace(f"{self.life} freezes")
            self.life.frozen = True

    def thaw(self) -> None:
        if self.life.alive and self.life.frozen:
            self.world.trace(f"{self.life} thaws")
            self.world.loop.thaw(self.life)

    def rows(self, query: str) -> list[Any]:
        """What its database holds, whether it lives or not."""
        if self._reader is None:
            path = self.database or self.post.folder / f"{self.post.role}.db"
            self._reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        return self._reader.execute(query).fetchall()

    def _committed(self) -> None:
        self.commits += 1
        self.world.trace(f"{self.life} commit {self.commits}")
        if self.commits > 1:  # the first one makes the tables' first rows
            for told in self.world.on_commit:
                told(self)

    def at(self, point: str) -> None:
        if self.on_point is not None and self.life.alive and not self.life.frozen:
            self.on_point(point)


class World:
    """Everything of one run.

    Args:
        seed: decides all that is left to chance.
        tell: is told each line of the trace, for a replay.
    """

    def __init__(
        self, seed: object, shape: Shape | None = None, tell: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.shape = shape or Shape()
        self.loop = VirtualLoop(self.chance("schedule"))
        self.trace = Trace(lambda: self.loop.now, tell)
        self.folder = Path(tempfile.mkdtemp(prefix="mallee-sim-", dir=_memory()))
        self.network = Network(self)
        self.wire = MemoryTransport(SimClock(self.loop), self.network.fate)
        self.processes: dict[str, Process] = {}
        self.on_commit: list[Callable[[Process], None]] = []
        self.on_death: list[Callable[[Process], None]] = []
        self._settle_in()
        for post in self._posts():
            self.processes[post.label] = Process(self, post)
        self.clc = self.processes["clc"]

    def chance(self, what: str) -> random.Random:
        """A stream of chance of its own, so that what one thing draws changes nothing elsewhere."""
        return self.chance_of(self.seed, what)

    @staticmethod
    def chance_of(seed: object, what: str) -> random.Random:
        return random.Random(f"{seed} {what}")

    def of_role(self, role: str) -> list[Process]:
        return [each for each in self.processes.values() if each.post.role == role]

    def controller(self, process: Process) -> ClusterController | None:
        """The controller in this process, if it is its zone's as far as it knows."""
        found = CONTROLLERS.get(process.life)
        return None if found is None or not process.up or found.deposed.is_set() else found

    def serving(self) -> list[Process]:
        """For each zone the process whose controller took it over last, or any if it has none now."""
        found: dict[str, tuple[int, Process]] = {}
        for process in self.of_role("cc"):
            controller = self.controller(process)
            epoch = 0 if controller is None else controller.ledger._epoch
            zone = process.post.settings["zone"]
            if zone not in found or epoch > found[zone][0]:
                found[zone] = epoch, process
        return [process for _, process in found.values()]

    def host_id(self, zone: str, local: str) -> str:
        """A node's id as users see it."""
        return host_ids.public(zone, local)

    def later(self, seconds: float, what: Callable[..., Any], *args: Any) -> None:
        """Let the world itself do something, in nobody's name."""
        self.loop.call_later(seconds, what, *args, context=contextvars.Context())

    def died(self, process: Process) -> None:
        for told in self.on_death:
            told(process)

    def make(self, process: Process) -> Any:
        """The service of a process, in its own life."""
        post = process.post
        entropy = SeededEntropy(self.chance(f"entropy {process.life}").getrandbits(64))
        mine: dict[str, Any] = {"clock": process.clock, "entropy": entropy, "transport": process.transport}
        if post.role == "clc":
            mine |= {"folder": post.folder, "authority": SimulatedAuthority()}
            return SimulatedClc(ClcConfig(**post.settings), process.identity, **mine)
        if process.bytes is not None:
            config = WalrusConfig(**post.settings)
            return SimulatedWalrus(process.bytes.files, config, process.identity, folder=post.folder, **mine)
        return composition.make(post, composition.World(CLOUD, self.folder, None, {}, **mine))

    def run(self, story: Any) -> Any:
        """Run the story to its end, in the name of those outside the cloud."""
        listen(self.trace)
        context = contextvars.Context()
        context.run(LIFE.set, Life("users"))
        asyncio.set_event_loop(self.loop)
        try:
            return self.loop.run_until_complete(self.loop.create_task(story, context=context))
        finally:
            # A coroutine that is thrown away runs its `finally`, and some would run for ever: none is, until
            # the process that runs this world ends.
            _ENDED.append((self, asyncio.all_tasks(self.loop)))
            for process in self.processes.values():
                process.life.alive = False
                process.disk.let_go()
            DISKS.clear()
            TURNS.clear()
            CONTROLLERS.clear()
            shutil.rmtree(self.folder)

    def _posts(self) -> list[Post]:
        shape, posts = self.shape, []
        clusters = []
        for number, zone in enumerate(shape.zone_names):
            addresses = [f"cc:{100 + number}", *([f"cc:{200 + number}"] if shape.standby else ())]
            clusters.append(ClusterConfig(zone, ",".join(addresses)))
            cc = {"zone": zone, **(self._share(f"{zone}.db") if shape.standby else {})}
            posts += [
                self._post("cc", f"{zone}{'-standby' * index}", address, cc)
                for index, address in enumerate(addresses)
            ]
            for node in range(shape.nodes):
                settings = {
                    "zone": zone,
                    "cluster": clusters[-1].address,
                    "vcpus": shape.vcpus,
                    "memory_mib": shape.memory_mib,
                    "bandwidth_mbps": shape.bandwidth_mbps,
                    "look_seconds": 30.0,
                    "objects": STORE,
                }
                posts.append(self._post("nc", f"{zone}-{node}", f"nc:{100 * (number + 1) + node}", settings))
        settings = {
            "clusters": tuple(clusters),
            "region": REGION,
            "instance_types": TYPES,
            "max_instances_per_account": shape.quota,
            "objects": STORE if shape.store else "",
        }
        if shape.clcs > 1:
            settings |= {**self._share("clc.db"), "secrets": str(self.folder / "secrets")}
        doors = [f"clc:{index + 1}" if shape.store else "" for index in range(shape.clcs)]
        posts += [
            self._post(
                *("clc", "clc" if not index else str(index + 1), ""),
                {**settings, "address": door, "enrolment_address": f"enrolment:{index + 1}"},
            )
            for index, door in enumerate(doors)
        ]
        if shape.store:
            walrus = {"clc": ",".join(doors), "region": REGION, "address": STORE}
            posts += [self._post("walrus", "walrus", "", walrus), self._post("sc", "sc", "sc:1", {})]
        return posts

    def _share(self, name: str) -> dict[str, Any]:
        """A database of several processes."""
        path = str(self.folder / name)
        TURNS[path] = Turns()
        return {"database": f"sqlite:///{path}"}

    def _post(self, role: str, name: str, address: str, settings: Mapping[str, Any]) -> Post:
        label = role if role == name else f"{role}-{name}"
        folder = self.folder / label
        folder.mkdir(mode=0o700)
        return Post(label, role, name, folder, address, settings)

    def _settle_in(self) -> None:
        """Put what is pretended in its place; a run has its process to itself."""
        product_sqlite.Sqlite = PossiblyShared  # type: ignore[misc]
        product_sqlite._Committer = Commits  # type: ignore[misc,assignment]
        product_sqlite._Line = Line  # type: ignore[misc]
        objects.settle_in()
        # A token carries the authority's certificate, whose length chance decides.
        enrolment.mint_join_token = lambda *about: TOKEN_PREFIX + about[-1].hex()
        clc_app.Protocol = _protocol  # type: ignore[misc,assignment]
        model.load = _model
        ClusterController.start = _noted(ClusterController.start)  # type: ignore[method-assign]


_ENDED: list[Any] = []
CONTROLLERS: dict[Life, ClusterController] = {}


def _noted(start: Any) -> Any:
    """Keeps hold of the controller that a cluster's process makes for each of its reigns."""

    async def noting(self: ClusterController) -> None:
        await start(self)
        CONTROLLERS[LIFE.get()] = self

    return start if start.__name__ == "noting" else noting


_load = model.load


@cache
def _model(service: str) -> Any:
    """Read once, as above."""
    return _load(service)


@cache
def _protocol(service: Any) -> Protocol:
    """Compiled once: it is the same for every start of every cloud controller."""
    return Protocol(service)


@cache
def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _at_once(closing: Any) -> None:
    """Run what never really waits."""
    try:
        closing.send(None)
    except StopIteration:
        return
    raise AssertionError("a close without grace has waited")
