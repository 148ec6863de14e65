"""What goes wrong, and when: the enemy of a world.

A schedule has a few kinds of trouble and not all of them, so that each is met alone, in pairs and in crowds.
Deaths at random times mostly fall into moments in which nothing happens; so most of them are tied to what a
process is doing: its n-th commit from now, before it or after it, its n-th message.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.sim.disk import BROKEN, FULL
from tests.sim.network import NOTICED

if TYPE_CHECKING:
    from tests.sim.invariants import Invariants
    from tests.sim.world import Process, World

POINTS = ("before commit", "after commit", "message", "after message", "received")
TROUBLES = (
    "kill",
    "kill at a point",
    "power off",
    "freeze",
    "partition",
    "cut off",
    "disk full",
    "disk broken",
    "disk slow",
    "guest lost",
)
SUPERVISED = 4.0  # seconds in which a supervisor has a dead service up again


class Nemesis:
    """Troubles one world until it is told to end.

    Args:
        kinds: what it may do; drawn by chance if not given.
    """

    def __init__(self, world: World, watch: Invariants, kinds: list[str] | None = None) -> None:
        self.world = world
        self.watch = watch
        self.chance = world.chance("nemesis")
        if kinds is None:
            kinds = [kind for kind in TROUBLES if self.chance.random() < 0.35]
        self.kinds = kinds
        self._work = [getattr(self, f"_{kind.replace(' ', '_')}") for kind in kinds]
        self.pace = self.chance.choice([2.0, 4.0, 8.0])
        self._running: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """What lasts from the beginning: the wire's temper, and clocks that differ."""
        network, chance = self.world.network, self.chance
        network.slow = chance.choice([0, 0, 0.02, 0.1])
        network.twice = chance.choice([0, 0, 0.05, 0.2])
        network.cut = chance.choice([0, 0, 0, 0.005, 0.02])
        network.longest = chance.choice([0.5, 2.0, 6.0])
        if chance.random() < 0.4:
            for process in self.world.processes.values():
                process.clock.rate = chance.uniform(0.95, 1.05)
                process.clock.offset = chance.uniform(-3600, 3600)

    async def run(self) -> None:
        """Trouble after trouble, several at a time, until cancelled."""
        if not self._work:
            return
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / self.pace))
            task = asyncio.ensure_future(self.chance.choice(self._work)())
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.trace.log("error", "the enemy stumbled", {"exc_info": error})

    async def end(self) -> None:
        """All is mended, and everybody is up."""
        for task in tuple(self._running):
            task.cancel()
        self.world.network.heal()
        for process in self.world.processes.values():
            process.on_point = None
            process.disk.error, process.disk.slow = 0, 0.0
            process.disk.errors.clear()
            if process.life.frozen:
                self._thaw(process)
            if process.off or not process.life.alive:
                process.off = False
                self._start(process)

    # Deaths.

    async def _kill(self) -> None:
        process = self._any(self.world.processes.values())
        if process is not None and not self._hangs(process):
            process.kill()
            await self._back(process, self.chance.uniform(0.05, SUPERVISED))

    async def _kill_at_a_point(self) -> None:
        """Before or after one of its next commits, or with one of its next messages on the way."""
        process = self._any(self.world.processes.values())
        if process is None:
            return
        await self.kill_at(process, self.chance.choice(POINTS), self.chance.randint(1, 6))

    async def kill_at(self, process: Process, point: str, number: int) -> None:
        """Kill a process at the n-th time that it comes to a point; start it again soon."""
        left = number
        struck = asyncio.Event()
        life = process.life

        def strike(reached: str) -> None:
            nonlocal left
            if reached != point or process.life is not life:
                return
            left -= 1
            if left == 0:
                self.world.trace(f"{life} is struck at: {point} {number}")
                process.on_point = None
                process.kill()
                struck.set()

        process.on_point = strike
        try:
            async with asyncio.timeout(15):
                await struck.wait()
        except TimeoutError:
            if process.on_point is strike:
                process.on_point = None
            return
        await self._back(process, self.chance.uniform(0.05, SUPERVISED))

    async def _power_off(self) -> None:
        """A host loses its power, and its guests with it; it is back after a while."""
        process = self._any(self.world.of_role("nc") + self.world.of_role("walrus"))
        if process is not None:
            await self.power_off(process, self.chance.choice([1.0, 5.0, 15.0, 40.0]))

    async def power_off(self, process: Process, seconds: float) -> None:
        process.lose_power()
        if process.post.role == "nc":
            self.watch.guests.power_off(process)
        await asyncio.sleep(seconds)
        process.off = False
        self._start(process)

    async def _back(self, process: Process, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._start(process)

    def _start(self, process: Process) -> None:
        if not process.life.alive and not process.off:
            process.start()

    # Everything else.

    async def _freeze(self) -> None:
        """It hangs: a service on a node of its own, or a whole host with its guests."""
        process = self._any(self.world.processes.values())
        if process is None or process.life.frozen:
            return
        life = process.life
        process.freeze()
        seconds = self.chance.choice([0.5, 3.0, 12.0, 25.0])
        await asyncio.sleep(min(seconds, NOTICED))
        if seconds > NOTICED and process.life is life:
            process.transport.silence()
            await asyncio.sleep(seconds - NOTICED)
        if process.life is life:
            self._thaw(process)

    def _thaw(self, process: Process) -> None:
        self.watch.guests.woke(process.name)
        process.thaw()

    async def _partition(self) -> None:
        one, other = self.chance.sample(sorted(self.world.processes), 2)
        seconds = self.chance.choice([0.5, 3.0, 10.0, 20.0, 40.0])
        self.world.network.part(one, other, self.world.loop.now + seconds, both=self.chance.random() < 0.8)

    async def _cut_off(self) -> None:
        """A node and its controller do not reach each other for about as long as a lease, or two, or three."""
        node = self.chance.choice(self.world.of_role("nc"))
        zone = node.post.settings["zone"]
        seconds = self.chance.choice([8.0, 14.0, 24.0, 45.0])
        for controller in self.world.of_role("cc"):
            if controller.post.settings["zone"] == zone:
                self.world.network.part(node.name, controller.name, self.world.loop.now + seconds)

    async def _disk_full(self) -> None:
        process = self._any(self.world.processes.values())
        if process is not None:
            await self._with_error(process, FULL, self.chance.choice([0.5, 3.0, 10.0]))

    async def _with_error(self, process: Process, code: int, seconds: float) -> None:
        self.world.trace(f"the disk of {process.name} fails with {code} for {seconds}")
        process.disk.error = code
        await asyncio.sleep(seconds)
        process.disk.error = 0

    async def _disk_broken(self) -> None:
        """Single commits fail; some of them have been made all the same."""
        process = self._any(self.world.processes.values())
        if process is not None:
            made = self.chance.random() < 0.5
            self.world.trace(f"the next commit of {process.name} fails{', and is made' if made else ''}")
            process.disk.errors.append((BROKEN, made))

    async def _disk_slow(self) -> None:
        process = self._any(self.world.processes.values())
        if process is not None:
            process.disk.slow = self.chance.choice([0.05, 0.5, 2.0])
            await asyncio.sleep(self.chance.uniform(0.5, 5.0))
            process.disk.slow = 0.0

    async def _guest_lost(self) -> None:
        """A guest crashes, or is gone from its host as if it had never been."""
        process = self._any(self.world.of_role("nc"))
        if process is None or not process.up or process.life.frozen:
            return
        running = [copy for copy in self.watch.guests.of(process.name) if copy.phase == "running"]
        if running:
            self.watch.guests.lose(process, self.chance.choice(running), quietly=self.chance.random() < 0.5)

    @staticmethod
    def _hangs(process: Process) -> bool:
        """Whether it is on a host that hangs whole, guests and all: nobody is killed there."""
        return process.life.frozen and process.post.role == "nc"

    def _any(self, processes: object) -> Process | None:
        """A process that lives: who is dead already has trouble enough."""
        living = [each for each in processes if each.life.alive]  # type: ignore[attr-defined]
        return self.chance.choice(living) if living else None
