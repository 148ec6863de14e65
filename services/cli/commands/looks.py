"""`mallee status|nodes|instances|migrations`: the cloud at a glance, by its public API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from mallee.cli import options
from mallee.cli.output import Format, Row, show, size, tell, watch

if TYPE_CHECKING:
    from mallee.cli.client import Cloud


def register(app: typer.Typer) -> None:
    for command in (status, nodes, instances, migrations):
        app.command()(command)


def status(
    state: options.State = None, output: options.Output = Format.TABLE, *, watch: options.Watch = False
) -> None:
    """Which services run, and what the cloud holds."""
    _look(state, output, _services, repeat=watch, none="Nothing runs here.")


def nodes(
    state: options.State = None, output: options.Output = Format.TABLE, *, watch: options.Watch = False
) -> None:
    """List the nodes and what is free on them."""
    _look(state, output, node_rows, repeat=watch, none="No nodes.")


def instances(
    state: options.State = None, output: options.Output = Format.TABLE, *, watch: options.Watch = False
) -> None:
    """List your instances."""
    _look(state, output, instance_rows, repeat=watch, none="No instances. Run one: aws ec2 run-instances ...")


def migrations(
    state: options.State = None, output: options.Output = Format.TABLE, *, watch: options.Watch = False
) -> None:
    """List migrations, the running ones and those that were."""
    _look(
        state,
        output,
        migration_rows,
        repeat=watch,
        none="No migrations. Start one: mallee migrate ID --watch",
    )


def _look(state: Any, output: Format, rows: Callable[[Cloud], list[Row]], *, repeat: bool, none: str) -> None:
    from mallee.cli.client import Cloud

    cloud = Cloud.find(state)
    if repeat:
        asyncio.run(watch(lambda: rows(cloud), output, none=none))
    else:
        show(rows(cloud), output, none=none)


def _services(cloud: Cloud) -> list[Row]:
    """Each process, then each zone. A zone the cloud cannot reach says so itself."""
    rows: list[Row] = []
    if cloud.access is not None:
        tell(f"{cloud.access.endpoint}  (S3: {cloud.access.s3_endpoint})  state {cloud.access.state}")
        rows += [
            {
                "what": "service",
                "name": name,
                "state": "running" if lives(pid) else "dead",
                "detail": f"pid {pid}",
            }
            for name, pid in cloud.access.pids.items()
        ]
    for zone in cloud.ec2.describe_availability_zones()["AvailabilityZones"]:
        words = "; ".join(message["Message"] for message in zone.get("Messages", []))
        rows.append({"what": "zone", "name": zone["ZoneName"], "state": zone["State"], "detail": words})
    return rows


def lives(pid: int) -> bool:
    """Whether the process is there, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def node_rows(cloud: Cloud) -> list[Row]:
    """One row a node, as DescribeHosts tells it."""
    return [
        {
            "node": _name(host) or host["HostId"],
            "host": host["HostId"],
            "zone": host.get("AvailabilityZone"),
            "state": host.get("State"),
            "vcpus": host.get("HostProperties", {}).get("TotalVCpus"),
            "free": host.get("AvailableCapacity", {}).get("AvailableVCpus"),
            "instances": [guest["InstanceId"] for guest in host.get("Instances", [])],
        }
        for page in cloud.ec2.get_paginator("describe_hosts").paginate()
        for host in page["Hosts"]
    ]


def instance_rows(cloud: Cloud) -> list[Row]:
    """One row an instance of the caller's account."""
    return [
        {
            "instance": instance["InstanceId"],
            "name": _name(instance),
            "state": instance["State"]["Name"],
            "type": instance["InstanceType"],
            "zone": instance["Placement"]["AvailabilityZone"],
            "host": instance["Placement"].get("HostId"),
            "address": instance.get("PrivateIpAddress"),
            "launched": instance.get("LaunchTime"),
        }
        for page in cloud.ec2.get_paginator("describe_instances").paginate(
            PaginationConfig={"PageSize": 1000}
        )
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def migration_rows(cloud: Cloud) -> list[Row]:
    """One row a migration."""
    return [
        {
            "migration": moved["MigrationId"],
            "instance": moved["InstanceId"],
            "state": moved["State"],
            "stage": f"{moved.get('Stage', 0)} {moved.get('StageName', '')}".strip(),
            "from": moved.get("SourceHost"),
            "to": moved.get("DestinationHost"),
            "rounds": moved.get("Rounds", []),
            "sent": size(moved.get("BytesSent", 0)),
            "downtime": f"{moved['DowntimeMs']:.0f} ms" if moved.get("DowntimeMs") else None,
            "why": moved.get("StateReason", {}).get("Message"),
        }
        for page in cloud.ec2.get_paginator("describe_instance_migrations").paginate()
        for moved in page["Migrations"]
    ]


def _name(resource: Row) -> str:
    return next((str(tag["Value"]) for tag in resource.get("Tags", []) if tag["Key"] == "Name"), "")
