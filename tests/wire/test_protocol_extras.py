"""Mallee's own operations as unmodified clients see them, over HTTP."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import boto3
import botocore.session
import pytest
import uvicorn
from boto3.session import Config
from botocore.exceptions import ClientError, WaiterError
from botocore.loaders import Loader

from mallee.aws import model
from mallee.aws.actions import ActionTable
from mallee.aws.context import Principal
from mallee.aws.protocol import Protocol
from mallee.aws.server import Front
from mallee.aws.service import Service
from mallee.aws.sigv4 import Key
from mallee.kernel.clock import SystemClock
from mallee.kernel.entropy import SystemEntropy

SECRET = "a secret of the test"
ROUND = {
    "Number": 1,
    "BytesSent": 2**40,
    "PagesSent": 9,
    "PagesDirtied": 3,
    "DurationMs": 1.5,
    "DirtyRate": 2e6,
}
MOVED = {"MigrationId": "mig-1", "InstanceId": "i-1", "State": "completed", "Stage": 5, "Rounds": [ROUND]}


class Keys:
    async def find(self, access_key_id):
        return Key(
            SECRET, Principal("000000000001", "arn:aws:iam::000000000001:root", "000000000001", access_key_id)
        )


class Everybody:
    async def authorise(self, request, action, parameters) -> None:
        """May do everything."""


def services():
    ec2, iam = ActionTable("ec2"), ActionTable("iam")
    every = (
        "InstanceIds",
        "SourceHost",
        "AllowHosts",
        "DestinationHosts",
        "Mode",
        "DowntimeBudget",
        "BandwidthLimit",
    )

    @ec2.action(
        "MigrateInstances", accepts=(*every, "AutoConverge", "MaxRounds", "Plan", "ClientToken", "DryRun")
    )
    async def migrate(call, req):
        refusal = {
            "InstanceId": "i-1",
            "Host": "nc-2",
            "Code": "cpu",
            "Message": json.dumps(req, sort_keys=True),
        }
        return {"Migrations": [{"MigrationId": "mig-1", "State": "pending"}], "Refusals": [refusal]}

    @ec2.action("DescribeInstanceMigrations", accepts=("MigrationIds", "NextToken", "MaxResults"))
    async def describe(call, req):
        wanted = req.get("MigrationIds", ["mig-1"])
        if wanted == ["mig-bad"]:
            return {"Migrations": [MOVED, {"MigrationId": "mig-bad", "State": "failed"}]}
        if "NextToken" in req:
            return {"Migrations": [{**MOVED, "MigrationId": "mig-2"}]}
        return {"Migrations": [MOVED], **({"NextToken": "n"} if "MaxResults" in req else {})}

    @ec2.action("CancelInstanceMigration", accepts=("MigrationId", "Action"))
    async def cancel(call, req):
        return {
            "Migration": {
                "MigrationId": req["MigrationId"],
                "StateReason": {"Code": req.get("Action", "cancel")},
            }
        }

    @iam.action("CreateAccount", accepts=("AccountName",), secret_result=True)
    async def create_account(call, req):
        key = {"UserName": "root", "AccessKeyId": "AKID", "Status": "Active", "SecretAccessKey": "s"}
        return {"Account": {"AccountName": req["AccountName"], "AccountId": "000000000002"}, "AccessKey": key}

    @iam.action("ListAccounts")
    async def list_accounts(call, req):
        return {"Accounts": [{"AccountName": "a", "AccountId": "000000000001"}]}

    @iam.action("DeleteAccount", accepts=("AccountName", "Recursive"))
    async def delete_account(call, req):
        return None

    for table in (ec2, iam):
        table.verify(model.load(table.service_name))
    return {
        t.service_name: Service(t, Protocol(model.load(t.service_name)), lambda call: call)
        for t in (ec2, iam)
    }


@contextmanager
def serving(app):
    """The application behind uvicorn on a free port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, http="httptools", loop="uvloop"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port():
    front = Front(
        services(),
        keys=Keys(),
        authoriser=Everybody(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        access_log=False,
    )
    with serving(front) as port:
        yield port


@pytest.fixture(scope="module")
def session():
    core = botocore.session.get_session()
    core.register_component("data_loader", Loader(extra_search_paths=[str(model.EXTRAS_DIR)]))
    return boto3.Session(
        aws_access_key_id="AKID", aws_secret_access_key=SECRET, region_name="mallee-1", botocore_session=core
    )


@pytest.fixture(scope="module")
def ec2(session, port):
    config = Config(retries={"total_max_attempts": 1})
    return session.client("ec2", endpoint_url=f"http://127.0.0.1:{port}", config=config)


def test_migrate(ec2) -> None:
    asked = {
        "InstanceIds": ["i-1", "i-2"], "SourceHost": "nc-1", "AllowHosts": True, "DestinationHosts": ["nc-2"], "Mode": "live",
        "DowntimeBudget": 300, "BandwidthLimit": 1000, "AutoConverge": False, "MaxRounds": 30, "Plan": True, "ClientToken": "t",
    }  # fmt: skip
    answer = ec2.migrate_instances(**asked)
    assert answer["Migrations"] == [{"MigrationId": "mig-1", "State": "pending"}]
    assert json.loads(answer["Refusals"][0]["Message"]) == asked
    with pytest.raises(ClientError) as dry:
        ec2.migrate_instances(DryRun=True)
    assert dry.value.response["Error"]["Code"] == "DryRunOperation"


def test_a_token_is_made_by_the_client(ec2) -> None:
    told = ec2.migrate_instances(InstanceIds=["i-1"])["Refusals"][0]["Message"]
    assert len(json.loads(told)["ClientToken"]) == 36


def test_describe_and_its_pages(ec2) -> None:
    (migration,) = ec2.describe_instance_migrations()["Migrations"]
    assert migration == MOVED
    pages = ec2.get_paginator("describe_instance_migrations").paginate(PaginationConfig={"PageSize": 1})
    assert [each["MigrationId"] for each in pages.build_full_result()["Migrations"]] == ["mig-1", "mig-2"]
    assert ec2.can_paginate("get_network_insights_access_scope_analysis_findings")


def test_cancel(ec2) -> None:
    answer = ec2.cancel_instance_migration(MigrationId="mig-1", Action="force-complete")
    assert answer["Migration"] == {"MigrationId": "mig-1", "StateReason": {"Code": "force-complete"}}


def test_the_waiter(ec2) -> None:
    waiter = ec2.get_waiter("instance_migration_completed")
    waiter.wait(MigrationIds=["mig-1"])
    with pytest.raises(WaiterError, match="failed"):
        waiter.wait(MigrationIds=["mig-bad"])


def test_the_resource(session, port) -> None:
    instance = session.resource("ec2", endpoint_url=f"http://127.0.0.1:{port}").Instance("i-7")
    told = instance.migrate(Mode="live")["Refusals"][0]["Message"]
    assert json.loads(told)["InstanceIds"] == ["i-7"]


def test_accounts(session, port) -> None:
    iam = session.client("iam", endpoint_url=f"http://127.0.0.1:{port}")
    made = iam.create_account(AccountName="new")
    assert made["Account"] == {"AccountName": "new", "AccountId": "000000000002"}
    assert made["AccessKey"]["SecretAccessKey"] == "s"
    assert iam.list_accounts()["Accounts"][0]["AccountName"] == "a"
    iam.delete_account(AccountName="new", Recursive=True)


def test_the_command_line(port, tmp_path) -> None:
    """Where aws-cli looks for models without being told."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "models").symlink_to(model.EXTRAS_DIR)
    environment = {
        "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "mallee-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    aws = str(Path(sys.executable).with_name("aws"))
    said = subprocess.run(
        [aws, "ec2", "cancel-instance-migration", "--migration-id", "mig-9", "--action", "force-complete"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["Migration"]["MigrationId"] == "mig-9"


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        ("OPTIONS", "/", {}, b""),
        ("GET", "/?Action=%", {}, b""),
        ("GET", "/%00", {}, b""),
        ("GET", "//evil//..", {}, b""),
        ("POST", "/", {"Content-Type": "text/html"}, b"<html>"),
        ("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, b"\xff\x00&=" * 100),
        ("POST", "/", {"Content-Length": "99999999"}, b""),
        ("POST", "/", {"Authorization": "AWS4-HMAC-SHA256 " + "x" * 4000}, b""),
    ],
)
def test_raw_nonsense(port, method, target, headers, body) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, target, body or None, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert 400 <= answer.status < 500
    assert answer.headers["x-amzn-requestid"].encode() in text
    assert b"<Code>" in text
