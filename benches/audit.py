"""What a look of the auditor costs: CPU of the cloud controller and of the cluster controller.

    python benches/audit.py [--fleet 10000] [--rounds 7]

The same look runs for ever in the background, every 15 seconds and never more than one fiftieth of the time.
"""

from __future__ import annotations

import argparse
import statistics

from ec2_requests import NODES, image_of, run, wait_until_quiet
from harness import RawClient, mallee

AT_ONCE = 1000
SERVICES = ("clc", "cc-mallee-1a")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fleet", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    flags = ("--instant", "--processes", "--zones", "1", "--nodes", str(max(2, chosen.fleet // 200)))
    with mallee(*flags, config=NODES) as server:
        client = RawClient(server)
        image = image_of(client)
        for _ in range(chosen.fleet // AT_ONCE):
            run(client, image, AT_ONCE)
        wait_until_quiet(client, 0.5)
        used: dict[str, list[float]] = {name: [] for name in SERVICES}
        for _ in range(chosen.rounds):
            before = {name: server.only(name).cpu() for name in SERVICES}
            answer = client.call("DescribeAudit")
            if b"<item>" not in answer or b"<invariant>" in answer:
                raise RuntimeError(f"the books do not agree: {answer[:500]!r}")
            for name in SERVICES:
                used[name].append((server.only(name).cpu() - before[name]) * 1000)
        for name, spent in used.items():
            print(
                f"{name}: {statistics.median(spent):.0f} ms CPU a look at {chosen.fleet} instances"
                f" ({min(spent):.0f} to {max(spent):.0f})"
            )


if __name__ == "__main__":
    main()
