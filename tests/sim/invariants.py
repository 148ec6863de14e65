"""The rules that hold at every moment, and those that hold when all is at rest.

Numbers are those of `docs/reliability.md`. Everything is read where it lies - the guests themselves, the rows
of each database - or asked over the public API; what a service believes of another is believed here by nobody.

I14 and what else the object store promises is in `store_history.py`, what was promised beside instances in
`reckoning.py`. Not checked because what they speak of is not built: I8 and I15 (volumes, snapshots), I20 (usage
records), I21 (Auto Scaling). I17 is a property test of policies, where those are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from mallee.clc.instance import NEXT, State
from mallee.domain.guest import Phase
from tests.sim.guests import HELD, Guests

if TYPE_CHECKING:
    from tests.sim.world import Process, World

STEADY = {State.RUNNING, State.STOPPED, State.TERMINATED}
LEASE_MARGIN = 2.0  # seconds that a node may take to pause its guests after its lease has lapsed
# What may follow what, seen by somebody who does not see every state between.
LATER = {state: {state} for state in State}
for _ in State:
    for _following in LATER.values():
        _following.update(*(NEXT[each] for each in tuple(_following)))


class Invariants:
    """Watches one world from its beginning."""

    def __init__(self, world: World, quota: int = 0) -> None:
        self._world = world
        self._quota = quota
        self.violations: list[str] = []
        self.guests = Guests(world, self._guest_changed)
        self._seen: dict[str, State] = {}  # by the rows of the CLC
        self._told: dict[str, tuple[State, float]] = {}  # to clients, and when
        self._unpaused: dict[str, float] = {}  # since when a node without lease runs guests
        world.on_commit.append(self._committed)

    def broken(self, rule: str, what: str) -> None:
        """Once for each thing: a state that lasts is one violation."""
        if not any(each.endswith(f"{rule} {what}") for each in self.violations):
            self.violations.append(f"{self._world.loop.now:.3f} {rule} {what}")
            self._world.trace(f"VIOLATION {rule} {what}")

    # At every change.

    def _guest_changed(self, node: str, instance_id: str, done: bool) -> None:
        self.check_runs_once(instance_id)
        if not done:  # found on a disk: what a failed write left there is nobody's promise
            return
        process = self._world.processes[node]
        here = [copy for copy in self.guests.of(node) if copy.phase in HELD]
        vcpus, memory = sum(copy.vcpus for copy in here), sum(copy.memory_mib for copy in here)
        shape = self._world.shape
        if vcpus > shape.vcpus or memory > shape.memory_mib:
            self.broken("I6", f"{process.name} holds {vcpus} vCPUs and {memory} MiB")

    def check_runs_once(self, instance_id: str) -> None:
        awake = self.guests.running(instance_id)
        if len(awake) > 1:
            self.broken("I1", f"{instance_id} runs on {', '.join(f'{c.node}/{c.generation}' for c in awake)}")

    def _committed(self, process: Process) -> None:
        match process.post.role:
            case "clc":
                self._check_records(process)
            case "cc":
                self._check_room(process)

    def _check_records(self, process: Process) -> None:
        """The CLC's rows: states by the graph, addresses once, tokens once, the quota."""
        rows = process.rows("SELECT id, state, account_id, unsettled FROM instances")
        living: Counter[str] = Counter()
        for name, number, account, _ in rows:
            state = State(number)
            before = self._seen.get(name)
            if before is not None and state not in NEXT[before] | {before}:
                self.broken("I4", f"{name} went from {before.title} to {state.title}")
            self._seen[name] = state
            living[account] += state not in {State.TERMINATED, State.SHUTTING_DOWN}
        for account, count in living.items():
            if self._quota and count > self._quota:
                self.broken("I7", f"{account} has {count} instances of {self._quota}")
        double = process.rows(
            "SELECT address, COUNT(*) FROM network_interfaces GROUP BY subnet_id, address HAVING COUNT(*) > 1"
        )
        for address, count in double:
            self.broken("I9", f"{address} is held {count} times")

    def _check_room(self, process: Process) -> None:
        """The zone's rows: no node is promised more than it has."""
        used: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for table in ("placements", "reservations"):
            query = f"SELECT host, vcpus, memory_mib FROM {table} WHERE host >= 0"
            for host, vcpus, memory in process.rows(query):
                used[host][0] += vcpus
                used[host][1] += memory
        shape = self._world.shape
        for host, (vcpus, memory) in used.items():
            if vcpus > shape.vcpus or memory > shape.memory_mib:
                self.broken("I6", f"{process.name} has promised {vcpus} vCPUs, {memory} MiB of h-{host}")

    def saw(self, who: str, instance_id: str, state: str, asked: float) -> None:
        """A client was told this state, in answer to a question of then.

        Who asks before the last answer has come may be told what was true before it.
        """
        now = next(each for each in State if each.title == state)
        before, told = self._told.get(f"{who} {instance_id}", (now, asked))
        if now in LATER[before]:
            self._told[f"{who} {instance_id}"] = now, self._world.loop.now
        elif asked >= told:
            self.broken("I4", f"{who} saw {instance_id} go from {before.title} to {now.title}")

    # From time to time.

    def look(self) -> None:
        """What time alone can break: leases, and guests of hosts that woke."""
        now = self._world.loop.now
        for process in self._world.of_role("nc"):
            node = process.service.nodes.get(process.post.name) if process.up else None
            awake = [
                copy for copy in self.guests.of(process.name) if copy.phase is Phase.RUNNING and not copy.slow
            ]
            if node is None or node.lease.held or not awake or not self.guests.runs(process.name):
                self._unpaused.pop(process.name, None)
            elif now - self._unpaused.setdefault(process.name, now) > LEASE_MARGIN + process.disk.slow * 4:
                self.broken("I19", f"{process.name} runs {awake[0].instance_id} without a lease")
        for process in self._world.serving():
            for node in self._fenced(process):
                for copy in self.guests.of(node):
                    if copy.phase is Phase.RUNNING and self.guests.runs(node):
                        self.broken("I19", f"{copy.instance_id} runs on {node}, which is fenced")
        for instance_id in {copy.instance_id: None for copy in self.guests.every()}:
            self.check_runs_once(instance_id)

    def _fenced(self, process: Process) -> list[str]:
        controller = self._world.controller(process)
        if controller is None or process.life.frozen:
            return []
        rows = controller.ledger.nodes.rows
        return [f"nc-{rows[number].name}" for number in rows if controller.nodes.is_fenced(number)]

    # At rest.

    def unrest(self) -> list[str]:
        """What is still under way, in the rows of every service."""
        found = []
        for name, state, unsettled in self._world.clc.rows("SELECT id, state, unsettled FROM instances"):
            if State(state) not in STEADY or unsettled:
                found.append(f"{name} is {State(state).title}{', unsettled' if unsettled else ''}")
        for process in self._world.serving():
            for saga, state, error in process.rows("SELECT id, state, error FROM saga"):
                if state not in {"done", "undone"}:
                    found.append(f"saga {saga} is {state}: {error}")
            for migration, state in process.rows("SELECT migration_id, state FROM migrations"):
                if state in {"pending", "running"}:
                    found.append(f"migration {migration} is {state}")
            query = "SELECT instance_id FROM placements WHERE phase = 'claimed' AND host >= 0"
            found += [f"room is claimed for {name}" for (name,) in process.rows(query)]
            found += [
                f"room is reserved for {taker}" for (taker,) in process.rows("SELECT taker FROM reservations")
            ]
        for copy in self.guests.every():
            if copy.phase not in {Phase.RUNNING, Phase.STOPPED} or copy.migration_id:
                found.append(f"a copy was left behind: {copy}")
        return found

    def misfits(self) -> list[tuple[str, str]]:
        """What does not fit together yet, by rule: what was asked, what is placed, what runs."""
        found = [("I10" if "is stuck" in what else "I22", what) for what in self.unrest()]
        for look in (self._guests_fit, self._strays, self._room, self._addresses, self._wholes):
            found += look()
        return found

    def at_rest(self) -> None:
        """Everything fits together, or it never will."""
        for rule, what in self.misfits():
            self.broken(rule, what)

    def _guests_fit(self) -> Iterator[tuple[str, str]]:
        placed = self._placements()
        for name, number, host, generation in self._world.clc.rows(
            "SELECT id, state, host_id, generation FROM instances"
        ):
            here = [
                copy
                for copy in self.guests.every()
                if copy.instance_id == name and copy.phase is Phase.RUNNING
            ]
            state = State(number)
            if state is not State.RUNNING:
                if here:
                    yield (
                        ("I3" if state is State.TERMINATED else "I2"),
                        f"{name} is {state.title} and runs: {here}",
                    )
                continue
            where = placed.get(name)
            if where is None or [(copy.node, copy.generation) for copy in here] != [where[:2]]:
                yield "I2", f"{name} should run at {where} and has {here}"
            elif (host, generation) != (where[2], where[1]):
                yield "I2", f"{name} is said to be on {host}/{generation} and is at {where}"

    def _placements(self) -> dict[str, tuple[str, int, str]]:
        """Node, generation and host id of every instance that is placed."""
        found = {}
        for process in self._world.serving():
            names = dict(process.rows("SELECT number, name FROM nodes"))
            query = "SELECT instance_id, host, generation FROM placements WHERE host >= 0"
            for name, host, generation in process.rows(query):
                public = self._world.host_id(process.post.settings["zone"], f"h-{host}")
                found[name] = (f"nc-{names[host]}", generation, public)
        return found

    def _strays(self) -> Iterator[tuple[str, str]]:
        """Nothing is on a node of what is over, or of nobody; and nothing twice."""
        states = {
            name: State(state) for name, state in self._world.clc.rows("SELECT id, state FROM instances")
        }
        for copy in self.guests.every():
            if states.get(copy.instance_id, State.TERMINATED) is State.TERMINATED:
                known = "terminated" if copy.instance_id in states else "nobody's"
                yield "I3", f"{copy.instance_id} is {known} and a copy is on {copy.node}: {copy.phase}"
        for name, count in Counter(copy.instance_id for copy in self.guests.every()).items():
            if count > 1:
                yield (
                    "I11",
                    f"{name} has {count} copies: {[c for c in self.guests.every() if c.instance_id == name]}",
                )

    def _room(self) -> Iterator[tuple[str, str]]:
        """What is held is what is used, on each node."""
        for process in self._world.serving():
            controller = self._world.controller(process)
            if controller is None:
                yield "I22", f"{process.name} does not serve its zone"
                continue
            for number, host in controller.ledger.inventory.hosts.items():
                name = f"nc-{controller.ledger.nodes.rows[number].name}"
                here = [copy for copy in self.guests.of(name) if copy.phase in HELD]
                taken = host.capacity.vcpus - host.free_vcpus
                if taken != sum(copy.vcpus for copy in here):
                    yield "I6", f"{name} has {taken} vCPUs taken by {sorted(host.takers)} and holds {here}"

    def _addresses(self) -> Iterator[tuple[str, str]]:
        """Each instance that is not over has one address, and nobody else has any."""
        clc = self._world.clc
        held = Counter(name for (name,) in clc.rows("SELECT instance_id FROM network_interfaces"))
        wanted = Counter(
            name for name, state in clc.rows("SELECT id, state FROM instances") if state != State.TERMINATED
        )
        if held != wanted:
            yield "I9", f"addresses held by nobody {dict(held - wanted)}, missing {dict(wanted - held)}"

    def _wholes(self) -> Iterator[tuple[str, str]]:
        """What one transaction writes is there whole or not at all, and one token made one reservation."""
        sizes: dict[str, tuple[int, int]] = {}
        tokens: dict[tuple[str, str], set[str]] = defaultdict(set)
        for reservation, account, details in self._world.clc.rows(
            "SELECT reservation_id, account_id, details FROM instances"
        ):
            about = _json(details)
            count, _ = sizes.get(reservation, (0, 0))
            sizes[reservation] = (count + 1, about.get("size", 1))
            if token := about.get("client_token"):
                tokens[account, token].add(reservation)
        for reservation, (count, size) in sizes.items():
            if count != size:
                yield "I13", f"{reservation} has {count} of {size} instances"
        for (_, token), made in tokens.items():
            if len(made) > 1:
                yield "I5", f"token {token} made {sorted(made)}"


def _json(details: Any) -> dict[str, Any]:
    return dict(msgspec.json.decode(details))
