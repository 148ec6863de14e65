"""How long a service is away after kill -9, and what it finds when it is back.

python benches/recovery.py [--rounds 5] [--instances 500]

answers    a new process answers DescribeInstances
launches   a new RunInstances is answered and its instance runs, which needs all three controllers
goes on    every migration that was open shows that it moves on, or has ended
adopted    an instance that is bound to the killed node runs; what ran there was not started again
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from ec2_requests import NODES, image_of, run, wait_until_quiet
from harness import RawClient, Server, mallee

from mallee.cli.client import Cloud
from mallee.cli.state import Access

OPEN = {"pending", "running"}
# But for the first: of a node that is on its way back.
PASSING = {"Unavailable", "InsufficientInstanceCapacity", "MigrationNotPossible"}


def until(work: Callable[[], object]) -> float:
    """Seconds until it works."""
    began = time.perf_counter()
    while True:
        try:
            work()
        except (OSError, IndexError, RuntimeError):  # nobody listens, it hung up, or it cannot yet
            time.sleep(0.02)
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] not in PASSING:
                raise
            time.sleep(0.02)
        else:
            return time.perf_counter() - began


def kill(server: Server, service: str) -> None:
    pids = json.loads((Path(str(server.facts["state"])) / "pids.json").read_text())
    os.kill(pids[service], signal.SIGKILL)


def told(service: str, what: str, seconds: list[float]) -> None:
    line = f"{service:22} {what:9} median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"
    print(line, flush=True)


def of_a_fleet(rounds: int, instances: int) -> None:
    """Away from users' sight."""
    with mallee("--instant", "--processes", "--zones", "1", "--nodes", "20", config=NODES) as server:
        client = RawClient(server)
        image = image_of(client)
        run(client, image, instances)
        wait_until_quiet(client)

        def launched() -> None:
            fresh = RawClient(server)
            run(fresh, image, 1)
            wait_until_quiet(fresh)

        for service in ("clc", "cc-mallee-1a", "nc-mallee-1a-node"):
            answers, launches = list[float](), list[float]()
            for _ in range(rounds):
                kill(server, service)
                began = time.perf_counter()
                answers.append(until(lambda: RawClient(server).call("DescribeInstances", {"MaxResults": 5})))
                until(launched)
                launches.append(time.perf_counter() - began)
                wait_until_quiet(RawClient(server))
            told(service, "answers", answers)
            told(service, "launches", launches)


def of_migrations(rounds: int) -> None:
    """Work that was under way, and guests that ran."""
    os.environ["MALLEE_NC_START_SECONDS"] = "0.05"
    with mallee("--processes", "--zones", "1", "--nodes", "2", config=NODES) as server:
        ec2 = Cloud(msgspec.convert(server.facts, Access)).ec2
        image = ec2.describe_images()["Images"][0]["ImageId"]
        # What never fits is copied in rounds of half a second: each is a sign of life.
        busy = [{"ResourceType": "instance", "Tags": [{"Key": "mallee:workload", "Value": "memory-bound"}]}]
        ids = launch(ec2, image, 4, InstanceType="t3.nano", TagSpecifications=busy)
        going, adopted = list[float](), list[float]()
        for _ in range(rounds):
            moves = list[str]()
            until(lambda: moves.extend(begin(ec2, ids[:2])))  # noqa: B023
            while any(each["Stage"] < 2 and each["State"] in OPEN for each in look(ec2, moves)):
                time.sleep(0.02)
            kill(server, "cc-mallee-1a")
            began = time.perf_counter()
            until(lambda: look(ec2, moves))  # noqa: B023
            first = {each["MigrationId"]: each for each in look(ec2, moves)}
            until(lambda: all_move(ec2, moves, first))  # noqa: B023
            going.append(time.perf_counter() - began)
            until(lambda: all_ended(ec2, moves))  # noqa: B023
        told("cc-mallee-1a", "goes on", going)
        hosts = ec2.describe_hosts()["Hosts"]
        for _ in range(rounds):
            before = boots(server)
            kill(server, "nc-mallee-1a-node-1")
            host = next(
                each["HostId"]
                for each in hosts
                if {"Key": "Name", "Value": "mallee-1a-node-1"} in each["Tags"]
            )
            adopted.append(until(lambda: launch(ec2, image, 1, Placement={"HostId": host})))  # noqa: B023
            restarted = [guest for guest, when in before.items() if boots(server).get(guest) != when]
            assert not restarted, f"started again: {restarted}"
        told("nc-mallee-1a-node-1", "adopted", adopted)


def launch(ec2: Any, image: str, count: int, **more: Any) -> list[str]:
    asked = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": count, "MaxCount": count}
    made = ec2.run_instances(**(asked | more))
    ids = [each["InstanceId"] for each in made["Instances"]]
    ec2.get_waiter("instance_running").wait(
        InstanceIds=ids, WaiterConfig={"Delay": 0.02, "MaxAttempts": 3000}
    )
    return ids


def begin(ec2: Any, ids: list[str]) -> list[str]:
    asked = ec2.migrate_instances(InstanceIds=ids, BandwidthLimit=8000)["Migrations"]
    return [each["MigrationId"] for each in asked]


def look(ec2: Any, moves: list[str]) -> list[Any]:
    found: list[Any] = ec2.describe_instance_migrations(MigrationIds=moves)["Migrations"]
    return found


def all_move(ec2: Any, moves: list[str], first: dict[str, Any]) -> None:
    """Fails while one of them is open and as it was."""
    if any(each["State"] in OPEN and each == first[each["MigrationId"]] for each in look(ec2, moves)):
        raise RuntimeError("one stands still")


def all_ended(ec2: Any, moves: list[str]) -> None:
    if any(each["State"] in OPEN for each in look(ec2, moves)):
        raise RuntimeError("one is open")


def boots(server: Server) -> dict[tuple[str, int], bytes]:
    """When the guests of all nodes were started, read beside their controllers."""
    found: dict[tuple[str, int], bytes] = {}
    for database in (Path(str(server.facts["state"])) / "services").glob("nc-*/nc.db"):
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            rows = opened.execute("SELECT instance_id, generation, boots FROM fake_guest")
            found |= {(instance, generation): when for instance, generation, when in rows}
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--instances", type=int, default=500)
    chosen = options.parse_args()
    of_a_fleet(chosen.rounds, chosen.instances)
    of_migrations(chosen.rounds)


if __name__ == "__main__":
    main()
