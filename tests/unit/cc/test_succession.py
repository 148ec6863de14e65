"""Several processes on one zone's database: one is its controller, the others stand by."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.cc.app import ClusterController
from mallee.cc.config import CcConfig
from mallee.cc.db import METADATA, SAGAS, epochs
from mallee.cc.succession import Candidate, Succession
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity, MemoryTransport
from mallee.kernel.saga.record import Record
from tests.unit.cc.a_zone import AZone

SILENCE, HOLD, LEASE = 3.0, 20.0, 10.0


class Line:
    """Two processes, `a` and `b`, on one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = ManualClock()
        self.transport = MemoryTransport(self.clock)
        self.databases: list[Database] = []
        self.candidates: list[Candidate] = []

    async def join(self, holder: str) -> Candidate:
        db = await Database.open(self.url, metadata=METADATA, durable=False)
        self.databases.append(db)
        config = CcConfig(zone="z", database="shared")

        def make() -> ClusterController:
            me = Identity("cloud", "cc", "z")
            return ClusterController(
                config,
                db,
                self.transport,
                me,
                listen=f"{holder}:{len(self.databases)}",
                clock=self.clock,
                entropy=SeededEntropy(1),
                holder=holder,
            )

        line = Succession(db, "z", holder, self.clock, silence=SILENCE)
        candidate = Candidate(line, make, self.clock)
        self.candidates.append(candidate)
        await candidate.start()
        return candidate

    async def close(self) -> None:
        for candidate in self.candidates:
            await candidate.stop()
        for db in self.databases:
            await db.close()


class Unreachable:
    """A database that cannot be."""

    async def transact(self, _work: object) -> None:
        raise Fault(Kind.UNAVAILABLE, "It does not answer.")


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    made = Line(f"sqlite:///{tmp_path}/cc.db")
    yield made
    await made.close()


def hang(candidate: Candidate) -> ClusterController:
    """Its process stands still; the controller that does not know."""
    controller = candidate.controller
    assert controller is not None
    for task in controller._tasks:
        task.cancel()
    return controller


async def test_one_serves_and_the_other_stands_by_as_long_as_it_beats(line: Line) -> None:
    first, second = await line.join("a"), await line.join("b")
    await line.clock.advance(20 * SILENCE)
    assert first.controller is not None
    assert second.controller is None


async def test_who_stands_by_takes_over_in_silence_and_the_other_stands_by_when_it_wakes(line: Line) -> None:
    first, second = await line.join("a"), await line.join("b")
    stale = hang(first)
    await line.clock.advance(SILENCE - 1)
    assert second.controller is None
    await line.clock.advance(2)
    assert second.controller is not None
    with pytest.raises(Fault) as refused:
        await stale.ledger.beat()
    assert refused.value.kind is Kind.STALE
    await stale._beat()
    await line.clock.advance(1)
    assert first.controller is None
    assert second.controller is not None


async def test_it_stands_by_whatever_went_wrong_once(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await line.join("a"), await line.join("b")
    hang(first)
    with monkeypatch.context() as patch:
        patch.setattr(ClusterController, "start", broken)
        await line.clock.advance(2 * SILENCE)
        assert second.controller is None
    await line.clock.advance(SILENCE)
    assert second.controller is not None


async def broken(_controller: ClusterController) -> None:
    raise LookupError("a mistake of ours")


async def test_a_process_follows_itself_at_once(line: Line) -> None:
    first = await line.join("a")
    hang(first)
    again = await line.join("a")
    assert again.controller is not None


async def test_a_controller_that_was_followed_runs_no_sagas(line: Line) -> None:
    first, _ = await line.join("a"), await line.join("b")
    stale = hang(first)
    await line.clock.advance(SILENCE + 1)
    record = Record(SAGAS, stale.ledger.check)
    with pytest.raises(Fault) as refused:
        await stale.ledger.db.transact(lambda tx: record.claim(tx, "m-1", "cc-z", (), 0))
    assert refused.value.code == epochs.SUPERSEDED
    with pytest.raises(Fault):
        await stale.ledger.db.transact(lambda tx: record.beat(tx, "cc-z"))


async def test_a_database_of_another_zone_is_refused(line: Line) -> None:
    await line.join("a")
    db = line.databases[0]
    with pytest.raises(Fault) as refused:
        await db.transact(lambda tx: epochs.take_over(tx, "y", "b"))
    assert refused.value.code == "another-zones-database"


async def test_leases_are_not_renewed_for_longer_than_a_successor_waits(tmp_path: Path) -> None:
    """Unheard by its database, a controller must not keep a node awake that another one counts as silent."""
    config = CcConfig(zone="z", database="shared", lease_seconds=LEASE, hold_seconds=HOLD)
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db", config=config).start()
    node = await zone.join("n")
    await zone.run("i-1")
    zone.cc.ledger.journal.db = Unreachable()  # type: ignore[assignment]
    assert node.line is not None
    node.line.take()
    await zone.clock.advance(HOLD - 1)
    await zone.renew(node)
    assert node.line.take()[2] == 1
    await zone.clock.advance(2)
    await zone.renew(node)
    assert node.line.take()[2] is None
    await zone.stop()


async def test_a_successor_gives_every_node_the_time_for_which_its_predecessor_may_have_held_it(
    tmp_path: Path,
) -> None:
    config = CcConfig(zone="z", database="shared", lease_seconds=LEASE, hold_seconds=HOLD)
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db", config=config).start()
    await zone.join("n")
    await zone.run("i-1")
    await zone.stop()
    zone.holder = "another"
    await zone.start()
    await zone.clock.advance(HOLD + LEASE - 1)
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "silent"
    await zone.clock.advance(2)
    assert zone.cc.nodes.state(zone.cc.ledger.inventory.hosts[0]) == "lost"
    assert not zone.cc.nodes.is_fenced(0)
    await zone.clock.advance(LEASE)
    assert zone.cc.nodes.is_fenced(0)
    await zone.stop()


async def test_a_node_that_was_heard_of_is_given_that_time_as_well(tmp_path: Path) -> None:
    """Its next line may be to the predecessor again, which grants on: found by the model of the lease."""
    config = CcConfig(zone="z", database="shared", lease_seconds=LEASE, hold_seconds=HOLD)
    zone = await AZone(f"sqlite:///{tmp_path}/cc.db", config=config).start()
    node = await zone.join("n")
    await zone.stop()
    zone.holder = "another"
    await zone.start()
    await zone.dial(node)
    await zone.renew(node)
    await zone.clock.advance(HOLD + LEASE - 1)
    assert not zone.cc.nodes.is_fenced(0)
    await zone.clock.advance(LEASE + 2)
    assert zone.cc.nodes.is_fenced(0)
    await zone.stop()
