"""What every node has, what is taken of it, and by whom: the scheduler's whole world, in memory.

A mirror of rows, rebuilt at start. Every change of a host raises its version, so that what was
computed from an older state is recognised without being told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mallee.domain.guest import Resources


@dataclass(slots=True, eq=False)
class Host:
    """A node as the scheduler sees it.

    `index` is the number in its host id and its rank in every tie. `turn` counts up over all
    placements: the host with the smallest was chosen longest ago.
    """

    index: int
    zone: str
    capacity: Resources
    cpu_model: str = ""
    hypervisor: str = "fake"
    cordoned: bool = False
    lost: bool = False
    silent: bool = False  # holds its lease, but its line is down: the last choice
    free_vcpus: int = 0
    free_memory: int = 0
    turn: int = 0
    version: int = 0
    score: float = 0.0
    takers: dict[str, Resources] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free_vcpus, self.free_memory = self.capacity

    @property
    def host_id(self) -> str:
        """`h-0`, `h-1` ... in the order of first attendance."""
        return f"h-{self.index}"

    @property
    def title(self) -> str:
        """The same for people, who see the nodes of every zone: `h-mallee-1a-3`."""
        return f"h-{self.zone}-{self.index}"

    @property
    def open(self) -> bool:
        """Whether new guests may come at all."""
        return not (self.cordoned or self.lost)

    @property
    def free(self) -> Resources:
        """What is not taken; negative when the node came back smaller than it was."""
        return Resources(self.free_vcpus, self.free_memory)

    def holds(self, asked: Resources) -> bool:
        """Whether `asked` still fits."""
        return self.free_vcpus >= asked.vcpus and self.free_memory >= asked.memory_mib


class Inventory:
    """All hosts of the zone, and who takes what of which.

    A *taker* is any name that holds capacity on one host: an instance, an incoming copy, a guest that nobody
    knows. Taking twice is taking once, releasing what is not held is fine.
    """

    def __init__(self, score: Callable[[Host], float]) -> None:
        self.hosts: dict[int, Host] = {}
        self._where: dict[str, Host] = {}
        self._score = score
        self._turns = 0
        self._watchers: list[Callable[[Host], None]] = []

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts.values())

    def watch(self, changed: Callable[[Host], None]) -> None:
        """Have `changed` called after each change of a host."""
        self._watchers.append(changed)

    def add(self, host: Host) -> Host:
        """Let a host in."""
        self.hosts[host.index] = host
        self.touch(host)
        return host

    def where(self, taker: str) -> Host | None:
        """The host that `taker` holds capacity on."""
        return self._where.get(taker)

    def of(self, takers: Iterable[str]) -> set[int]:
        """The hosts, by index, where any of these holds capacity."""
        where = self._where
        return {where[taker].index for taker in takers if taker in where}

    def take(self, taker: str, host: Host, asked: Resources) -> None:
        """Book `asked` on `host`, moving the taker's earlier booking. The caller has chosen: nothing is refused."""
        if taker in self._where:
            self.release(taker)
        host.takers[taker] = asked
        self._where[taker] = host
        host.free_vcpus -= asked.vcpus
        host.free_memory -= asked.memory_mib
        self._turns += 1
        host.turn = self._turns
        self.touch(host)

    def release(self, taker: str) -> None:
        """Give the taker's booking back."""
        host = self._where.pop(taker, None)
        if host is None:
            return
        had = host.takers.pop(taker)
        host.free_vcpus += had.vcpus
        host.free_memory += had.memory_mib
        self.touch(host)

    def resize(self, host: Host, capacity: Resources) -> None:
        """The node came back with another capacity."""
        host.free_vcpus += capacity.vcpus - host.capacity.vcpus
        host.free_memory += capacity.memory_mib - host.capacity.memory_mib
        host.capacity = capacity
        self.touch(host)

    def touch(self, host: Host) -> None:
        """Something of this host changed: what was known of it is old."""
        host.version += 1
        host.score = self._score(host)
        for changed in self._watchers:
            changed(host)

    def totals(self) -> tuple[int, int, Resources, Resources]:
        """Hosts, hosts that are open, and the capacity and free resources of the open ones."""
        ready = [host for host in self if host.open]
        capacity = Resources(sum(h.capacity.vcpus for h in ready), sum(h.capacity.memory_mib for h in ready))
        free = Resources(sum(max(0, h.free_vcpus) for h in ready), sum(max(0, h.free_memory) for h in ready))
        return len(self.hosts), len(ready), capacity, free
