"""Three truths compared: what was asked for, where it is placed, and what runs.

The first two are asked over the public API; what runs is read in the folder of each node controller,
beside its process, as nobody's word for it is needed. And the zone's own rows, for what holds room.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.cloud.clouds import TestCloud

ROOM_HELD = {"pending", "running", "stopping", "shutting-down"}
STEADY = {"running", "stopped", "terminated"}


class Copy(NamedTuple):
    """One guest on one node, whatever it does there."""

    node: str
    instance: str
    generation: int
    phase: str
    migration: str


@dataclass
class Truths:
    """What the services say at one moment."""

    instances: dict[str, Any]
    hosts: dict[str, Any]
    copies: list[Copy]
    placements: dict[str, tuple[int, str]] = field(default_factory=dict)  # generation and phase
    reservations: list[str] = field(default_factory=list)
    sagas: list[str] = field(default_factory=list)

    def running(self) -> dict[str, list[Copy]]:
        found: dict[str, list[Copy]] = defaultdict(list)
        for copy in self.copies:
            if copy.phase == "running":
                found[copy.instance].append(copy)
        return found


def read(cloud: TestCloud) -> Truths:
    """All three, now."""
    pages = cloud.ec2.get_paginator("describe_instances").paginate()
    every = {i["InstanceId"]: i for page in pages for r in page["Reservations"] for i in r["Instances"]}
    hosts = cloud.ec2.get_paginator("describe_hosts").paginate()
    truths = Truths(every, {_name(host): host for page in hosts for host in page["Hosts"]}, copies(cloud))
    for instance, generation, phase in cloud.zone_rows(
        "SELECT instance_id, generation, phase FROM placements WHERE host >= 0"
    ):
        truths.placements[instance] = (generation, phase)
    truths.reservations = [taker for (taker,) in cloud.zone_rows("SELECT taker FROM reservations")]
    return truths


def copies(cloud: TestCloud) -> list[Copy]:
    """Every guest of every node, from the nodes' own folders."""
    query = "SELECT node, instance_id, generation, phase, migration_id FROM fake_guest"
    return [Copy(*row) for folder in _folders(cloud, "nc") for row in rows(folder / "nc.db", query)]


def doubled(cloud: TestCloud) -> list[str]:
    """Instances that run twice at this moment. Folders are read one after another, so what seems
    doubled is read once more: a copy that was resumed between two readings has its twin paused by then."""
    suspects = _twice(copies(cloud))
    return [each for each in _twice(copies(cloud)) if each in suspects] if suspects else []


def wrong(cloud: TestCloud) -> list[str]:
    """Everything that does not fit together, in words. Empty when all is at rest and well."""
    truths = read(cloud)
    found = [
        *_states(truths),
        *_guests(truths),
        *_strays(truths),
        *_capacity(truths),
        *_addresses(cloud, truths),
    ]
    return found or list(_by_the_product(cloud))


def _by_the_product(cloud: TestCloud) -> Iterator[str]:
    """What `mallee audit` says, which knows more of the books and has only the nodes' word for what runs."""
    answer = cloud.ec2.describe_audit()
    for found in answer["Violations"]:
        yield f"{found['ResourceId']} ({found['Invariant']}): {found['What']} {found['Why']}"
    for zone in answer["Zones"]:
        if zone["State"] != "audited":
            yield f"{zone['ZoneName']} was not audited"


def _states(truths: Truths) -> Iterator[str]:
    for name, instance in truths.instances.items():
        if instance["State"]["Name"] not in STEADY:
            yield f"{name} is still {instance['State']['Name']}"
    for taker in truths.reservations:
        yield f"room is reserved for {taker}"


def _guests(truths: Truths) -> Iterator[str]:
    """What is said to run runs once, where it is said to, and is the copy that may."""
    by_id = {host["HostId"]: name for name, host in truths.hosts.items()}
    running = truths.running()
    for name, instance in truths.instances.items():
        here = running.get(name, [])
        if instance["State"]["Name"] != "running":
            if here:
                yield f"{name} is {instance['State']['Name']} and runs: {here}"
            continue
        where = by_id.get(instance["Placement"].get("HostId", ""), "nowhere")
        placed = truths.placements.get(name, (0, "nowhere"))[0]
        if [(copy.node, copy.generation) for copy in here] != [(where, placed)]:
            yield f"{name} should run on {where} in generation {placed} and has {here}"
        if name not in {guest["InstanceId"] for guest in truths.hosts.get(where, {}).get("Instances", ())}:
            yield f"{name} is not listed on its host {where}"


def _strays(truths: Truths) -> Iterator[str]:
    """Nothing is on a node that nobody asked for, and nothing twice."""
    for copy in truths.copies:
        state = truths.instances.get(copy.instance, {"State": {"Name": "unknown"}})["State"]["Name"]
        if state in {"unknown", "terminated"}:
            yield f"{copy} belongs to an instance that is {state}"
        if copy.phase not in {"running", "stopped"} or copy.migration:
            yield f"{copy} was left by a migration or a lapse"
    for name, count in Counter(copy.instance for copy in truths.copies).items():
        if count > 1:
            yield f"{name} has {count} copies: {[c for c in truths.copies if c.instance == name]}"


def _capacity(truths: Truths) -> Iterator[str]:
    used: Counter[str] = Counter()
    for instance in truths.instances.values():
        if instance["State"]["Name"] in ROOM_HELD:
            options = instance["CpuOptions"]
            used[instance["Placement"].get("HostId", "")] += options["CoreCount"] * options["ThreadsPerCore"]
    for name, host in truths.hosts.items():
        free, total = host["AvailableCapacity"]["AvailableVCpus"], host["HostProperties"]["TotalVCpus"]
        if free != total - used[host["HostId"]]:
            yield f"{name} has {free} of {total} vCPUs free, with {used[host['HostId']]} in use"


def _addresses(cloud: TestCloud, truths: Truths) -> Iterator[str]:
    """Each instance that is not over has one address, and nobody else has any."""
    pages = cloud.ec2.get_paginator("describe_network_interfaces").paginate()
    held = Counter(each["PrivateIpAddress"] for page in pages for each in page["NetworkInterfaces"])
    wanted = Counter(
        instance["PrivateIpAddress"]
        for instance in truths.instances.values()
        if instance["State"]["Name"] != "terminated"
    )
    if held != wanted:
        yield f"addresses: held by nobody {held - wanted}, missing {wanted - held}"


def _twice(found: list[Copy]) -> list[str]:
    counted = Counter(copy.instance for copy in found if copy.phase == "running")
    return [name for name, count in counted.items() if count > 1]


def _name(host: Mapping[str, Any]) -> str:
    return str(next(tag["Value"] for tag in host["Tags"] if tag["Key"] == "Name"))


def _folders(cloud: TestCloud, role: str) -> list[Path]:
    return sorted((cloud.folder.root / "services").glob(f"{role}-*"))


def rows(database: Path, query: str) -> list[Any]:
    """What a service's own database says, read beside its process."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as opened:
        return opened.execute(query).fetchall()
