"""The protocols of the switch-over and of the lease, searched whole; and that the search finds what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model import lease, switch_over
from tests.model.lease import Lease
from tests.model.search import Event, Model, search
from tests.model.switch_over import SwitchOver

TWICE = "the guest runs on its node and elsewhere"
STUCK = "from here no way without further faults"
SWITCH_OVER_CONTROLS = {
    "source_resumes_by_itself": "the copy on A runs, and the record says B",
    "activates_before_the_commit": "the copy on B runs, and the record says A",
    "goes_back_after_the_commit": "the record says B, and B has no copy",
    "forgets_what_was_called_off": STUCK,
    "restart_wakes_the_paused": "the copy on A runs, and the record says B",
    "does_not_compare": "a copy runs that is not whole",
    "gives_up_on_its_undo": STUCK,
    "prepare_empties_a_whole_copy": STUCK,
}


def test_the_switch_over_keeps_its_promises() -> None:
    result = search(SwitchOver().model())
    assert not result.breach, str(result)
    assert result.states > 30_000


def test_the_lease_keeps_its_promises() -> None:
    result = search(Lease().model())
    assert not result.breach, str(result)
    assert result.states > 1_000


@pytest.mark.parametrize("fault", switch_over.Faults._fields)
def test_a_fault_of_the_switch_over_is_found(fault: str) -> None:
    result = search(SwitchOver(switch_over.Faults(**{fault: True})).model())
    assert result.breach.startswith(SWITCH_OVER_CONTROLS[fault])
    assert result.trace


@pytest.mark.parametrize("fault", lease.Faults._fields)
def test_a_fault_of_the_lease_is_found(fault: str) -> None:
    result = search(Lease(lease.Faults(**{fault: True})).model())
    assert result.breach == TWICE
    assert result.trace[-1] in {"the guest is started elsewhere", "the grant arrives"}


def test_the_search_finds_the_shortest_way_and_a_dead_end() -> None:
    def steps(number: int) -> Iterator[Event[int]]:
        if number < 6:
            yield Event("one", number + 1)
            yield Event("two", number + 2)
            yield Event("fall", 100, fault=True)

    def bad(limit: int) -> Model[int]:
        return Model(0, steps, lambda n: "too far" if n == limit else "", lambda n: n >= 6)

    found = search(bad(5))
    assert (found.breach, sorted(found.trace)) == ("too far", ["one", "two", "two"])
    whole = search(bad(50))
    assert (whole.breach, whole.states) == ("", 9)
    stuck = search(Model(0, steps, lambda _: "", lambda n: 6 <= n < 100))
    assert stuck.trace == ["fall"]
