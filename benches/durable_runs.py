"""Durable RunInstances(1) from many connections, counted until every instance runs.

    python benches/durable_runs.py [--connections 32] [--instances 3000]

The rate counts from the first request until the last instance is `running`, all services and this
client on the same cores. Transactions per fsync are the CLC's own count, from its metrics.
"""

from __future__ import annotations

import argparse
import re
import statistics
import threading
import time
import urllib.request

from ec2_requests import NODES, TYPE, image_of, wait_until_quiet
from harness import RawClient, Server, mallee


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"http://{server.host}:{server.port}/metrics") as answer:
        found = re.search(rf"^{name} ([0-9.e+]+)$".encode(), answer.read(), re.MULTILINE)
    return float(found[1]) if found else float("nan")


def load(server: Server, image: str, connections: int, total: int) -> list[float]:
    """Latencies in ms; each connection sends its share, one request after the other."""
    clients = [RawClient(server) for _ in range(connections)]
    params = {"ImageId": image, "InstanceType": TYPE, "MinCount": 1, "MaxCount": 1}
    prepared = [client.prepare("RunInstances", params) for client in clients]
    latencies: list[float] = []

    def worker(client: RawClient, request: bytes) -> None:
        for _ in range(total // connections):
            began = time.perf_counter()
            status, body = client.send(request)
            if status != 200:
                raise RuntimeError(body[:300])
            latencies.append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=worker, args=pair) for pair in zip(clients, prepared, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    return latencies


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--instances", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--processes", action="store_true")
    chosen = options.parse_args()
    flags = ["--instant", "--nodes", "100"] + (["--processes"] if chosen.processes else [])
    rates, per_sync = [], []
    with mallee(*flags, config=NODES) as server:
        control = RawClient(server)
        image = image_of(control)
        load(server, image, chosen.connections, 320)
        wait_until_quiet(control, between=0.01)
        for _ in range(chosen.rounds):
            cpu, began = server.cpu(), time.perf_counter()
            before = metric(server, "mallee_db_transactions_total"), metric(server, "mallee_db_commits_total")
            latencies = load(server, image, chosen.connections, chosen.instances)
            answered = time.perf_counter() - began
            wait_until_quiet(control, between=0.01)
            took = time.perf_counter() - began
            after = metric(server, "mallee_db_transactions_total"), metric(server, "mallee_db_commits_total")
            rates.append(len(latencies) / took)
            per_sync.append((after[0] - before[0]) / (after[1] - before[1]))
            print(
                f"{len(latencies)} instances: answered at {len(latencies) / answered:.0f}/s, running at {rates[-1]:.0f}/s, "
                f"p50 {statistics.median(latencies):.1f} ms, p99 {sorted(latencies)[int(len(latencies) * 0.99)]:.1f} ms, "
                f"{(server.cpu() - cpu) * 1000 / len(latencies):.2f} ms CPU each, {per_sync[-1]:.1f} transactions per fsync",
                flush=True,
            )
    print(
        f"median: {statistics.median(rates):.0f} durable RunInstances(1)/s to running, "
        f"{statistics.median(per_sync):.1f} transactions per fsync"
    )


if __name__ == "__main__":
    main()
