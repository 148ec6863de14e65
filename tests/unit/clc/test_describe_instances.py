"""DescribeInstances against a naive twin: every filter, every page, every index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import sqlalchemy as sa

from mallee.aws.errors import AwsError
from mallee.aws.filters import parse, passes
from mallee.clc.api.ec2.instances import view as instance_view
from mallee.clc.api.ec2.instances.describe import DOCUMENTED
from mallee.clc.api.ec2.instances.filters import FILTERS
from mallee.clc.call import Call
from mallee.clc.db import instance_search, instances
from mallee.clc.db.instance_search import Search
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from tests.unit.clc.pretend_cloud import PretendCloud, ids_in


@pytest.fixture
async def pretend(db: Database, tmp_path: Path) -> PretendCloud:
    """On each of the databases."""
    return await PretendCloud.make(db, tmp_path)


def documented(operation: str, member: str = "Filters") -> set[str]:
    """The filter names in Amazon's own documentation of an operation."""
    model = botocore.session.get_session().get_service_model("ec2").operation_model(operation)
    names = re.findall(
        r"<code>([a-z0-9:.&;<>-]+)</code>\s*-", model.input_shape.members[member].documentation
    )
    return {name.replace("&lt;key&gt;", "") for name in names}


def test_every_documented_filter_is_there() -> None:
    assert documented("DescribeInstances") == set(DOCUMENTED)


@pytest.mark.parametrize(
    "operation",
    [
        *("DescribeInstanceStatus", "DescribeInstanceTypes", "DescribeInstanceTypeOfferings"),
        "DescribeInstanceCreditSpecifications",
    ],
)
def test_every_documented_filter_of_the_other_lists(operation: str) -> None:
    from mallee.clc.api.ec2 import ec2, types  # noqa: F401 - fill the table
    from mallee.clc.api.ec2.instances import status  # noqa: F401 - fills the table

    assert documented(operation) == set(ec2.handlers[operation].filters or ())


async def a_fleet(pretend: PretendCloud) -> list[str]:
    """Some instances of every kind."""
    ids: list[str] = []
    for number in range(24):
        tags = [{"Key": "Name", "Value": f"web-{number % 5}"}, {"Key": "odd", "Value": str(number % 2)}]
        ids += await pretend.run(
            1 + number % 3,
            InstanceType=("t3.micro", "t3.small", "m5.large")[number % 3],
            Placement={"AvailabilityZone": ("mallee-1a", "mallee-1b")[number % 2]},
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags[: 1 + number % 2]}],
            Monitoring={"Enabled": number % 4 == 0},
        )
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=ids[:6])
    await pretend.settle()
    await pretend.ask("TerminateInstances", InstanceIds=ids[6:12])
    await pretend.settle()
    await pretend.ask("StopInstances", InstanceIds=ids[12:15])
    return ids


async def naive(pretend: PretendCloud, filters: list[dict[str, Any]]) -> list[str]:
    """The slow way: look at every instance with every filter."""
    account = pretend.cloud.admin_account
    wanted = parse(filters, DOCUMENTED)
    call = Call(pretend.request("DescribeInstances", account, None, {}), pretend.cloud)

    def look(tx: Any) -> list[str]:
        heads = instance_search.page(tx, account, Search(), "", 100_000)
        rows = sorted(instances.find(tx, [head.id for head in heads]))
        hits = []
        for seen in instance_view.look(tx, account, rows):
            shown = instance_view.instance(call, seen)
            looks = {each.name: FILTERS[each.name](shown, seen) for each in wanted if each.tag_key is None}
            if passes(wanted, looks, seen.tags):
                hits.append(seen.row.id)
        return hits

    return await pretend.cloud.db.read(look)


async def test_filters_agree_with_the_naive_twin(pretend: PretendCloud) -> None:
    ids = await a_fleet(pretend)
    rows = await pretend.rows(*ids)
    values = {
        "instance-state-name": ["running", "stopped", "terminated", "stopping", "asleep", "st*"],
        "instance-state-code": ["16", "80", "x"],
        "availability-zone": ["mallee-1a", "mallee-1b", "*"],
        "instance-type": ["t3.micro", "t3.*", "m5.large"],
        "tag:Name": ["web-1", "web-2", "web-?", "db"],
        "tag:odd": ["1", "0"],
        "tag-key": ["odd", "Name", "nope"],
        "instance-id": [ids[0], ids[3], ids[-1]],
        "private-ip-address": [rows[0].private_address, rows[-1].private_address],
        "subnet-id": [rows[0].subnet_id],
        "vpc-id": [rows[0].vpc_id, "vpc-none"],
        "reservation-id": [rows[4].reservation_id],
        "host-id": [rows[0].host_id, rows[7].host_id],
        "image-id": [rows[0].image_id],
        "monitoring-state": ["enabled", "disabled"],
        "instance.group-name": ["default", "x"],
        "launch-index": ["0", "1", "2"],
        "state-reason-code": ["Client.*"],
        "key-name": ["none"],
        "owner-id": [pretend.cloud.admin_account],
    }
    dice = SeededEntropy(5)

    def some(of: list[str], most: int) -> list[str]:
        left = list(of)
        count = 1 + int(dice.uniform(0, min(most, len(of))))
        return [left.pop(int(dice.uniform(0, len(left)))) for _ in range(count)]

    seen_some = 0
    for _ in range(150):
        filters = [{"Name": name, "Values": some(values[name], 3)} for name in some(sorted(values), 3)]
        expected = await naive(pretend, filters)
        found = ids_in(await pretend.text("DescribeInstances", Filters=filters))
        assert sorted(found) == sorted(expected), filters
        seen_some += bool(expected)
    assert seen_some > 50


async def test_pages_hold_everything_once(pretend: PretendCloud) -> None:
    ids = await a_fleet(pretend)
    for filters in ([], [{"Name": "monitoring-state", "Values": ["disabled"]}]):
        paged: list[str] = []
        token = None
        while True:
            more = {"NextToken": token} if token else {}
            answer = await pretend.ask("DescribeInstances", MaxResults=7, Filters=filters, **more)
            text = await pretend.text("DescribeInstances", MaxResults=7, Filters=filters, **more)
            page = ids_in(text)
            assert len(page) <= 7
            paged += page
            token = answer.get("NextToken")
            if not token:
                break
        expected = ids if not filters else await naive(pretend, filters)
        assert sorted(paged) == sorted(expected)
        assert len(set(paged)) == len(paged)


async def test_a_page_is_rendered_once_and_always_true(pretend: PretendCloud) -> None:
    ids = await pretend.run(3)
    first = await pretend.text("DescribeInstances")
    assert first == await pretend.text("DescribeInstances")
    await pretend.settle()
    after = await pretend.text("DescribeInstances")
    assert after.count("<name>running</name>") == 3
    await pretend.ask("TerminateInstances", InstanceIds=ids[:1])
    assert "<name>shutting-down</name>" in await pretend.text("DescribeInstances")


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"InstanceIds": ["i-zz"]}, "InvalidInstanceID.Malformed"),
        ({"InstanceIds": ["i-0ffffffffffffffff"]}, "InvalidInstanceID.NotFound"),
        ({"MaxResults": 4}, "InvalidParameterValue"),
        ({"MaxResults": 1001}, "InvalidParameterValue"),
        ({"InstanceIds": ["i-0ffffffffffffffff"], "MaxResults": 5}, "InvalidParameterCombination"),
        ({"NextToken": "forged"}, "InvalidNextToken"),
        ({"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue"),
    ],
)
async def test_what_is_refused(pretend: PretendCloud, parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(AwsError) as error:
        await pretend.ask("DescribeInstances", **parameters)
    assert error.value.code == code


async def test_no_search_walks_the_whole_table(pretend: PretendCloud) -> None:
    """Each leader is answered by an index whose order is that of the page: no scan, no sorting."""
    values = {"account": "a", "after": "", "limit": 5, "lead": "x", "lead_key": "k", "zone": "z"}
    values |= {"before_ms": 1}
    engine = sa.create_engine(pretend.cloud.db.url)
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by statistics, which a small table does not have")

    def plan(connection: sa.Connection, statement: Any) -> list[str]:
        compiled = getattr(statement, "core", statement).compile(engine)
        arguments = tuple(values.get(name, -1) for name in compiled.positiontup or ())
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", arguments)]

    with engine.connect() as connection:
        for leader in ("", "tag", *instance_search.COLUMNS):
            steps = plan(connection, instance_search._statement(leader, (), 0, 0))
            bad = [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]
            assert not bad, (leader, steps)
        for statement, index in (
            (instances._UNSETTLED, "ix_instances_unsettled"),
            (instances._OVER, "ix_instances_over"),
        ):
            assert index in plan(connection, statement)[0]
    engine.dispose()
