"""How long a service is away after kill -9: until a new process of it answers, with instances on it.

    python benches/recovery.py [--rounds 5] [--instances 500]

The CLC is back when DescribeInstances answers; a CC or NC when the CLC sees its nodes as ready again
(RunInstances succeeds on them).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import time
from pathlib import Path

from ec2_requests import NODES, TYPE, image_of, run, wait_until_quiet
from harness import RawClient, Server, mallee


def until_answered(server: Server, image: str) -> float:
    """Seconds until an instance can be launched again."""
    began = time.perf_counter()
    while True:
        try:
            client = RawClient(server)
            params = {"ImageId": image, "InstanceType": TYPE, "MinCount": 1, "MaxCount": 1}
            status, _ = client.send(client.prepare("RunInstances", params))
            client.close()
            if status == 200:
                return time.perf_counter() - began
        except (OSError, IndexError):
            pass
        time.sleep(0.02)


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
                away.append(until_answered(server, image))
                wait_until_quiet(RawClient(server))
            print(f"{service}: median {statistics.median(away):.2f} s, longest {max(away):.2f} s", flush=True)


if __name__ == "__main__":
    main()
