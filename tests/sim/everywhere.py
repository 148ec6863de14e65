"""Death at every single point of a piece of work, one world for each.

A rehearsal without faults notes every point that the work passes in every process: before each commit and
after it, before each message leaves and after it, and when each one arrives. Then the same world runs once for
each of them, with a death exactly there. Half of the worlds add a second death, while the dead one recovers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.sim.client import Refused, Unknown
from tests.sim.runner import Result
from tests.sim.story import Schedule, Story
from tests.sim.users import IMAGE, User
from tests.sim.world import Process, Shape, World

AWAY = 1.0  # seconds until a supervisor has a dead one up again
PATIENCE = 60.0  # seconds in which the work must come to its end, whoever dies
SHAPE = Shape(zones=1, nodes=2, vcpus=2, bandwidth_mbps=100.0)


class Point(NamedTuple):
    """Where somebody dies: the n-th time that a process comes to a moment of this kind."""

    work: str
    process: str
    kind: str
    number: int
    twice: bool = False


Work = Callable[[User, str], Awaitable[None]]


async def _run(u: User, _name: str) -> None:
    name = (await insist(u, "RunInstances", **LAUNCH, ClientToken="the one"))["Instances"][0]["InstanceId"]
    await reach(u, name, "running")
    answer = await insist(u, "RunInstances", **LAUNCH, ClientToken="the one")
    if answer["Instances"][0]["InstanceId"] != name:
        u.watch.broken("I5", f"one token launched {name} and {answer['Instances'][0]['InstanceId']}")


async def _stop(u: User, name: str) -> None:
    await insist(u, "StopInstances", InstanceIds=[name])
    await reach(u, name, "stopped")


async def _start(u: User, name: str) -> None:
    await insist(u, "StartInstances", InstanceIds=[name])
    await reach(u, name, "running")


async def _terminate(u: User, name: str) -> None:
    await insist(u, "TerminateInstances", InstanceIds=[name])
    await reach(u, name, "terminated")


async def _reboot(u: User, name: str) -> None:
    await insist(u, "RebootInstances", InstanceIds=[name])
    await reach(u, name, "running")


async def _migrate(u: User, name: str) -> None:
    """Until one has come to an end; a death may undo the first ones."""
    for _ in range(5):
        try:
            answer = await insist(u, "MigrateInstances", InstanceIds=[name], ClientToken=u.client.token())
        except Refused:  # one that nobody heard of may be under way
            await asyncio.sleep(2.0)
            continue
        migration = answer["Migrations"][0]["MigrationId"]
        state = "running"
        while state in {"pending", "running"}:
            await asyncio.sleep(0.3)
            found = await insist(u, "DescribeInstanceMigrations", MigrationIds=[migration])
            state = found["Migrations"][0]["State"] if found["Migrations"] else "unknown"
        if state == "completed":
            return
    u.watch.broken("I22", f"{name} could not be migrated")


WORKS: dict[str, Work] = {
    "run": _run,
    "stop": _stop,
    "start": _start,
    "terminate": _terminate,
    "reboot": _reboot,
    "migrate": _migrate,
}
ENDS = {"stop": "stopped", "terminate": "terminated"}
LAUNCH = {"ImageId": IMAGE, "InstanceType": "sim.small", "MinCount": 1, "MaxCount": 1}


async def insist(u: User, operation: str, **parameters: object) -> dict[str, object]:
    """The answer, however often it must be asked for."""
    while True:
        try:
            return await u.client(operation, **parameters)
        except Unknown:
            await asyncio.sleep(0.5)
        except Refused as refused:
            if refused.status < 500:
                raise
            await asyncio.sleep(0.5)


async def reach(u: User, name: str, state: str) -> None:
    while (await u.look(name)).get(name) != state:
        await asyncio.sleep(0.2)


def rehearse(work: str) -> list[Point]:
    """Every point of one piece of work, in the order in which they are met."""
    met: list[Point] = []
    counts: dict[tuple[str, str], int] = {}

    def listen(process: Process) -> None:
        def note(kind: str) -> None:
            number = counts[process.name, kind] = counts.get((process.name, kind), 0) + 1
            met.append(Point(work, process.name, kind, number))

        process.on_point = note

    result = _play(work, listen)
    if result.violations:
        raise AssertionError(f"{work} goes wrong with nobody dead: {result.violations}")
    return met


def rehearsal(work: str) -> Result:
    """The same, as what a child of the runner tells."""
    result = Result(work)
    result.seed = rehearse(work)
    return result


def strike(point: Point) -> Result:
    """The same work, and a death at this point."""
    struck: list[Process] = []

    def listen(process: Process) -> None:
        count = 0

        def note(kind: str) -> None:
            nonlocal count
            count += kind == point.kind
            if kind == point.kind and count == point.number:
                process.on_point = None
                struck.append(process)
                _die(process, again=point.twice)

        process.on_point = note if process.name == point.process else None

    result = _play(point.work, listen)
    if not struck:
        result.violations.append("the point was not met: the rehearsal was another course of things")
    result.seed = tuple(point)
    return result


def _die(process: Process, *, again: bool) -> None:
    process.kill()
    process.world.later(AWAY, process.start)
    if again:
        # While it reads what it was about: within its first commits after the start.
        process.world.later(AWAY + 0.01, _die_at_commit, process)


def _die_at_commit(process: Process) -> None:
    def note(kind: str) -> None:
        if kind == "after commit":
            process.on_point = None
            process.kill()
            process.world.later(AWAY, process.start)

    process.on_point = note


def _play(work: str, listen: Callable[[Process], None]) -> Result:
    world = World(f"everywhere {work}", SHAPE)
    story = Story(world, Schedule(world.seed, SHAPE, users=1, deeds=0), troubles=[])

    async def tell() -> None:
        await story.begin()
        user, name = story.users[0], ""
        if work != "run":
            name = (await insist(user, "RunInstances", **LAUNCH))["Instances"][0]["InstanceId"]  # type: ignore[index]
            await reach(user, name, "running")
        if work == "start":
            await insist(user, "StopInstances", InstanceIds=[name])
            await reach(user, name, "stopped")
        looking = asyncio.ensure_future(story.look())
        for process in world.processes.values():
            listen(process)
        try:
            async with asyncio.timeout(PATIENCE):
                await WORKS[work](user, name)
        except TimeoutError:
            story.watch.broken("I22", f"{work} came to no end")
        for process in world.processes.values():
            process.on_point = None
        await asyncio.sleep(2 * AWAY)
        await story.rest()
        looking.cancel()
        if name:
            state = (await user.look(name)).get(name)
            if state != ENDS.get(work, "running"):
                story.watch.broken("I2", f"after {work} {name} is {state}")

    world.run(tell())
    return Result(work, story.watch.violations, world.trace.digest, {"virtual": world.loop.now})
