"""How long a service is away after kill -9: until a new process of it answers, with instances on it.

    python benches/recovery.py [--rounds 5] [--instances 500]

Back means: a new RunInstances is answered and its instance runs, which needs all three controllers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import time
from pathlib import Path

from ec2_requests import NODES, image_of, run, wait_until_quiet
from harness import RawClient, Server, mallee


def until_launched(server: Server, image: str) -> float:
    """Seconds until an instance can be launched again, and runs."""
    began = time.perf_counter()
    while True:
        try:
            client = RawClient(server)
            run(client, image, 1)
            wait_until_quiet(client)
        except (
            OSError,
            IndexError,
            RuntimeError,
        ):  # nobody listens, it hung up, or it said that it cannot yet
            time.sleep(0.02)
        else:
            return time.perf_counter() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--instances", type=int, default=500)
    chosen = options.parse_args()
    with mallee("--instant", "--processes", "--zones", "1", "--nodes", "20", config=NODES) as server:
        client = RawClient(server)
        image = image_of(client)
        run(client, image, chosen.instances)
        wait_until_quiet(client)
        pids_file = Path(str(server.facts["state"])) / "pids.json"
        for service in ("clc", "cc-mallee-1a", "nc-mallee-1a-node"):
            away = []
            for _ in range(chosen.rounds):
                os.kill(json.loads(pids_file.read_text())[service], signal.SIGKILL)
                away.append(until_launched(server, image))
                wait_until_quiet(RawClient(server))
            print(f"{service}: median {statistics.median(away):.2f} s, longest {max(away):.2f} s", flush=True)


if __name__ == "__main__":
    main()
