"""Every action of the API can be sent by the simulation's users, but for those that are named here with their reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mallee.clc.app import tables
from tests.sim import tenants, upkeep, users, workload
from tests.sim.deeds import DEEDS
from tests.sim.test_simulation import simulated

# What the simulation does not send, and why. A word may end with *: a family.
NOT_SENT: dict[str, str] = {}


def sent() -> set[str]:
    """The words in the users' code that are actions."""
    words: set[str] = set()
    for module in (workload, tenants, upkeep, users):
        tree = ast.parse(Path(module.__file__ or "").read_text())
        words |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    # `User.act` and `protect` put these together from a verb.
    return words | {f"{verb.title()}Instances" for verb in ("terminate", "stop", "start", "reboot")}


def excused(action: str) -> bool:
    return any(action == name or (name.endswith("*") and action.startswith(name[:-1])) for name in NOT_SENT)


def test_every_action_is_sent_or_has_a_reason():
    actions = {action for table in tables().values() for action in table.handlers}
    missing = sorted(action for action in actions - sent() if not excused(action))
    assert missing == [], "write what users do with these, in tests/sim/upkeep.py or beside it"


def test_no_reason_is_out_of_date():
    actions = {action for table in tables().values() for action in table.handlers}
    unused = [
        name
        for name in NOT_SENT
        if not any(action == name or action.startswith(name.rstrip("*")) for action in actions)
    ]
    assert unused == []
    assert [name for name in NOT_SENT if name in sent()] == []


def test_races_that_are_told_of_are_there():
    """What the reliability document names."""
    assert DEEDS.keys() >= {
        *("one_token_often", "one_token_two_hundred_times", "one_token_for_two_things"),
        *("terminate_while_launching", "everything_at_once", "more_than_there_is_room_for"),
        *("migrate_twice_at_once", "end_it_while_it_migrates", "drain_a_node_that_dies"),
        *("a_user_with_a_key", "an_account", "a_machine_joins", "an_image_of_mine", "page_by_page"),
    }


@pytest.mark.timeout(600)
def test_a_crowd_is_granted_what_there_is_room_for():
    """Three times as many launches at once, at both cloud controllers: not one more, and not one less."""
    assert " 0 with violations" in simulated("--crowds", "--seeds", "0..15")
