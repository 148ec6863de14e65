"""How long until the first answer, what `mallee --help` costs, what a full cloud weighs.

    python benches/startup.py [--rounds 5] [--fleet 0]

With `--fleet N` a cloud of N instances is filled, stopped and started again from its state.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from ec2_requests import NODES, fill, wait_until_quiet
from harness import HERE, RawClient, mallee


def help_cpu() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(HERE / "mallee"), "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_answer(folder: Path) -> float:
    began = time.perf_counter()
    with mallee(keep=folder) as server:
        RawClient(server).call("DescribeRegions")
        return time.perf_counter() - began


def restart(fleet: int) -> None:
    flags = ("--instant", "--nodes", str(max(2, fleet // 500)))
    with tempfile.TemporaryDirectory(prefix="mallee-bench-") as name:
        folder = Path(name)
        with mallee(*flags, config=NODES, keep=folder) as server:
            client, _, _ = fill(server, fleet)
            wait_until_quiet(client)
            print(f"{fleet} instances: {server.rss_mib():.0f} MiB in all services")
        began = time.perf_counter()
        with mallee(*flags, config=NODES, keep=folder) as server:
            RawClient(server).call("DescribeInstances", {"MaxResults": 100})
            print(
                f"restart to the first page: {time.perf_counter() - began:.2f} s, {server.rss_mib():.0f} MiB"
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--fleet", type=int, default=0)
    chosen = options.parse_args()
    if chosen.fleet:
        restart(chosen.fleet)
        return
    helps = [help_cpu() for _ in range(chosen.rounds + 1)][1:]
    print(f"mallee --help: {statistics.median(helps):.2f} s CPU")
    with tempfile.TemporaryDirectory(prefix="mallee-bench-") as name:
        cold = first_answer(Path(name))
        warm = [first_answer(Path(name)) for _ in range(chosen.rounds)]
    print(
        f"mallee up to the first answer: {cold:.2f} s with a fresh state, {statistics.median(warm):.2f} s warm"
    )


if __name__ == "__main__":
    main()
