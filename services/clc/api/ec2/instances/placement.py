"""ModifyInstancePlacement: a running instance whose node changes is live-migrated, which AWS hides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mallee.aws.errors import InvalidParameterCombination, UnsupportedOperation
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.hosts import host_ids_of, only_admin
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.api.ec2.instances.launch_request import one_of
from mallee.clc.api.ec2.migrations import move
from mallee.clc.call import Call
from mallee.clc.db import instances
from mallee.clc.errors import IncorrectInstanceState
from mallee.clc.instance import State
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import ModifyInstancePlacementRequestTypeDef


@ec2.action("ModifyInstancePlacement", accepts=("InstanceId", "HostId", "Affinity", "Tenancy"))
async def modify_instance_placement(call: Call, req: ModifyInstancePlacementRequestTypeDef) -> dict[str, Any]:
    """Move a running instance to another node, or say where a stopped one starts.

    With affinity `host` an instance starts on that node and on no other, until it is `default` again.
    """
    ids = checked_ids([req["InstanceId"]])
    affinity = one_of("affinity", req.get("Affinity", ""), "", "default", "host")
    if req.get("Tenancy", "default") != "default":
        raise UnsupportedOperation("Only the tenancy 'default' is supported by this cloud.")
    if affinity == "host" and "HostId" not in req:
        raise InvalidParameterCombination("Affinity 'host' needs the parameter HostId.")
    only_admin(call, "chooses nodes")
    host_id = await _host(call, req.get("HostId", ""))
    row = (await call.cloud.db.read(lambda tx: instances.mine(tx, call.account, ids)))[0]
    if row.state not in {State.RUNNING, State.STOPPED}:
        raise IncorrectInstanceState(f"The instance '{row.id}' must be running or stopped.")
    if host_id and row.state == State.RUNNING and host_id != row.host_id:
        await move(call, row, host_id)

    def work(tx: Tx) -> bool:
        now = instances.mine(tx, call.account, ids)[0]
        details = instances.decode(now.details)
        pinned = details.pinned_host
        if affinity == "default":
            pinned = ""
        elif host_id and (affinity == "host" or now.state == State.STOPPED):
            pinned = host_id
        changed = instances.encode(msgspec.structs.replace(details, pinned_host=pinned))
        instances.save_details(tx, [now._replace(version=now.version + 1, details=changed)])
        return True

    await call.change(work, bool)
    return {"Return": True}


async def _host(call: Call, name: str) -> str:
    return (await host_ids_of(call, [name]))[name].host_id if name else ""
