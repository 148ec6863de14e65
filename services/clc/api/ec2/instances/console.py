"""What a guest wrote on its console, and the firmware variables that no guest here has."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import UnsupportedOperation
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import instances
from mallee.clc.errors import IncorrectInstanceState
from mallee.clc.faults import as_aws_error
from mallee.clc.instance import State
from mallee.kernel.errors import Fault, Kind

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        GetConsoleOutputRequestTypeDef,
        GetConsoleScreenshotRequestTypeDef,
        GetInstanceUefiDataRequestTypeDef,
    )


@ec2.action("GetConsoleOutput", accepts=("InstanceId", "Latest", "DryRun"))
async def get_console_output(call: Call, req: GetConsoleOutputRequestTypeDef) -> dict[str, Any]:
    """The last 64 KiB, always the latest; nothing once the guest and its node's memory of it are gone."""
    ids = checked_ids([req["InstanceId"]])
    row = (await call.cloud.db.read(lambda tx: instances.mine(tx, call.account, ids)))[0]
    output, at_ms = b"", call.now_ms
    if not row.is_over:
        try:
            answer = await call.cloud.clusters.at(row.zone).console(row.id)
        except Fault as fault:
            if fault.kind is not Kind.NOT_FOUND:
                raise as_aws_error(fault) from fault
        else:
            output, at_ms = answer.output, answer.at_ms or at_ms
    return {"InstanceId": row.id, "Output": b64encode(output).decode(), "Timestamp": moment(at_ms)}


@ec2.action("GetConsoleScreenshot", accepts=("InstanceId", "WakeUp", "DryRun"))
async def get_console_screenshot(call: Call, req: GetConsoleScreenshotRequestTypeDef) -> dict[str, Any]:
    """The screen of a running guest as a JPEG in base64; no guest here sleeps, so none is woken up."""
    ids = checked_ids([req["InstanceId"]])
    row = (await call.cloud.db.read(lambda tx: instances.mine(tx, call.account, ids)))[0]
    if row.state != State.RUNNING:
        raise IncorrectInstanceState(f"The instance '{row.id}' is not in the 'running' state.")
    try:
        picture = await call.cloud.clusters.at(row.zone).screenshot(row.id)
    except Fault as fault:
        raise as_aws_error(fault) from fault
    return {"InstanceId": row.id, "ImageData": b64encode(picture).decode()}


@ec2.action("GetInstanceUefiData", accepts=("InstanceId", "DryRun"))
async def get_instance_uefi_data(call: Call, req: GetInstanceUefiDataRequestTypeDef) -> dict[str, Any]:
    """Refused for every instance: all of them boot in legacy BIOS mode."""
    ids = checked_ids([req["InstanceId"]])
    await call.cloud.db.read(lambda tx: instances.mine(tx, call.account, ids))
    raise UnsupportedOperation(f"The instance '{ids[0]}' does not boot in UEFI mode.")
