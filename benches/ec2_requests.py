"""Server CPU per EC2 request against moto_server, side by side, and its flatness over the fleet.

    python benches/ec2_requests.py [--fleet 10000] [--rounds 5] [--flat 1000,100000]

moto pages by reservation, Mallee by instance: every instance of the fleet has a reservation of its own,
so the same MaxResults is the same page. Mallee's figure is the CPU of the process that answers; what
the whole cloud uses in the same time, nodes and clusters included, stands behind it.

A request that changes something has two rows. "answered": one request after another over one connection,
from the first request to the last answer, each of which is durable by then. "all done": the same requests,
until every instance of them runs, or is gone, and what follows from that is written too; nothing that was
put off until after the answer is left out of it. Between looks whether all is done the client sleeps, for
its looks are requests, which these rows are not about. What all services use at rest during that time is
counted. moto has nothing to do after its answer, so both rows have the same figure of moto's.

That shape is dear for moto where it looks through all reservations: one id costs it three times what it
costs with reservations of 100, whose pages of five instances it cannot give. The ratio of "one id" is of
this fleet, not of every fleet.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness import RawClient, Row, Server, calibration_ms, cpu_ms, cpus_ms, mallee, moto, report

# Large nodes, so that few of them hold the fleet: what a node costs at rest is another bench's figure.
NODES = '[clc]\ndefault_vpc_cidr = "10.0.0.0/8"\n[cloud]\nnode_vcpus = 512\nnode_memory_mib = 262144\n'
TYPE = "t3.nano"


def image_of(client: RawClient) -> str:
    found = re.search(
        rb"<imageId>(ami-[0-9a-f]+)</imageId>", client.call("DescribeImages", {"Owner.1": "amazon"})
    )
    found = found or re.search(rb"<imageId>(ami-[0-9a-f]+)</imageId>", client.call("DescribeImages"))
    assert found is not None
    return found[1].decode()


def run(client: RawClient, image: str, count: int, tag: str = "") -> list[str]:
    params: dict[str, object] = {"ImageId": image, "InstanceType": TYPE, "MinCount": count, "MaxCount": count}
    if tag:
        params |= {
            "TagSpecification.1.ResourceType": "instance",
            "TagSpecification.1.Tag.1.Key": "which",
            "TagSpecification.1.Tag.1.Value": tag,
        }
    body = client.call("RunInstances", params)
    return [i.decode() for i in re.findall(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", body)]


def fill(server: Server, size: int) -> tuple[RawClient, str, list[str]]:
    """`size` instances in reservations of their own; one more carries a tag of its own."""
    client, began = RawClient(server), time.monotonic()
    image = image_of(client)
    hands = 16 if server.name == "mallee" else 1

    def share(number: int) -> list[str]:
        one = RawClient(server)
        return [each for _ in range(number, size, hands) for each in run(one, image, 1)]

    with ThreadPoolExecutor(hands) as pool:
        ids = [each for made in pool.map(share, range(hands)) for each in made]
    run(client, image, 1, tag="needle")
    print(f"{server.name}: {size} instances in {time.monotonic() - began:.0f} s", flush=True)
    return client, image, ids


def wait_until_quiet(client: RawClient, between: float = 0.0) -> None:
    """Until no instance is on its way anywhere; `between` are seconds from look to look."""
    passing = {"Filter.1.Name": "instance-state-name", "MaxResults": 5}
    passing |= {f"Filter.1.Value.{n}": name for n, name in enumerate(("pending", "shutting-down"), 1)}
    while b"<instanceId>" in client.call("DescribeInstances", passing):
        time.sleep(between)


Measure = tuple[str, int, Callable[[RawClient, str, list[str]], Callable[[], object]]]


def reading(action: str, asked: dict[str, object]) -> Callable[..., Callable[[], object]]:
    def make(client: RawClient, _image: str, ids: list[str]) -> Callable[[], object]:
        params = {k: ids[len(ids) // 2] if v == "ID" else v for k, v in asked.items()}
        prepared = client.prepare(action, params)

        def once() -> None:
            status, body = client.send(prepared)
            assert status == 200, body[:300]

        return once

    return make


MEASURES: list[Measure] = [
    (
        "DescribeInstances, page of 100",
        20,
        reading("DescribeInstances", {"MaxResults": 100}),
    ),
    (
        "DescribeInstances, page of 1,000",
        4,
        reading("DescribeInstances", {"MaxResults": 1000}),
    ),
    ("DescribeInstances, one id", 100, reading("DescribeInstances", {"InstanceId.1": "ID"})),
    ("DescribeInstances, MaxResults=5", 100, reading("DescribeInstances", {"MaxResults": 5})),
    (
        "DescribeInstances, running, MaxResults=5",
        100,
        reading(
            "DescribeInstances",
            {"Filter.1.Name": "instance-state-name", "Filter.1.Value.1": "running", "MaxResults": 5},
        ),
    ),
    (
        "DescribeInstances, tag filter, one hit",
        100,
        reading("DescribeInstances", {"Filter.1.Name": "tag:which", "Filter.1.Value.1": "needle"}),
    ),
    ("DescribeInstanceStatus, one id", 50, reading("DescribeInstanceStatus", {"InstanceId.1": "ID"})),
]


def side_by_side(fleet: int, rounds: int) -> None:
    with mallee("--instant", "--processes", "--nodes", "40", config=NODES) as cloud, moto() as theirs:
        ours = cloud.only("clc")
        both = {server.name: fill(server, fleet) for server in (ours, theirs)}
        wait_until_quiet(both["mallee"][0])
        rows = []
        for name, times, make in MEASURES:
            works = {k: make(*v) for k, v in both.items()}
            few = max(1, times // 20)
            got = [
                (*cpus_ms((ours, cloud), works["mallee"], times), cpu_ms(theirs, works["moto"], few))
                for _ in range(rounds + 1)
            ][1:]
            rows.append(row_of(name, got))
            print(rows[-1].line(), flush=True)
        rows += writes(cloud, theirs, both, rounds)
        report(
            f"EC2 requests, {fleet} instances",
            rows,
            fleet=fleet,
            calibration_ms=calibration_ms(),
            rss_mib={"clc": ours.rss_mib(), "mallee": cloud.rss_mib(), "moto": theirs.rss_mib()},
        )


def row_of(name: str, rounds: list[tuple[float, ...]]) -> Row:
    """A row of rounds of (ours, whole, theirs)."""
    ours, whole, theirs = (list(column) for column in zip(*rounds, strict=True))
    return Row(name, ours, theirs, whole=whole)


def writes(
    cloud: Server, theirs: Server, both: dict[str, tuple[RawClient, str, list[str]]], rounds: int
) -> list[Row]:
    """Two rows of each measure: until the last answer, and until there is nothing left to do."""
    rows = []
    made: dict[str, list[str]] = {"mallee": [], "moto": []}

    def running(server: Server, count: int) -> Callable[[], None]:
        client, image, _ = both[server.name]

        def once() -> None:
            made[server.name] += run(client, image, count)

        return once

    def ending(server: Server) -> Callable[[], None]:
        client = both[server.name][0]

        def once() -> None:
            client.call("TerminateInstances", {"InstanceId.1": made[server.name].pop()})

        return once

    def measure(name: str, times: int, make: Callable[[Server], Callable[[], None]]) -> None:
        parts, work, peers = (cloud.only("clc"), cloud), make(cloud), make(theirs)
        answered: list[tuple[float, ...]] = []
        done: list[tuple[float, ...]] = []
        for _ in range(rounds + 1):
            before = [part.cpu() for part in parts]
            for _ in range(times):
                work()
            at_last_answer = [part.cpu() for part in parts]
            wait_until_quiet(both["mallee"][0], between=0.04)
            at_the_end = [part.cpu() for part in parts]
            peer = cpu_ms(theirs, peers, times)
            for row, after in ((answered, at_last_answer), (done, at_the_end)):
                used = [(now - was) * 1000 / times for now, was in zip(after, before, strict=True)]
                row.append((*used, peer))
        for which, row in (("answered", answered), ("all done", done)):
            rows.append(row_of(f"{name}, {which}", row[1:]))
            print(rows[-1].line(), flush=True)

    measure("RunInstances(1), durable", 40, lambda s: running(s, 1))
    measure("RunInstances(100), durable", 4, lambda s: running(s, 100))
    measure("TerminateInstances(1), durable", 40, ending)
    return rows


def flatness(sizes: list[int], rounds: int) -> None:
    figures: dict[str, dict[int, list[float]]] = {}
    for size in sizes:
        with mallee("--instant", "--processes", "--nodes", str(max(2, size // 200)), config=NODES) as cloud:
            ours = cloud.only("clc")
            client, image, ids = fill(ours, size)
            wait_until_quiet(client)
            for name, times, make in MEASURES:
                work = make(client, image, ids)
                cpu_ms(ours, work, times)
                figures.setdefault(name, {})[size] = [cpu_ms(ours, work, times) for _ in range(rounds)]
            print(f"{size} instances: {ours.rss_mib():.0f} MiB", flush=True)
    small, large = sizes[0], sizes[-1]
    rows = [Row(name, of[small], of[large]) for name, of in figures.items()]
    report(f"CPU at {large} (peer) over CPU at {small} (ours)", rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fleet", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--flat", default="")
    chosen = options.parse_args()
    if chosen.flat:
        flatness([int(size) for size in chosen.flat.split(",")], chosen.rounds)
    else:
        side_by_side(chosen.fleet, chosen.rounds)


if __name__ == "__main__":
    main()
