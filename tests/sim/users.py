"""Who uses the cloud, and what they were promised: every answer is held against what comes after it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mallee.clc.instance import State
from tests.sim.client import Away, Client, Key, Refused, Unknown

if TYPE_CHECKING:
    from tests.sim.invariants import Invariants
    from tests.sim.world import World

FOREVER = float("inf")
IMAGE = "ami-00000000000a11ee0"
# What the cloud may answer with a 5xx: it is full, a zone or a disk is away just now.
EXCUSED = {"InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unavailable", "ServiceUnavailable"}


@dataclass
class Act:
    """One wish of one user about one instance. `ended` is for ever while nobody knows what became of it."""

    verb: str
    began: float
    ended: float = FOREVER
    granted: bool = False


@dataclass
class Promises:
    """What the cloud has acknowledged."""

    launched: dict[str, str] = field(default_factory=dict)  # instance -> who
    acts: dict[str, list[Act]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)  # written once, never taken away
    keys: set[str] = field(default_factory=set)
    dying: set[str] = field(default_factory=set)  # guests that end by themselves
    migrations: dict[str, str] = field(default_factory=dict)  # id -> instance
    good_keys: dict[Key, str] = field(default_factory=dict)  # how their ARN ends
    gone_keys: set[Key] = field(default_factory=set)
    described: dict[tuple[str, str], Any] = field(
        default_factory=dict
    )  # instance and attribute; None if nobody knows
    images: dict[str, str] = field(default_factory=dict)  # id -> who
    rules: dict[tuple[str, str], str] = field(default_factory=dict)  # of a group, what it lets in -> who


class User:
    """A client with a memory."""

    def __init__(
        self, world: World, name: str, client: Client, watch: Invariants, promises: Promises
    ) -> None:
        self.world = world
        self.name = name
        self.client = client
        self.watch = watch
        self.promises = promises
        self.chance = world.chance(f"user {name}")
        self.mine: list[str] = []
        self.is_admin = False

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """The answer, or None if it was refused or never came; what may never be answered is a violation."""
        try:
            return await self.client(operation, **parameters)
        except Refused as refused:
            if refused.status >= 500 and refused.code not in EXCUSED:
                self.watch.broken("I18", f"{operation} was answered {refused}")
        except Unknown as unknown:
            refused = unknown.__cause__
            if isinstance(refused, Refused) and refused.code not in EXCUSED:
                self.watch.broken("I18", f"{operation} was answered {refused}")
        return None

    async def launch(self, count: int = 1, *, token: str | None = None, **more: Any) -> list[str]:
        """Instances, if there was room for at least one."""
        asked = self.world.loop.now
        answer = await self.ask(
            "RunInstances",
            ImageId=IMAGE,
            InstanceType=more.pop("kind", "sim.small"),
            MinCount=more.pop("least", 1),
            MaxCount=count,
            ClientToken=token or self.client.token(),
            **more,
        )
        if answer is None:
            return []
        ids = [each["InstanceId"] for each in answer["Instances"]]
        for each in answer["Instances"]:
            self.promises.launched[each["InstanceId"]] = self.name
            self._saw(each["InstanceId"], each["State"]["Name"], asked)
        self.mine += [each for each in ids if each not in self.mine]
        return ids

    async def act(self, verb: str, instance_id: str, **more: Any) -> dict[str, Any] | None:
        """Wish for a change of power: terminate, stop, start, reboot."""
        act = Act(verb, self.world.loop.now)
        self.promises.acts.setdefault(instance_id, []).append(act)
        operation = f"{verb.title()}Instances"
        try:
            answer = await self.client(operation, InstanceIds=[instance_id], **more)
        except Refused as refused:
            act.ended = self.world.loop.now
            if refused.status >= 500 and refused.code not in EXCUSED:
                self.watch.broken("I18", f"{operation} was answered {refused}")
            return None
        except Unknown as unknown:
            refused = unknown.__cause__
            if isinstance(refused, Refused) and refused.code not in EXCUSED:
                self.watch.broken("I18", f"{operation} was answered {refused}")
            if isinstance(unknown, Away):
                act.ended = self.world.loop.now
            return None
        act.ended, act.granted = self.world.loop.now, True
        return answer

    async def look(self, *instance_ids: str) -> dict[str, str]:
        """The states of instances, as they are told."""
        asked = self.world.loop.now
        answer = await self.ask("DescribeInstances", InstanceIds=list(instance_ids))
        if answer is None:
            return {}
        found = {}
        for reservation in answer["Reservations"]:
            for each in reservation["Instances"]:
                found[each["InstanceId"]] = each["State"]["Name"]
                self._saw(each["InstanceId"], each["State"]["Name"], asked)
        return found

    async def until(self, instance_id: str, *states: str, seconds: float = 8.0) -> bool:
        """Wait for one of these states, for a while."""
        end = self.world.loop.now + seconds
        while self.world.loop.now < end:
            if (await self.look(instance_id)).get(instance_id) in states:
                return True
            await asyncio.sleep(self.chance.uniform(0.1, 0.6))
        return False

    def any_of_mine(self) -> str | None:
        return self.chance.choice(self.mine) if self.mine else None

    def _saw(self, instance_id: str, state: str, asked: float) -> None:
        self.watch.saw(self.name, instance_id, state, asked)


def broken_promises(
    promises: Promises, rows: dict[str, State], tags: dict[tuple[str, str], str]
) -> list[str]:
    """What was acknowledged and is not so, now that all is at rest."""
    found = [f"{each} was launched and is unknown" for each in promises.launched if each not in rows]
    for instance_id, acts in promises.acts.items():
        state = rows.get(instance_id)
        if state is None:
            continue
        if any(act.verb == "terminate" and act.granted for act in acts) and state is not State.TERMINATED:
            found.append(f"{instance_id} was terminated and is {state.title}")
        last = max(acts, key=lambda act: act.began)
        alone = all(act.ended < last.began for act in acts if act is not last)
        if last.granted and alone and last.verb == "stop" and state not in {State.STOPPED, State.TERMINATED}:
            found.append(f"{instance_id} was stopped and is {state.title}")
    for (resource, key), value in promises.tags.items():
        if (
            rows.get(resource, State.TERMINATED) is not State.TERMINATED
            and tags.get((resource, key)) != value
        ):
            found.append(f"{resource} lost its tag {key}")
    return found
