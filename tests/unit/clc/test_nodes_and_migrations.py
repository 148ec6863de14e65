"""Nodes as hosts, and moves between them: for the administrator and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from mallee.aws.errors import AwsError
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb
from mallee.rpc import common_pb2
from tests.unit.clc.pretend_cloud import ZONES, PretendCloud


def with_nodes(pretend: PretendCloud, count: int = 3) -> None:
    for zone in ZONES:
        pretend.clusters[zone].listed_nodes = [
            pb.Node(
                host_id=f"h-{zone}-{number}",
                name=f"{zone}-node-{number}",
                zone=zone,
                state="ready",
                capacity=common_pb2.Resources(vcpus=8, memory_mib=1024),
                free=common_pb2.Resources(vcpus=6, memory_mib=512),
            )
            for number in range(count)
        ]


async def code(pretend: PretendCloud, operation: str, **parameters: Any) -> str:
    with pytest.raises(AwsError) as error:
        await pretend.ask(operation, **parameters)
    return error.value.code


async def test_nodes_are_listed_page_by_page(pretend: PretendCloud) -> None:
    with_nodes(pretend, 7)
    names: list[str] = []
    token = None
    while True:
        more = {"NextToken": token} if token else {}
        page = await pretend.ask("DescribeHosts", MaxResults=5, **more)
        names += [each["HostId"] for each in page["Hosts"]]
        token = page.get("NextToken")
        if token is None:
            break
    assert len(names) == len(set(names)) == 14
    only = [{"Name": "availability-zone", "Values": ["mallee-1b"]}]
    assert len((await pretend.ask("DescribeHosts", Filter=only))["Hosts"]) == 7


async def test_nodes_are_nobody_elses_business(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    other = await pretend.account()
    (one,) = await pretend.run(account=other)
    assert (await pretend.ask("DescribeHosts", account=other))["Hosts"] == []
    assert "<hostId>" not in await pretend.text("DescribeInstances", account=other)
    for operation, parameters in {
        "MigrateInstances": {"InstanceIds": [one]},
        "CancelInstanceMigration": {"MigrationId": "mig-1"},
        "ModifyInstancePlacement": {"InstanceId": one, "HostId": "h-mallee-1a-0"},
        "ModifyHosts": {"HostIds": ["h-mallee-1a-0"], "AutoPlacement": "off"},
        "CreateNodeToken": {"AvailabilityZone": "mallee-1a", "NodeName": "n"},
    }.items():
        assert await code(pretend, operation, account=other, **parameters) == "UnauthorizedOperation"
    answer = await pretend.ask("DescribeInstanceMigrations", account=other)
    assert answer == {"Migrations": []}


async def test_hosts_are_named_by_id_or_by_name(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    (one,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    cluster = pretend.clusters["mallee-1a"]
    cluster.answer_to_migrate = pb.MigrateResponse(migration=pb.Migration(migration_id="m", instance_id=one))
    for allow, field in ((True, "destination_host_ids"), (False, "excluded_host_ids")):
        await pretend.ask(
            "MigrateInstances",
            InstanceIds=[one],
            AllowHosts=allow,
            DestinationHosts=["mallee-1a-node-1", "h-mallee-1a-2"],
            DowntimeBudget=50,
        )
        asked = cluster.migrations_asked[-1]
        assert list(getattr(asked, field)) == ["h-mallee-1a-1", "h-mallee-1a-2"]
        assert (asked.mode, asked.limits.downtime_budget_ms) == ("live", 50)
    refused = await code(pretend, "MigrateInstances", InstanceIds=[one], DestinationHosts=["moon"])
    assert refused == "InvalidHostID.NotFound"


async def test_a_node_is_evacuated_whole(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    ids = await pretend.run(9, Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    rows = await pretend.rows(*ids)
    there = sorted(row.id for row in rows if row.host_id == "h-mallee-1a-1")
    assert there
    cluster = pretend.clusters["mallee-1a"]
    cluster.answer_to_migrate = pb.MigrateResponse(migration=pb.Migration(migration_id="m"))
    answer = await pretend.ask("MigrateInstances", SourceHost="mallee-1a-node-1")
    assert sorted(asked.instance_id for asked in cluster.migrations_asked) == there
    assert len(answer["Migrations"]) == len(there)
    elsewhere = next(row.id for row in rows if row.host_id != "h-mallee-1a-1")
    assert (
        await code(pretend, "MigrateInstances", SourceHost="h-mallee-1a-1", InstanceIds=[elsewhere])
        == "InvalidParameterCombination"
    )


async def test_refusals_are_typed(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    (one,) = await pretend.run()
    await pretend.settle()
    zone = (await pretend.row(one)).zone
    cause = common_pb2.Cause(code="cpu-model-mismatch", message="Another CPU.")
    refusal = pb.Refusal(host_id=f"h-{zone}-2", cause=cause)
    pretend.clusters[zone].answer_to_migrate = pb.MigrateResponse(refusals=[refusal])
    with pytest.raises(AwsError) as error:
        await pretend.ask("MigrateInstances", InstanceIds=[one])
    assert error.value.code == "MigrationNotPossible"
    assert "cpu-model-mismatch" in error.value.message
    planned = await pretend.ask("MigrateInstances", InstanceIds=[one], Plan=True)
    assert planned["Refusals"] == [
        {
            "InstanceId": one,
            "Host": f"{zone}-node-2",
            "Code": "cpu-model-mismatch",
            "Message": "Another CPU.",
        }
    ]


async def test_a_repeated_request_begins_nothing_new(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    (one,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    cluster = pretend.clusters["mallee-1a"]
    moved = pb.Migration(migration_id="mig-1", instance_id=one, state="running")
    cluster.answer_to_migrate, cluster.listed_migrations = pb.MigrateResponse(migration=moved), [moved]
    first = await pretend.ask("MigrateInstances", token="t", InstanceIds=[one])
    again = await pretend.ask("MigrateInstances", token="t", InstanceIds=[one])
    assert first["Migrations"][0]["MigrationId"] == again["Migrations"][0]["MigrationId"] == "mig-1"
    assert len(cluster.migrations_asked) == 1


async def test_migrations_of_all_zones_in_pages(pretend: PretendCloud) -> None:
    for zone in ZONES:
        pretend.clusters[zone].listed_migrations = [
            pb.Migration(migration_id=f"mig-{number:02}-{zone}", state="completed", instance_id="i-1")
            for number in range(4)
        ]
    answer = await pretend.ask("DescribeInstanceMigrations")
    ids = [each["MigrationId"] for each in answer["Migrations"]]
    assert ids == sorted(ids)
    assert len(ids) == 8
    assert await code(pretend, "DescribeInstanceMigrations", MigrationIds=["mig-9"]) == (
        "InvalidMigrationID.NotFound"
    )
    cancelled = await pretend.ask("CancelInstanceMigration", MigrationId=ids[0])
    assert cancelled["Migration"]["State"] == "cancelled"
    assert (
        await code(pretend, "CancelInstanceMigration", MigrationId="mig-9") == "InvalidMigrationID.NotFound"
    )


async def test_another_host_in_the_placement_is_a_live_migration(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    (one,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    cluster = pretend.clusters["mallee-1a"]
    cluster.answer_to_migrate = pb.MigrateResponse(migration=pb.Migration(migration_id="m"))
    here = (await pretend.row(one)).host_id
    there = next(node.host_id for node in cluster.listed_nodes if node.host_id != here)
    assert await pretend.ask("ModifyInstancePlacement", InstanceId=one, HostId=there) == {"Return": True}
    (asked,) = cluster.migrations_asked
    assert (asked.instance_id, list(asked.destination_host_ids), asked.mode) == (one, [there], "live")
    await pretend.ask("ModifyInstancePlacement", InstanceId=one, HostId=here)
    assert len(cluster.migrations_asked) == 1  # it is there already


async def test_a_stopped_instance_starts_where_it_is_told(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    (one,) = await pretend.run(Placement={"AvailabilityZone": "mallee-1a"})
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=[one])
    await pretend.settle()
    await pretend.ask("ModifyInstancePlacement", InstanceId=one, HostId="h-mallee-1a-2")
    await pretend.ask("StartInstances", InstanceIds=[one])
    assert (await pretend.row(one)).host_id == "h-mallee-1a-2"


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("DescribeInstanceMigrations", {"MigrationIds": ["mig-b"]}),
        ("CancelInstanceMigration", {"MigrationId": "mig-b"}),
        ("DescribeHosts", {"HostIds": ["h-mallee-1b-0"]}),
    ],
)
async def test_what_is_in_a_zone_that_is_away_is_not_unknown(
    pretend: PretendCloud, operation: str, parameters: dict[str, Any]
) -> None:
    with_nodes(pretend)
    away = pretend.clusters[ZONES[1]]

    async def silent(_: Any) -> Any:
        raise Fault(Kind.UNAVAILABLE, "The zone does not answer.")

    away.migrations = away.nodes = silent  # type: ignore[method-assign]
    assert away.state is not None, "nobody has noticed yet"
    assert await code(pretend, operation, **parameters) == "Unavailable"


async def test_a_migration_is_cancelled_while_another_zone_is_away(pretend: PretendCloud) -> None:
    with_nodes(pretend)
    here, away = pretend.clusters[ZONES[1]], pretend.clusters[ZONES[0]]
    here.listed_migrations = [pb.Migration(migration_id="mig-b", state="running")]

    async def silent(_: Any) -> Any:
        raise Fault(Kind.UNAVAILABLE, "The zone does not answer.")

    away.migrations = silent  # type: ignore[method-assign]
    answer = await pretend.ask("CancelInstanceMigration", MigrationId="mig-b")
    assert answer["Migration"]["State"] == "cancelled"
