"""The exact best host in logarithmic time.

One lazy heap per class of questions: entries are (score, index, version), and an entry whose version is no
longer the host's is skipped when it surfaces. A changed host is noted once per heap and pushed again
when that class is next asked for, so a host that changes often between two questions costs one push.
(After Protean, Hadary et al., OSDI 2020: evaluations cached per type of VM, repaired by deltas.)
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush

from mallee.cc.scheduler.filters import Kind, Question, refusal
from mallee.cc.scheduler.inventory import Host, Inventory

_CLASSES = 256
_Entry = tuple[float, int, int]


class _Heap:
    """The hosts that can serve one class, best first; possibly stale, never incomplete."""

    __slots__ = ("changed", "entries", "kind")

    def __init__(self, kind: Kind, hosts: dict[int, Host]) -> None:
        self.kind = kind
        self.changed: set[int] = set()
        self.entries: list[_Entry] = []
        self.rebuild(hosts)

    def rebuild(self, hosts: dict[int, Host]) -> None:
        self.changed.clear()
        self.entries = [(h.score, h.index, h.version) for h in hosts.values() if self._serves(h)]
        heapify(self.entries)

    def _serves(self, host: Host) -> bool:
        (vcpus, memory), zone, cpu_model = self.kind
        return (
            host.free_vcpus >= vcpus
            and host.free_memory >= memory
            and not host.cordoned
            and not host.lost
            and (not zone or host.zone == zone)
            and (not cpu_model or host.cpu_model == cpu_model)
        )

    def repair(self, hosts: dict[int, Host]) -> None:
        """Take in what changed since the last question."""
        if len(self.entries) + len(self.changed) > 2 * len(hosts) + 64:
            self.rebuild(hosts)
            return
        (vcpus, memory), _, _ = self.kind
        entries = self.entries
        for index in self.changed:
            host = hosts[index]
            if host.free_vcpus >= vcpus and host.free_memory >= memory and self._serves(host):
                heappush(entries, (host.score, index, host.version))
        self.changed.clear()

    def best(self, hosts: dict[int, Host], apart: frozenset[int]) -> Host | None:
        """The first entry that is true and not to be kept apart from; those passed over go back."""
        entries = self.entries
        passed: list[_Entry] = []
        found = None
        while entries:
            entry = entries[0]
            host = hosts[entry[1]]
            if host.version != entry[2]:
                heappop(entries)
            elif entry[1] in apart:
                passed.append(heappop(entries))
            else:
                found = host
                break
        for entry in passed:
            heappush(entries, entry)
        return found


class Scheduler:
    """Answers questions over an inventory: always the host that the naive scorer would name."""

    def __init__(self, inventory: Inventory) -> None:
        self._hosts = inventory.hosts
        self._heaps: OrderedDict[Kind, _Heap] = OrderedDict()
        self._by_zone: dict[str, list[_Heap]] = {"": []}
        inventory.watch(self._changed)

    def choose(self, question: Question) -> Host | None:
        """The best host for `question`, or None when there is none."""
        if question.only is not None:
            return self._among(question)
        heap = self._heap(question.kind)
        if heap.changed:
            heap.repair(self._hosts)
        return heap.best(self._hosts, question.apart)

    def ranked(self, question: Question) -> list[Host]:
        """Every host that can, best first."""
        able = [host for host in self._hosts.values() if refusal(host, question) is None]
        return sorted(able, key=lambda host: (host.score, host.index))

    def _among(self, question: Question) -> Host | None:
        """A pinned or affine question names few hosts: those are looked at one by one."""
        hosts = self._hosts
        able = [
            (host.score, host.index)
            for host in (hosts[index] for index in question.only or () if index in hosts)
            if refusal(host, question) is None
        ]
        return hosts[min(able)[1]] if able else None

    def _heap(self, kind: Kind) -> _Heap:
        heap = self._heaps.get(kind)
        if heap is not None:
            self._heaps.move_to_end(kind)
            return heap
        if len(self._heaps) >= _CLASSES:
            _, oldest = self._heaps.popitem(last=False)
            self._by_zone[oldest.kind.zone].remove(oldest)
        heap = self._heaps[kind] = _Heap(kind, self._hosts)
        self._by_zone.setdefault(kind.zone, []).append(heap)
        return heap

    def _changed(self, host: Host) -> None:
        index = host.index
        for heap in self._by_zone[""]:
            heap.changed.add(index)
        for heap in self._by_zone.get(host.zone, ()):
            heap.changed.add(index)
