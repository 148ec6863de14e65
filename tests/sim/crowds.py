"""Room for so many, and three times as many requests at one moment, at every cloud controller: exactly those are granted."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sim.runner import Result
from tests.sim.story import Schedule, Story
from tests.sim.world import Shape, World


def crowd(seed: Any, tell: Any = None) -> Result:
    """One world without troubles. Either the nodes' room ends, or what the account may have."""
    chance = World.chance_of(seed, "schedule of crowds")
    by_quota = chance.random() < 0.5
    most = chance.randint(3, 9)
    shape = Shape(
        nodes=2 if by_quota else chance.choice([1, 3]),
        vcpus=3 * most if by_quota else most,
        memory_mib=1024,
        quota=most if by_quota else 0,
        clcs=chance.choice([1, 2, 2]),
        standby=chance.random() < 0.25,
    )
    granted = most if by_quota else most * shape.nodes
    world = World(seed, shape, tell)
    story = Story(world, Schedule(seed, shape, users=1 if by_quota else 3, deeds=0), troubles=[])

    async def work() -> None:
        await story.begin()
        askers = [story.users[number % len(story.users)] for number in range(3 * granted)]
        made = await asyncio.gather(*(user.launch() for user in askers))
        if (count := sum(map(len, made))) != granted:
            story.watch.broken("I7" if by_quota else "I6", f"{count} were granted where {granted} could be")
        await story.rest()

    world.run(work())
    stats = {"virtual": world.loop.now, "instances": float(len(story.promises.launched))}
    return Result(seed, story.watch.violations, world.trace.digest, stats)
