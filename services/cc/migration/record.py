"""A migration as everybody sees it: live in memory, written at the ends of its stages."""

from __future__ import annotations

import msgspec

from mallee.cc.db.transfers import OPEN, Transfer
from mallee.cc.peers import Progress
from mallee.domain.guest import Cause, Moment
from mallee.domain.migration import Limits, Round, Stage


class Asked(msgspec.Struct, frozen=True):
    """What the caller wanted. Hosts by number; no destinations means any."""

    migration_id: str
    instance_id: str
    mode: str = "live"
    destinations: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()
    limits: Limits = msgspec.field(default_factory=Limits)


class Migration(msgspec.Struct):
    """One migration. `generation` is of the copy on the source, `destination_generation` of the one to be."""

    asked: Asked
    source: int
    generation: int
    started_ms: int
    destination: int = -1
    destination_generation: int = 0
    state: str = "pending"
    stage: Stage = Stage.PRE_MIGRATION
    ended_ms: int = 0
    rounds: list[Round] = []
    memory_bytes: int = 0
    bytes_sent: int = 0
    bytes_remaining: int = 0
    expected_downtime_ms: float = 0.0
    downtime_ms: float = 0.0
    throttle_percent: int = 0
    cause: Cause | None = None
    stages: list[Moment] = []
    stop_reason: str = ""
    force: bool = False

    @property
    def id(self) -> str:
        return self.asked.migration_id

    @property
    def instance_id(self) -> str:
        return self.asked.instance_id

    @property
    def open(self) -> bool:
        """Waits or runs."""
        return self.state in OPEN

    @property
    def incoming(self) -> str:
        """The name under which the destination's capacity is booked until the commit point."""
        return f"incoming:{self.id}"

    @property
    def outgoing(self) -> str:
        """The name under which the source's capacity stays booked from the commit point to its discard."""
        return f"outgoing:{self.id}"

    def enter(self, stage: Stage, now_ms: int) -> None:
        """Begin a stage; a step that is run again begins it once."""
        self.stage = stage
        if all(moment.name != stage.title for moment in self.stages):
            self.stages.append(Moment(stage.title, now_ms))

    def saw(self, progress: Progress) -> None:
        """Take in a round; the same number again replaces it, as after a restart of the copying.

        The last word has a reason and may have no round, so no number.
        """
        self.stop_reason = progress.stop_reason
        if progress.round.number:
            self.rounds = [r for r in self.rounds if r.number < progress.round.number]
            self.rounds.append(progress.round)
            self.bytes_sent = sum(r.bytes_sent for r in self.rounds)
            self.memory_bytes = progress.memory_bytes or self.memory_bytes
            self.bytes_remaining = progress.bytes_remaining
            self.expected_downtime_ms = progress.expected_downtime_ms
            self.throttle_percent = progress.round.throttle_percent

    def row(self) -> Transfer:
        """The migration as it is written."""
        return Transfer(
            self.id,
            self.instance_id,
            self.source,
            self.destination,
            self.state,
            int(self.stage),
            self.started_ms,
            msgspec.json.encode(self).decode(),
        )


def read(row: Transfer) -> Migration:
    """The migration that was written."""
    return msgspec.json.decode(row.doc, type=Migration)
