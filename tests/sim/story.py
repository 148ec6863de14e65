"""One schedule from beginning to end: a cloud, its users, its enemy, then peace and the reckoning."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from mallee.clc.instance import State
from tests.sim import reckoning, tenants, upkeep, workload
from tests.sim.client import Client, Key
from tests.sim.deeds import DEEDS, chosen
from tests.sim.invariants import Invariants
from tests.sim.nemesis import TROUBLES, Nemesis
from tests.sim.runner import Result
from tests.sim.store_history import StoreHistory
from tests.sim.store_users import StoreUser, sweep_and_look
from tests.sim.users import Promises, User, broken_promises
from tests.sim.world import Shape, World

FAMILIES = (workload, tenants, upkeep)  # each says what users may do
PEACE = 75.0  # seconds after the last fault in which everything must have come to rest
BEGINS = 20.0  # seconds until everybody is up, with nothing in the way
QUIET = 2.0  # seconds between two looks at whether it has


@dataclass
class Schedule:
    """What chance has decided for one seed before it begins."""

    seed: Any
    shape: Shape
    users: int
    deeds: int  # of each user
    only: tuple[str, ...] = ()  # these deeds and no others
    store_users: int = 0

    @classmethod
    def of(cls, seed: Any, world_chance: Any) -> Schedule:
        chance = world_chance
        shape = Shape(
            zones=chance.choice([1, 1, 1, 2]),
            nodes=chance.choice([2, 2, 3]),
            vcpus=chance.choice([2, 4, 6]),
            bandwidth_mbps=chance.choice([30.0, 100.0, 1000.0]),
            quota=chance.choice([0, 0, 0, 3, 5]),
        )
        users, deeds = chance.choice([1, 2, 3]), chance.choice([4, 6, 9])
        shape = replace(
            shape,
            clcs=chance.choice([1, 2]),
            standby=chance.random() < 0.25,
            store=chance.random() < 0.15,
        )
        return cls(seed, shape, users, deeds, store_users=chance.choice([1, 2, 3]) if shape.store else 0)


class Story:
    """The people and the enemy of one world."""

    def __init__(self, world: World, schedule: Schedule, troubles: list[str] | None = None) -> None:
        self.world = world
        self.schedule = schedule
        self.watch = Invariants(world, schedule.shape.quota)
        self.nemesis = Nemesis(world, self.watch, troubles)
        self.promises = Promises()
        self.users: list[User] = []
        self.history = StoreHistory(self.watch)
        self.store_users: list[StoreUser] = []
        self.ended_migrations: dict[str, list[Any]] = {}

    async def begin(self) -> None:
        """Everybody is up, and every account is there."""
        for process in self.world.processes.values():
            process.start()
        while not all(process.up for process in self.world.processes.values()) or not self._attended():
            await asyncio.sleep(0.05)
            if self.world.loop.now > BEGINS:
                raise RuntimeError("the cloud does not begin", self.world.trace.alarms)
        first = msgspec.json.decode((self.world.clc.post.folder / "first-key.json").read_bytes())
        key = Key(first["access_key_id"], first["secret_access_key"], first["account_id"])
        admin = self._join("admin", key)
        admin.is_admin = True
        for number in range(1, self.schedule.users):
            made = await admin.client("CreateAccount", service="iam", AccountName=f"user-{number}")
            access = made["AccessKey"]
            key = Key(access["AccessKeyId"], access["SecretAccessKey"], made["Account"]["AccountId"])
            self._join(f"user-{number}", key)
        for number in range(self.schedule.store_users):
            name = f"store-user-{number}"
            self.store_users.append(StoreUser(self.world, name, admin.client.key, self.watch, self.history))
        if self.store_users:
            await self.store_users[0].make_buckets()

    def _attended(self) -> bool:
        controllers = [self.world.controller(process) for process in self.world.serving()]
        return all(
            controller is not None and len(controller.nodes._lines) == self.world.shape.nodes
            for controller in controllers
        )

    def _join(self, name: str, key: Key) -> User:
        user = User(self.world, name, Client(self.world, name, key), self.watch, self.promises)
        self.users.append(user)
        return user

    async def tell(self) -> None:
        """The whole story."""
        await self.begin()
        looking = asyncio.ensure_future(self.look())
        self.nemesis.begin()
        clcs = self.world.of_role("clc")
        for other in clcs[1:]:  # a request is signed with one moment, which all of them must take for now
            other.clock.offset = clcs[0].clock.offset + self.nemesis.chance.uniform(-60, 60)
        enemy = asyncio.ensure_future(self.nemesis.run())
        stores = (user.live(2 * self.schedule.deeds) for user in self.store_users)
        await asyncio.gather(*(self._live(user) for user in self.users), *stores)
        await asyncio.sleep(self.nemesis.chance.choice([0.0, 0.0, 10.0, 30.0]))  # what takes its time
        enemy.cancel()
        await self.nemesis.end()
        await self.rest()
        looking.cancel()

    async def _live(self, user: User) -> None:
        able = chosen(user.chance, admin=user.is_admin)
        if self.schedule.only:
            able = [DEEDS[name] for name in self.schedule.only]
        weights = [choice.weight for choice in able]
        pause = user.chance.choice([0.2, 1.0, 3.0])
        await user.launch(user.chance.choice([1, 2]))
        for _ in range(self.schedule.deeds):
            await asyncio.sleep(user.chance.expovariate(1 / pause))
            await user.chance.choices(able, weights)[0].deed(user)

    async def look(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.watch.look()

    async def rest(self) -> None:
        """Peace, and then the reckoning."""
        self.world.trace("peace")
        await self._peace()
        for what in reckoning.unrest(self.world):
            self.watch.broken("I10", what)
        await reckoning.keys_are_as_promised(self.users[0])
        for user in self.users:
            await reckoning.descriptions_are_as_promised(user)
        if self.store_users:
            await self._reckon_store()
        self._reckon()

    async def _reckon_store(self) -> None:
        reader = self.store_users[0]
        await reader.read_all()
        self.history.check()
        (process,) = self.world.of_role("walrus")
        left = asyncio.get_running_loop().create_future()

        async def look() -> None:
            try:
                found = await reckoning.files_of_images(self.world, process)
                found += await sweep_and_look(process.service.store, self.users[0].client.key.account_id)
                left.set_result(found)
            except Exception as error:  # noqa: BLE001 - told below
                left.set_result([repr(error)])

        process.do(look())
        async with asyncio.timeout(60):
            for what in await left:
                self.watch.broken("I11", what)

    async def _peace(self) -> None:
        """Until all is at rest, and the product itself says so, or patience ends.

        A line that was cut before the peace may break only now, so one quiet moment is not enough.
        """
        end, still, wrong = self.world.loop.now + PEACE, 0, []
        while True:
            await asyncio.sleep(QUIET)
            still = still + 1 if self._quiet() else 0
            late = self.world.loop.now >= end
            if still >= 2 or late:
                wrong = await self._audited()
                if late or (not wrong and self._quiet()):
                    break
                still = 0
        for found in wrong:
            self.watch.broken(found.invariant.value, f"says the auditor: {found.what} {found.why}")

    def _quiet(self) -> bool:
        return self._all_up() and not self.watch.misfits() and not reckoning.unrest(self.world)

    async def _audited(self) -> list[Any]:
        """What the product finds wrong with itself, when it is asked now."""
        for process in self.world.serving():
            if (controller := self.world.controller(process)) is not None:
                process.do(controller.auditor.look())
        clcs = [each for each in self.world.of_role("clc") if each.up]
        for clc in clcs:
            clc.do(clc.service.cloud.auditor.look())
        await asyncio.sleep(2.0)
        return [found for clc in clcs if clc.up for found in clc.service.cloud.auditor.violations]

    def _all_up(self) -> bool:
        return all(process.up for process in self.world.processes.values()) and self._attended()

    def _reckon(self) -> None:
        query = "SELECT state FROM migrations"
        self.ended_migrations = {each.name: each.rows(query) for each in self.world.serving()}
        self.watch.at_rest()
        clc = self.world.clc
        states = {name: State(state) for name, state in clc.rows("SELECT id, state FROM instances")}
        tags = {(r, k): v for r, k, v in clc.rows("SELECT resource_id, key, value FROM tags")}
        for what in broken_promises(self.promises, states, tags):
            self.watch.broken("I12", what)
        kept = {name for (name,) in clc.rows("SELECT name FROM key_pairs")}
        for name in sorted(self.promises.keys - kept):
            self.watch.broken("I12", f"the key pair {name} is gone")
        for alarm in self.world.trace.alarms:
            self.watch.broken("I18", alarm)


def simulate(seed: Any, tell: Any = None) -> Result:
    """One seed, from the beginning to the reckoning."""
    return _tell(Schedule.of(seed, World.chance_of(seed, "schedule of users")), None, tell)


MIGRATIONS = ("migrate", "migrate", "migrate_twice_at_once", "there_and_back", "steer", "drain")


def migrate_and_migrate(seed: Any, tell: Any = None) -> Result:
    """A world in which instances do hardly anything but migrate, and there is always trouble."""
    chance = World.chance_of(seed, "schedule of migrations")
    shape = Shape(zones=1, nodes=3, vcpus=4, bandwidth_mbps=chance.choice([100.0, 400.0]))
    troubles = ["kill at a point", "kill at a point", *chance.sample(TROUBLES, 2)]
    return _tell(Schedule(seed, shape, users=1, deeds=14, only=("launch", *MIGRATIONS)), troubles, tell)


def _tell(schedule: Schedule, troubles: list[str] | None, tell: Any) -> Result:
    world = World(schedule.seed, schedule.shape, tell)
    story = Story(world, schedule, troubles)
    world.run(story.tell())
    ends = Counter(state for ended in story.ended_migrations.values() for (state,) in ended)
    stats = {
        "virtual": world.loop.now,
        "steps": float(world.loop.steps),
        "messages": float(world.network.messages),
        "instances": float(len(story.promises.launched)),
        "migrations": float(sum(ends.values())),
        "completed": float(ends["completed"]),
    }
    return Result(schedule.seed, story.watch.violations, world.trace.digest, stats)
