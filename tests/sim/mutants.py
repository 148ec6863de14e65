"""Faults planted on purpose: each breaks one rule in the real code, in the simulation only.

A rule that no planted fault breaks is a rule that nobody checks. `python -m tests.sim --mutants` counts how
many seeds each one lives; `tests/sim/test_mutants.py` holds that each dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from mallee.aws.errors import UnauthorizedOperation
from mallee.cc.convergence import Convergence, ended
from mallee.cc.db import epochs
from mallee.cc.journal import Book, Journal
from mallee.cc.ledger import Ledger
from mallee.cc.migration import live
from mallee.cc.migration.desk import Desk
from mallee.cc.nodes import Nodes
from mallee.cc.placing import Placing
from mallee.cc.scheduler.inventory import Inventory
from mallee.clc import facts, keys, wishes
from mallee.clc.api.ec2.instances import launch_rows, power
from mallee.clc.call import Call
from mallee.clc.clusters import ClusterClient
from mallee.clc.db import addresses, instances, interfaces, node_tokens, tags, tokens
from mallee.clc.instance import State
from mallee.kernel.db.sqlite import Sqlite
from mallee.kernel.saga.engine import Engine
from mallee.nc import guests as nc_guests
from mallee.nc.db.fakes import FakeStore
from mallee.nc.db.tombstones import Graveyard
from mallee.nc.lease import Lease
from mallee.nc.migration import Migrations
from mallee.walrus.store import versioning
from mallee.walrus.store.blobs.files import FileIncoming
from tests.sim.loop import LIFE
from tests.sim.runner import Result, each
from tests.sim.story import simulate

Plant = Callable[[], None]
MUTANTS: dict[str, Plant] = {}


def mutant(plant: Plant) -> Plant:
    MUTANTS[plant.__name__] = plant
    return plant


def unfound(plant: Plant) -> Plant:
    """A fault that no seed has found since its product could heal it, or since users do so much else: it proves nothing."""
    return plant


SETTLED = 3.0  # seconds from the beginning after which each zone has one controller
PATIENCE = 500  # seeds within which each must be found


def lifetime(name: str, seeds: Iterable[object], jobs: int) -> tuple[int, Result | None]:
    """How many seeds a planted fault lives, and what ended it; None if nothing did."""

    def run(seed: object) -> Result:
        MUTANTS[name]()
        return simulate(seed)

    count = 0
    for result in each(seeds, run, jobs):
        count += 1
        if result.violations:
            return count, result
    return count, None


def put(owner: Any, name: str, replacement: Any) -> Any:
    """The real one, with this in its place."""
    real = getattr(owner, name)
    setattr(owner, name, replacement)
    return real


async def _nothing(*_: Any, **__: Any) -> None:
    """Does what it should not: nothing."""


# The node.


@mutant
def no_generation_check() -> None:
    """A node forgets what has ended on it."""
    put(Graveyard, "ended", lambda *_: 0)


@mutant
def stale_orders_are_obeyed() -> None:
    real = nc_guests.Guests._take

    def take(self: Any, order: Any) -> None:
        if (one := self._instances.get(order.key.instance_id)) is not None:
            one.order = None
        real(self, order)

    put(nc_guests.Guests, "_take", take)
    put(Graveyard, "ended", lambda *_: 0)
    put(Graveyard, "end", _nothing)


@mutant
def source_resumes_by_itself() -> None:
    """After a while of silence the source of a migration takes its guest for abandoned."""
    real = Migrations.stop_and_copy

    async def stop_and_copy(self: Any, key: Any, migration_id: str) -> Any:
        async def wake() -> None:
            await self._guests._clock.sleep(1.0)
            with suppress(Exception):
                await self._driver.resume(key)

        handed = await real(self, key, migration_id)
        self._waking = asyncio.ensure_future(wake())
        return handed

    put(Migrations, "stop_and_copy", stop_and_copy)


@mutant
def the_lease_never_lapses() -> None:
    put(Lease, "held", property(lambda _: True))
    put(Lease, "watch", lambda *_: asyncio.Event().wait())


@mutant
def guests_wake_without_new_orders() -> None:
    """After a lapse a node lets its guests run on when a while has passed."""
    real = nc_guests.Guests.lapse

    def lapse(self: Any) -> None:
        async def wake() -> None:
            await self._clock.sleep(3.0)
            self._look_ahead(held=True, confirmed=True)

        real(self)
        self._waking = asyncio.ensure_future(wake())

    put(nc_guests.Guests, "lapse", lapse)


@unfound
def a_restarted_node_forgets_its_guests() -> None:
    async def load(_: Any) -> dict[str, Any]:
        return {}

    put(FakeStore, "load", load)


@mutant
def a_late_abandon_is_lost() -> None:
    """The way back of stage 1 leaves the copy where it is."""
    put(Migrations, "_drop_copy", _nothing)


@mutant
def facts_are_not_said_again() -> None:
    """A node that attends anew says nothing of what it has."""
    put(nc_guests.Guests, "inventory", lambda _self, _most: iter(()))


# The cluster controller.


@mutant
def sagas_are_not_taken_up_again() -> None:
    put(Engine, "_look", _nothing)


@mutant
def room_is_free_before_the_guest_has_ended() -> None:
    def end(self: Any, row: Any) -> None:
        self._wants_out(row.instance_id)
        if row.host >= 0 and not row.claimed:
            self._send(row.host, convergence_order(row))
        self._put(ended(row, was_running=row.host >= 0 and not row.claimed))

    from mallee.cc.convergence import order_of as convergence_order

    put(Convergence, "_end", end)


@mutant
def nodes_are_fenced_too_soon() -> None:
    put(Nodes, "_fence_after", property(lambda _: 0.0))
    real = Nodes.sweep

    async def sweep(self: Any) -> None:
        self._config_real = getattr(self, "_config_real", self._config)
        now = self._ledger.clock.boot()
        for number, renewed in self._renewed.items():
            if now - renewed > 3.5:
                self._fenced.add(number)
                self.convergence.give_up(number)
        await real(self)

    put(Nodes, "sweep", sweep)


@mutant
def decisions_are_told_before_they_are_durable() -> None:
    real = Journal.commit

    async def commit(self: Any, also: Any = None) -> None:
        self._late = asyncio.ensure_future(_quietly(real(self, also)))

    put(Journal, "commit", commit)


async def _quietly(work: Any) -> None:
    with suppress(Exception):
        await work


@mutant
def failed_decisions_are_kept_in_memory() -> None:
    put(Book, "undo", lambda _: None)


@mutant
def claims_never_lapse() -> None:
    put(Placing, "sweep", _nothing)
    put(Placing, "release", _nothing)


@mutant
def nodes_are_overbooked() -> None:
    from mallee.domain.guest import Resources

    real = Inventory.take

    def take(self: Any, taker: str, host: Any, asked: Any) -> None:
        real(self, taker, host, Resources(asked.vcpus // 2, asked.memory_mib // 2))

    put(Inventory, "take", take)


@mutant
def reserved_room_is_not_booked() -> None:
    put(Ledger, "_reservation_changed", lambda *_: None)


@mutant
def the_copy_runs_before_the_commit() -> None:
    real = live.Commitment.do

    async def do(self: Any, m: Any) -> None:
        with suppress(Exception):
            await m.source.resume(m.guest)
        with suppress(Exception):
            await m.destination.activate(m.copy)
        await real(self, m)

    put(live.Commitment, "do", do)


@mutant
def the_source_is_not_discarded() -> None:
    put(live.Activation, "_forget_at_source", _nothing)
    put(Convergence, "_superseded", lambda *_: None)


@unfound
def the_commit_compares_nothing() -> None:
    """A migration moves the record though a later wish has changed it."""

    def move(self: Any, migration: Any) -> None:
        row = self.ledger.placements.rows[migration.instance_id]
        self.ledger.reservations.drop(migration.incoming)
        there = row._replace(
            host=migration.destination, generation=migration.destination_generation, power="running"
        )
        self.ledger.placements.put(row.instance_id, there)

    put(Desk, "move", move)
    put(Desk, "wants_out", lambda *_: None)


@mutant
def undo_leaves_the_reservation() -> None:
    async def undo(_: Any, m: Any, _done: Any) -> None:
        await m.drop_copy()

    put(live.Reservation, "undo", undo)


@mutant
def undo_fails_the_second_time() -> None:
    real = live.Reservation.undo

    async def undo(self: Any, m: Any, done: Any) -> None:
        assert m.migration.incoming in m.world.ledger.reservations.rows, "undone already"
        await real(self, m, done)

    put(live.Reservation, "undo", undo)


# The cloud controller.


@mutant
def wishes_are_told_once() -> None:
    """What was lost on the way is never said again."""
    put(ClusterClient, "_tell_all", _nothing)


@mutant
def late_facts_count() -> None:
    real = facts.absorb

    def absorb(row: Any, fact: Any, now_ms: int) -> Any:
        fact.revision = row.revision
        return real(row, fact, now_ms)

    put(facts, "absorb", absorb)


@mutant
def tokens_are_not_kept() -> None:
    async def change(self: Any, work: Any, _type: Any) -> Any:
        return await self.cloud.db.transact(work)

    put(Call, "change", change)


@mutant
def the_quota_is_not_counted() -> None:
    put(launch_rows, "_check_limit", lambda *_: None)


@mutant
def addresses_are_given_twice() -> None:
    real = addresses.take

    def take(tx: Any, subnet_id: str, count: int, cursor: int) -> list[int]:
        taken = real(tx, subnet_id, count, cursor)
        addresses.give_back(tx, subnet_id, taken)
        return taken

    put(addresses, "take", take)


@mutant
def ended_instances_keep_their_address() -> None:
    put(interfaces, "release", lambda *_: None)


@mutant
def what_is_ending_may_be_started() -> None:
    def check_startable(row: Any) -> bool:
        return row.state not in {State.PENDING, State.RUNNING}

    put(wishes, "check_startable", check_startable)
    put(wishes, "advance", lambda _, then: then)


@mutant
def the_owner_is_asked_after_existence() -> None:
    real = instances.mine

    def mine(tx: Any, account: str, ids: Any) -> Any:
        if any(row.account_id != account for row in instances.find(tx, list(ids))):
            raise UnauthorizedOperation("You are not authorized to perform this operation.")
        return real(tx, account, ids)

    put(instances, "mine", mine)
    put(power.instances, "mine", mine)


@mutant
def tags_are_kept_in_memory() -> None:
    put(tags, "put", lambda *_: None)


@mutant
def the_last_of_a_launch_is_forgotten() -> None:
    real = instances.add
    put(instances, "add", lambda tx, rows: real(tx, rows[:-1] if len(rows) > 1 else rows))


@mutant
def odd_input_is_a_mistake_of_ours() -> None:
    real = instances.mine

    def mine(tx: Any, account: str, ids: Any) -> Any:
        found = real(tx, account, ids)
        return [{row.id: row for row in found if row.state != State.TERMINATED}[row.id] for row in found]

    put(instances, "mine", mine)
    put(power.instances, "mine", mine)


# Two controllers.


@mutant
def the_old_controller_is_not_fenced() -> None:
    """Whoever was the zone's controller goes on as if nobody had taken it over; but at the very beginning."""

    def lenient(real: Any) -> Any:
        def check(tx: Any, zone: str, epoch: int) -> None:
            if asyncio.get_running_loop().time() < SETTLED:
                real(tx, zone, epoch)

        return check

    for name in ("hold", "check"):
        put(epochs, name, lenient(getattr(epochs, name)))


@mutant
def a_token_is_known_to_one_controller() -> None:
    """It is kept by the process that used it, and not beside the work."""
    kept: dict[tuple[str, Any], Any] = {}
    put(tokens, "find", lambda _, key: kept.get((LIFE.get().name, key)))

    def remember(_tx: Any, key: Any, answered: Any, *, expires_ms: int) -> None:
        _ = expires_ms
        kept[LIFE.get().name, key] = answered

    put(tokens, "remember", remember)


@mutant
def keys_are_remembered_for_ever() -> None:
    """What another cloud controller has taken away is good here."""
    put(keys, "KEPT_SECONDS", 1e9)


@mutant
def a_spent_token_takes_machines_in() -> None:
    put(node_tokens, "spend", lambda *_: None)


# The object store.


@mutant
def a_put_is_answered_before_its_commit() -> None:
    real = Sqlite._run

    async def run(self: Any, group: Any, ran: Any) -> None:
        await real(self, group, ran)
        if "walrus" in str(self.url.database):
            self._answer(ran)
            ran.clear()

    put(Sqlite, "_run", run)


@mutant
def bytes_are_named_before_they_are_synced() -> None:
    put(FileIncoming, "_sync", FileIncoming._close)


@mutant
def conditions_are_not_looked_at() -> None:
    put(versioning, "admit", lambda *_, **__: None)


@mutant
def what_is_deleted_stays() -> None:
    put(versioning, "delete", lambda change, _key, *_: versioning.Deleted())


# The disk.


@mutant
def commits_are_answered_before_they_are_made() -> None:
    real = Sqlite._run

    async def run(self: Any, group: Any, ran: Any) -> None:
        await real(self, group, ran)
        self._answer(ran)
        ran.clear()

    put(Sqlite, "_run", run)
