"""`python -m tests.model`: how large the models are, and the counterexample of each planted fault."""

from __future__ import annotations

import sys

from tests.model import lease, switch_over
from tests.model.lease import Lease
from tests.model.search import Result, search
from tests.model.switch_over import SwitchOver


def tell(name: str, result: Result) -> None:
    sys.stdout.write(f"{name}: {result}\n\n")


if __name__ == "__main__":
    tell("switch-over", search(SwitchOver().model()))
    tell("lease", search(Lease().model()))
    for fault in switch_over.Faults._fields:
        tell(f"switch-over, {fault}", search(SwitchOver(switch_over.Faults(**{fault: True})).model()))
    for fault in lease.Faults._fields:
        tell(f"lease, {fault}", search(Lease(lease.Faults(**{fault: True})).model()))
