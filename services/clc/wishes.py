"""What a wish does to an instance's row: start, stop, reboot, terminate.

Each is a function from row to row, so a handler, a guest that ends by itself and a failed start say
the same thing in the same way. A wish raises the revision: what answers an older one is history.
"""

from __future__ import annotations

import msgspec

from mallee.clc.db.instances import Details, InstanceRow, encode
from mallee.clc.errors import IncorrectInstanceState
from mallee.clc.instance import USER_SHUTDOWN, Operation, Reason, State, advance
from mallee.domain.guest import Power


def enter(row: InstanceRow, state: State, now_ms: int) -> InstanceRow:
    """The row in another state, since now."""
    advance(State(row.state), state)
    if row.state == state:
        return row
    return row._replace(state=int(state), changed_ms=now_ms, version=row.version + 1)


def because(row: InstanceRow, reason: Reason, now_ms: int) -> InstanceRow:
    """The row with the reason why it is leaving or has left its state."""
    return row._replace(cause_code=reason.code, cause_message=reason.message[:512], cause_ms=now_ms)


def wish(row: InstanceRow, power: Power, operation: Operation) -> InstanceRow:
    """The row with a new wish, to be told to the cluster."""
    return row._replace(
        power=power.value,
        operation=operation.value,
        revision=row.revision + 1,
        unsettled=True,
        force=False,
        version=row.version + 1,
    )


def terminate(row: InstanceRow, now_ms: int, reason: Reason = USER_SHUTDOWN) -> InstanceRow:
    """Wins over everything; an instance that is ending already goes on ending."""
    if row.state in {State.SHUTTING_DOWN, State.TERMINATED}:
        return row
    wished = wish(enter(row, State.SHUTTING_DOWN, now_ms), Power.TERMINATED, Operation.TERMINATE)
    return because(wished, reason, now_ms)


def stop(
    row: InstanceRow, now_ms: int, *, force: bool = False, reason: Reason = USER_SHUTDOWN
) -> InstanceRow:
    """Wins over a start; force may come later, for a guest that does not obey.

    Raises:
        IncorrectInstanceState: the instance is ending.
    """
    if row.state in {State.SHUTTING_DOWN, State.TERMINATED}:
        raise _not_from(row, "stopped")
    if row.state == State.STOPPED or (row.state == State.STOPPING and (row.force or not force)):
        return row
    wished = wish(enter(row, State.STOPPING, now_ms), Power.STOPPED, Operation.STOP)
    return because(wished, reason, now_ms)._replace(force=force)


def check_startable(row: InstanceRow) -> bool:
    """Whether a start has something to do.

    Raises:
        IncorrectInstanceState: the instance is on its way out or down.
    """
    if row.state in {State.PENDING, State.RUNNING}:
        return False
    if row.state != State.STOPPED:
        raise _not_from(row, "started")
    return True


def start(row: InstanceRow, now_ms: int, host_id: str, generation: int) -> InstanceRow:
    """Run again, on the claim that was just made."""
    wished = wish(enter(row, State.PENDING, now_ms), Power.RUNNING, Operation.START)
    return because(wished, Reason(), now_ms)._replace(
        host_id=host_id, generation=generation, reachable=True, launched_ms=now_ms
    )


def reboot(row: InstanceRow) -> InstanceRow:
    """One reboot more than were asked for before.

    Raises:
        IncorrectInstanceState: there is no running guest.
    """
    if row.state != State.RUNNING:
        raise _not_from(row, "rebooted")
    return wish(row, Power.RUNNING, Operation.REBOOT)._replace(reboots=row.reboots + 1)


def describe(row: InstanceRow, details: Details) -> InstanceRow:
    """The row with another description of its guest, which one that runs gets without a start."""
    if row.state in {State.PENDING, State.RUNNING}:
        under_way = Operation(row.operation) if row.operation else Operation.DESCRIBE
        row = wish(row, Power.RUNNING, under_way)
        details = msgspec.structs.replace(details, description=row.revision)
    return row._replace(version=row.version + 1, details=encode(details))


def _not_from(row: InstanceRow, verb: str) -> IncorrectInstanceState:
    return IncorrectInstanceState(f"The instance '{row.id}' is not in a state from which it can be {verb}.")
