"""Mallee's own CreateNodeToken: with what a machine joins the cloud as a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mallee.aws.errors import InvalidParameterValue, UnsupportedOperation
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.hosts import only_admin
from mallee.clc.call import Call
from mallee.kernel.errors import Fault


@ec2.action(
    "CreateNodeToken", accepts=("AvailabilityZone", "NodeName", "DryRun"), mutating=True, secret_result=True
)
async def create_node_token(call: Call, req: Mapping[str, Any]) -> dict[str, Any]:
    """A token that is good once, for one node name of one zone, for an hour."""
    only_admin(call, "takes in nodes")
    enrolment = call.cloud.enrolment
    if enrolment is None:
        raise UnsupportedOperation(
            "This cloud takes in no nodes by token. Set enrolment_address in [clc] of mallee.toml."
        )
    try:
        token = await enrolment.token(req["AvailabilityZone"], req["NodeName"])
    except Fault as fault:
        raise InvalidParameterValue(str(fault)) from fault
    return {"Token": token}
