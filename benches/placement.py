"""Exact placements a second with zone, capacity, affinity and anti-affinity rules, against the naive scorer.

    python benches/placement.py [--nodes 10000] [--seconds 3]

Seven sizes of guests, four zones, about 70 % full, one release per placement: one question in ten is
bound to the host of another guest, one in five keeps apart from three others. Both scorers answer
the same questions over the same states, and every answer of the sample must be the same.
"""

import argparse
import json
import random
import statistics
import time

from mallee.cc.scheduler.filters import Kind, Question
from mallee.cc.scheduler.heap import Scheduler
from mallee.cc.scheduler.inventory import Host, Inventory
from mallee.cc.scheduler.policies import NAMES, policy
from mallee.domain.guest import Resources

FLAVOURS = [(1, 512), (1, 1024), (1, 2048), (2, 4096), (2, 8192), (4, 16384), (8, 32768)]
ZONES = "abcd"


def naive_choice(inventory: Inventory, question: Question) -> Host | None:
    """Looks at every host, as plainly as it can be written: no sentence is made for a refusal."""
    (resources, zone, model), only, apart = question.kind, question.only, question.apart
    best = None
    for host in inventory:
        if (
            host.free_vcpus >= resources.vcpus
            and host.free_memory >= resources.memory_mib
            and (not zone or host.zone == zone)
            and (not model or host.cpu_model == model)
            and host.open
            and (only is None or host.index in only)
            and host.index not in apart
            and (best is None or (host.score, host.index) < (best.score, best.index))
        ):
            best = host
    return best


class Workload:
    """A zone set that is kept about 70 % full."""

    def __init__(self, nodes: int, name: str, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.inventory = Inventory(policy(name))
        self.scheduler = Scheduler(self.inventory)
        for index in range(nodes):
            size = self.rng.choice((16, 32, 64))
            self.inventory.add(
                Host(index, zone=ZONES[index % 4], capacity=Resources(size, size * 4096), cpu_model="m")
            )
        self.alive: list[str] = []
        self.made = 0
        total = sum(host.capacity.vcpus for host in self.inventory)
        while sum(host.free_vcpus for host in self.inventory) > total * 0.3:
            for _ in range(nodes // 4):
                self.place(Question(self.kind()))

    def kind(self) -> Kind:
        vcpus, memory = self.rng.choice(FLAVOURS)
        return Kind(Resources(vcpus, memory), self.rng.choice(ZONES))

    def question(self) -> Question:
        """What the next request asks; resolving its rules is part of the measured work."""
        kind, dice = self.kind(), self.rng.random()
        if dice < 0.1:
            near = frozenset(self.inventory.of([self.rng.choice(self.alive)]))
            return Question(Kind(kind.resources), only=near)
        if dice < 0.3:
            return Question(kind, apart=frozenset(self.inventory.of(self.rng.sample(self.alive, 3))))
        return Question(kind)

    def place(self, question: Question) -> bool:
        host = self.scheduler.choose(question)
        if host is None:
            return False
        self.made += 1
        name = f"i-{self.made}"
        self.inventory.take(name, host, question.kind.resources)
        self.alive.append(name)
        return True

    def release(self) -> None:
        at = self.rng.randrange(len(self.alive))
        self.alive[at], self.alive[-1] = self.alive[-1], self.alive[at]
        self.inventory.release(self.alive.pop())

    def run(self, seconds: float) -> float:
        """Placements a CPU second."""
        done, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            for _ in range(200):
                if self.place(self.question()):
                    self.release()
                done += 1
        return done / (time.process_time() - start)

    def compare(self, count: int) -> tuple[float, int]:
        """The naive scorer's questions a CPU second, and how many answers differ."""
        differing, spent = 0, 0.0
        for _ in range(count):
            question = self.question()
            start = time.process_time()
            naive = naive_choice(self.inventory, question)
            spent += time.process_time() - start
            differing += naive is not self.scheduler.choose(question)
            if self.place(question):
                self.release()
        return count / spent, differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    report = {}
    for name in NAMES:
        load = Workload(asked.nodes, name)
        rates = [load.run(asked.seconds) for _ in range(3)]
        naive, differing = load.compare(60)
        fast = statistics.median(rates)
        report[name] = {
            "placements_per_second": round(fast),
            "naive_per_second": round(naive),
            "ratio": round(fast / naive, 1),
            "decisions_that_differ": differing,
        }
        print(
            f"{name:11} {fast:9,.0f} placements/s at {asked.nodes:,} nodes;"
            f" naive {naive:6,.0f}/s; ratio {fast / naive:6.1f}; differing {differing}"
        )
    print(json.dumps({"bench": "placement", "nodes": asked.nodes, "policies": report}))


if __name__ == "__main__":
    main()
