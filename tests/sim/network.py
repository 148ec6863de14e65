"""The wire between processes: late, cut, doubled, or partitioned, as chance decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mallee.kernel.rpc.identity import Identity
from mallee.kernel.rpc.memory_pipe import Fate, Message
from mallee.kernel.rpc.seam import KEEPALIVE, KEEPALIVE_ANSWER
from tests.sim.loop import LIFE

if TYPE_CHECKING:
    from tests.sim.world import World

NOTICED = KEEPALIVE + KEEPALIVE_ANSWER  # seconds after which a silent connection is given up
LOST = Fate(lost=True)


class Network:
    """Decides over each message.

    Attributes:
        slow, twice, cut: how likely each is, of a message.
        apart: pairs of processes that cannot reach each other, and until when.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance("network")
        self.slow = self.twice = self.cut = 0.0
        self.longest = 2.0
        self.apart: dict[tuple[str, str], float] = {}
        self.messages = 0
        self._singles: dict[str, bool] = {}

    def fate(self, message: Message) -> Fate:
        if not LIFE.get().alive:  # the last breath of a process that was killed in this very callback
            return LOST
        self.messages += 1
        source, target = (self._world.processes.get(_who(each)) for each in (message.source, message.target))
        if source is not None:
            source.at("message")
        if target is not None:
            target.at("received")
        if not LIFE.get().alive:
            return LOST
        if source is not None:
            self._world.later(0, source.at, "after message")
        fate = self._fate(message)
        self._world.trace(
            f"{_who(message.source)} > {_who(message.target)} {message.method.rpartition('/')[2]}"
            f"{' answer' if message.answer else ''} {message.number} ({message.size}) "
            f"{'lost' if fate.lost else f'{fate.delay * 1000:.3f} ms'}{' twice' if fate.copies > 1 else ''}"
        )
        return fate

    def _fate(self, message: Message) -> Fate:
        chance = self._chance
        delay = chance.uniform(0.0002, 0.003)
        until = self.apart.get((_who(message.source), _who(message.target)), 0.0)
        waits = until - self._world.loop.now
        if waits > NOTICED:
            return LOST
        if waits > 0:  # TCP tries again until it is through
            return Fate(delay=waits + delay)
        if self.slow and chance.random() < self.slow:
            delay += chance.uniform(0.0, self.longest)
        if self.cut and chance.random() < self.cut:
            return LOST
        twice = (
            self.twice
            and not message.answer
            and message.number == 0
            and self._single(message.method)
            and chance.random() < self.twice
        )
        return Fate(delay=delay, copies=2 if twice else 1)

    def _single(self, method: str) -> bool:
        """Whether one request is the whole of what is asked: only that may be sent twice, by whoever lost an answer."""
        if method not in self._singles:
            handlers = [served.guard.find(method) for served in self._world.wire._servers.values()]
            self._singles[method] = any(
                found is not None and not found.request_streaming for found in handlers
            )
        return self._singles[method]

    async def carry(self, source: str, target: str) -> bool:
        """One HTTP message on its way; whether it was lost."""
        delay = self._chance.uniform(0.0002, 0.003)
        lost = bool(self.cut) and self._chance.random() < self.cut
        if self.slow and self._chance.random() < self.slow:
            delay += self._chance.uniform(0.0, self.longest)
        self.messages += 1
        self._world.trace(f"{source} > {target} http {'lost' if lost else f'{delay * 1000:.3f} ms'}")
        await asyncio.sleep(delay)
        return lost

    def part(self, one: str, other: str, until: float, *, both: bool = True) -> None:
        """Nothing crosses from one to the other, and back if `both`, until then."""
        self._world.trace(f"{one} and {other} are apart until {until:.3f}{'' if both else ' (one way)'}")
        self.apart[one, other] = until
        if both:
            self.apart[other, one] = until

    def heal(self) -> None:
        """All is well from now on; what is on its way still arrives late."""
        self.slow = self.twice = self.cut = 0.0
        self.apart.clear()


def _who(identity: Identity) -> str:
    return identity.role if identity.role == identity.name else f"{identity.role}-{identity.name}"
