"""`mallee s3`: what the object store holds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import typer

from mallee.cli import options
from mallee.cli.output import Format, show, size
from mallee.cli.settings import CloudConfig
from mallee.cli.state import StateFolder
from mallee.kernel.errors import Fault, Kind

app = typer.Typer(help="The object store.", no_args_is_help=True)


@app.callback()
def top() -> None:
    """The object store."""


@app.command()
def usage(state: options.State = None, output: options.Output = Format.TABLE) -> None:
    """Print what each account keeps in each of its buckets; parts of unfinished uploads count too."""
    from mallee.cli.client import Cloud

    folder = StateFolder.find(state)
    accounts = Cloud.find(state).client("iam").list_accounts()["Accounts"]
    rows = asyncio.run(_ask(folder, accounts))
    if output is Format.TABLE:
        sized = ("bytes", "uploading")
        rows = [row | {name: size(row[name]) for name in sized} for row in rows]
    show(rows, output, none="No buckets.")


async def _ask(folder: StateFolder, accounts: Sequence[Any]) -> list[dict[str, Any]]:
    """One row a bucket, of the accounts in their order."""
    from mallee.cli.health import transport_of
    from mallee.kernel.clock import SystemClock
    from mallee.kernel.config import load
    from mallee.kernel.rpc import Identity
    from mallee.rpc.objects_pb2 import UsageRequest
    from mallee.rpc.objects_pb2_grpc import ObjectServiceStub

    shape = folder.shape()
    if shape is None:
        raise Fault(
            Kind.NOT_FOUND,
            f"There is no cloud in {folder.root}.",
            fix="Name the folder of one that runs: --state DIR",
            code="no-cloud",
        )
    cloud = load(CloudConfig, "cloud", None, os.environ).name
    transport = transport_of(folder.keys, cloud, SystemClock())
    address = f"{shape.listen}:{shape.ports['walrus']}"
    channel = transport.connect(Identity(cloud, "clc", "clc"), address, expect="walrus")
    try:
        stub, rows = ObjectServiceStub(channel), []
        for account in accounts:
            answer = await stub.Usage(UsageRequest(owner=account["AccountId"]))
            rows += [
                {
                    "account": account["AccountName"],
                    "bucket": one.bucket,
                    "objects": one.objects,
                    "bytes": one.bytes,
                    "uploading": one.uploading_bytes,
                }
                for one in answer.buckets
            ]
    finally:
        await channel.close()
    return rows
