"""What is written down of a saga: two tables in the service's own database, and their queries.

Every write of a running saga carries the epoch its engine has claimed; an engine that was taken
for dead writes nothing any more. A third table holds a beat per engine: others see it stand
still by their own clock, so no two machines' clocks are ever compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.saga import ENDED, Event, State

_ALIVE = tuple(state.value for state in State if state not in ENDED)
_ACTIVE = (State.RUNNING.value, State.UNWINDING.value)


class SagaTables(NamedTuple):
    saga: sa.Table
    event: sa.Table
    engine: sa.Table


def saga_tables(metadata: sa.MetaData) -> SagaTables:
    """Declare the tables in a service's metadata; its migrations create them."""
    saga = sa.Table(
        "saga",
        metadata,
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "input")),
        *(sa.Column(name, sa.Text) for name in ("subject", "owner", "error")),
        *(
            sa.Column(name, sa.Integer, nullable=False, default=0)
            for name in ("version", "epoch", "failures")
        ),
        sa.Column("state", sa.Text, nullable=False, default=State.RUNNING.value),
        sa.Column("cancelled", sa.Boolean, nullable=False, default=False),
        # Milliseconds since 1970: for people, and for `forget`.
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created", "updated")),
    )
    alive = saga.c.state.in_([sa.literal_column(f"'{state}'") for state in _ALIVE])
    sa.Index("saga_alive", saga.c.id, sqlite_where=alive, postgresql_where=alive)
    sa.Index("saga_subject", saga.c.subject, unique=True, sqlite_where=alive, postgresql_where=alive)
    sa.Index("saga_ended", saga.c.state, saga.c.updated, saga.c.id)
    event = sa.Table(
        "saga_event",
        metadata,
        sa.Column("saga", sa.ForeignKey("saga.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("output", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    engine = sa.Table(
        "saga_engine",
        metadata,
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    return SagaTables(saga, event, engine)


class Fenced(Exception):  # noqa: N818 - no error: somebody else goes on
    """Another engine has claimed this saga, or it has ended."""


class Entry(NamedTuple):
    step: str
    event: Event
    output: str | None = None


class Claimed(NamedTuple):
    """A saga as its engine found it, and the right to write to it."""

    id: str
    kind: str
    version: int
    state: State
    epoch: int
    cancelled: bool
    input: Any
    entries: list[Entry]


Fence = Callable[[Tx], None]


class Record:
    """The queries, built once. Functions that take a `tx` run inside its transaction.

    Args:
        fence: raises, inside the transaction, when this process may run no sagas any more.
    """

    def __init__(self, tables: SagaTables, fence: Fence = lambda _tx: None) -> None:
        self._fence = fence
        self._saga, self._event, self._engine = tables
        saga, event = self._saga.c, self._event.c
        mine = sa.and_(
            saga.id == sa.bindparam("the_id"), saga.epoch == sa.bindparam("mine"), saga.state.in_(_ACTIVE)
        )
        self._enqueue = self._saga.insert()
        self._write = self._saga.update().where(mine).returning(saga.cancelled)
        self._write_failure = self._write.values(failures=saga.failures + 1)
        self._append = self._event.insert()
        self._one = sa.select(self._saga).where(saga.id == sa.bindparam("the_id"))
        self._of_subject = sa.select(saga.id, saga.kind).where(
            saga.subject == sa.bindparam("subject"), saga.state.in_(_ALIVE)
        )
        self._events = (
            sa.select(event.step, event.event, event.output)
            .where(event.saga == sa.bindparam("the_id"))
            .order_by(event.seq)
        )
        self._active = (
            sa.select(saga.id, saga.owner, saga.cancelled).where(saga.state.in_(_ACTIVE)).order_by(saga.id)
        )

        self._unended = sa.select(saga.id, saga.state).where(saga.state.in_(_ALIVE))

    def enqueue(self, tx: Tx, row: Mapping[str, Any]) -> bool:
        """Write a new saga; False if it was there. Fault CONFLICT if another holds the subject."""
        there = tx.execute(self._one, {"the_id": row["id"]}).first()
        if there is not None:
            if there.kind != row["kind"]:
                raise Fault(
                    Kind.CONFLICT,
                    f"A {row['kind']} cannot begin as {row['id']}.",
                    why=f"That is the id of a {there.kind}.",
                    fix="Take another id.",
                    code="saga-id-taken",
                )
            return False
        holder = row["subject"] and tx.execute(self._of_subject, {"subject": row["subject"]}).first()
        if holder:
            raise Fault(
                Kind.CONFLICT,
                f"A {row['kind']} of {row['subject']} cannot begin.",
                why=f"A {holder.kind} of it is in progress: {holder.id}.",
                fix="Wait for its end, or cancel it.",
                code="saga-in-progress",
            )
        tx.execute(self._enqueue, row)
        return True

    def claim(self, tx: Tx, saga: str, owner: str, lapsed: Iterable[str], now: int) -> Claimed:
        """Take an unowned saga, one of `owner`'s own, or one whose owner has `lapsed`."""
        self._fence(tx)
        row = tx.execute(self._one, {"the_id": saga}).first()
        if row is None or row.state not in _ACTIVE or row.owner not in {None, owner, *lapsed}:
            raise Fenced(saga)
        epoch = row.epoch + 1
        changes = {"epoch": epoch, "owner": owner, "updated": now}
        tx.execute(self._write, {"the_id": saga, "mine": row.epoch, **changes}).one()
        events = tx.execute(self._events, {"the_id": saga})
        entries = [Entry(step, Event(event), output) for step, event, output in events]
        content = msgspec.json.decode(row.input)
        return Claimed(saga, row.kind, row.version, State(row.state), epoch, row.cancelled, content, entries)

    def write(
        self,
        tx: Tx,
        saga: str,
        epoch: int,
        seq: int,
        entries: Iterable[Entry],
        changes: Mapping[str, Any],
        *,
        failed: bool,
    ) -> bool:
        """Append `entries` from number `seq` and change the row; whether a cancel is wanted."""
        self._fence(tx)
        write = self._write_failure if failed else self._write
        row = tx.execute(write, {"the_id": saga, "mine": epoch, **changes}).first()
        if row is None:
            raise Fenced(saga)
        same = {"saga": saga, "at": changes["updated"]}
        rows = [{**same, "seq": number, **entry._asdict()} for number, entry in enumerate(entries, seq)]
        if rows:
            tx.execute(self._append, rows)
        return bool(row.cancelled)

    def state(self, tx: Tx, saga: str) -> tuple[State, str | None] | None:
        row = tx.execute(self._one, {"the_id": saga}).first()
        return None if row is None else (State(row.state), row.error)

    def want_cancel(self, tx: Tx, saga: str) -> bool:
        """Write the wish down; False if there is nothing left to cancel."""
        wish = self._saga.update().where(self._saga.c.id == saga, self._saga.c.state.in_(_ACTIVE))
        return tx.execute(wish.values(cancelled=True)).rowcount == 1

    def unstick(self, tx: Tx, saga: str) -> bool:
        """Let a stuck saga go on where it stood, after its cause was mended."""
        undoing = any(
            event == Event.UNDO_STARTED for _, event, _ in tx.execute(self._events, {"the_id": saga})
        )
        state = State.UNWINDING if undoing else State.RUNNING
        stuck = self._saga.update().where(self._saga.c.id == saga, self._saga.c.state == State.STUCK.value)
        return tx.execute(stuck.values(state=state.value)).rowcount == 1

    def beat(self, tx: Tx, owner: str) -> dict[str, int]:
        """Show that `owner` lives; every engine's beat."""
        self._fence(tx)
        mine = self._engine.update().where(self._engine.c.owner == owner)
        if tx.execute(mine.values(beat=self._engine.c.beat + 1)).rowcount == 0:
            tx.execute(self._engine.insert(), {"owner": owner, "beat": 1})
        return {row.owner: row.beat for row in tx.execute(sa.select(self._engine))}

    def active(self, tx: Tx) -> list[tuple[str, str | None, bool]]:
        """Id, owner and wish to cancel of every saga that is to be run."""
        return [(row.id, row.owner, row.cancelled) for row in tx.execute(self._active)]

    def unended(self, tx: Tx) -> dict[str, str]:
        """The state of every saga that has not ended, stuck ones included, by id."""
        return {row.id: row.state for row in tx.execute(self._unended)}

    def forget(self, tx: Tx, ended_before: int, limit: int = 1000) -> int:
        """Remove sagas that ended before that millisecond, with their events; how many."""
        old = (
            sa.select(self._saga.c.id)
            .where(
                self._saga.c.state.in_([state.value for state in ENDED]), self._saga.c.updated < ended_before
            )
            .limit(limit)
        )
        return tx.execute(self._saga.delete().where(self._saga.c.id.in_(old))).rowcount
