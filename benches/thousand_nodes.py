"""One RunInstances of 1,000 until all run, on 1,000 fake nodes with a connection each.

    python benches/thousand_nodes.py [--nodes 1000] [--rounds 3]

The services are separate processes: CLC, a CC, and one node process that hosts the fakes.
"""

from __future__ import annotations

import argparse
import statistics
import time

from ec2_requests import NODES, TYPE, image_of, wait_until_quiet
from harness import RawClient, mallee


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nodes", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    config = NODES + "[nc]\nconnection_each = true\n"
    flags = ("--processes", "--instant", "--zones", "1", "--nodes", str(chosen.nodes))
    took = []
    began = time.perf_counter()
    with mallee(*flags, config=config) as server:
        client = RawClient(server)
        image = image_of(client)
        print(f"{chosen.nodes} nodes up in {time.perf_counter() - began:.1f} s")
        params = {"ImageId": image, "InstanceType": TYPE, "MinCount": chosen.nodes, "MaxCount": chosen.nodes}
        for _ in range(chosen.rounds):
            began = time.perf_counter()
            client.call("RunInstances", params)
            answered = time.perf_counter() - began
            wait_until_quiet(client)
            took.append(time.perf_counter() - began)
            print(f"answered after {answered:.2f} s, all running after {took[-1]:.2f} s", flush=True)
    print(f"median: {statistics.median(took):.2f} s for {chosen.nodes} instances on {chosen.nodes} nodes")


if __name__ == "__main__":
    main()
