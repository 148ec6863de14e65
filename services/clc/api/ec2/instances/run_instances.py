"""RunInstances: check, claim, write once, answer `pending`. The cluster does the rest.

The claim on real capacity comes before the one transaction, so a lack of room is an answer and not
a failed instance; whatever fails after it gives the claim back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mallee.aws.errors import AwsError, InvalidParameterValue, UnauthorizedOperation
from mallee.clc import orders
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances import ground, launch_request, reservations
from mallee.clc.api.ec2.instances.ground import Ground, GroundMoved
from mallee.clc.api.ec2.instances.launch_request import ACCEPTS, Launch
from mallee.clc.api.ec2.instances.launch_rows import Batch, Placed, write
from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.call import Call
from mallee.clc.db.images import Image
from mallee.clc.db.network import Subnet
from mallee.clc.errors import InvalidAMIIDUnavailable, InvalidHostIDNotFound
from mallee.clc.faults import as_aws_error, refusal
from mallee.clc.host_ids import zone_of
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RunInstancesRequestTypeDef


@ec2.action("RunInstances", accepts=ACCEPTS)
async def run_instances(call: Call, req: RunInstancesRequestTypeDef) -> dict[str, Any]:
    """Launch between MinCount and MaxCount instances, all in one zone."""
    launch = launch_request.read(req, call.cloud.types)
    earlier = await call.answered(str)
    if earlier is not None:
        return await reservations.described(call, earlier)
    if launch.host_id and not call.is_cloud_admin:
        raise UnauthorizedOperation(
            "You are not authorized to perform this operation. Only the cloud's administrator chooses nodes."
        )
    grounds, kind = call.cloud.grounds, ground.kind(call.account, launch)
    known: Ground | None = grounds.get(kind)
    while True:
        found = known
        if found is None:
            found = await call.cloud.db.read(lambda tx: ground.look(tx, call.account, launch))
        try:
            answer = await _launch(call, launch, found)
        except (GroundMoved, AwsError) as error:
            grounds.drop(kind)
            if known is None and isinstance(error, AwsError):
                raise
            known = None  # upon what it stands on now, it may be another answer
        else:
            grounds.put(kind, found)
            return answer


async def _launch(call: Call, launch: Launch, found: Ground) -> dict[str, Any]:
    """Claim and write, upon ground that has not moved when the transaction begins."""
    _check_image(launch, found.image)
    batch = Batch.make(call, launch, found.image, found.public_key, found.groups)
    placed = await _place(call, launch, found, batch)
    seen: list[Seen] = []

    def work(tx: Tx) -> str:
        ground.check(tx, found)
        seen[:] = write(tx, call, launch, batch, placed)
        tx.on_commit(lambda: _tell(call, launch, placed.subnet, tuple(seen)))
        return batch.reservation_id

    try:
        reservation_id = await call.change(work, str)
    except Exception:
        await _release(call, placed)
        raise
    if reservation_id != batch.reservation_id:  # the same token won elsewhere, while this one was claiming
        await _release(call, placed)
        return await reservations.described(call, reservation_id)
    return reservations.launched(call, batch.reservation_id, seen)


def _check_image(launch: Launch, image: Image) -> None:
    if image.state != "available":
        raise InvalidAMIIDUnavailable(f"The image ID '{image.id}' is not available")
    if image.architecture not in launch.type.architectures:
        raise InvalidParameterValue(
            f"The architecture '{','.join(launch.type.architectures)}' of the specified instance type does"
            f" not match the architecture '{image.architecture}' of the specified AMI."
        )


async def _place(call: Call, launch: Launch, found: Ground, batch: Batch) -> Placed:
    """Claims in the first zone that has room; the roomiest is asked first.

    Raises:
        InsufficientInstanceCapacity: no zone that will do has room for MinCount.
        Unavailable: none of them could be asked.
    """
    ask = pb.Ask(
        group_id=batch.reservation_id,
        min_count=launch.least,
        instance_ids=batch.instance_ids,
        resources=orders.resources(launch.details),
        host_id=launch.host_id,
    )
    unreachable: Fault | None = None
    refused: tuple[pb.Outcome, str] | None = None
    clusters = call.cloud.clusters
    for zone in _zones(call, launch, found):
        try:
            outcome = await clusters.at(zone).place(ask)
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise as_aws_error(fault) from fault
            unreachable = fault
            continue
        if outcome.placements:
            return Placed(found.subnets[zone], list(outcome.placements))
        refused = outcome, zone
    if refused is not None:
        raise refusal(refused[0].refusal, refused[1], launch.type.name, launch.host_id)
    raise as_aws_error(unreachable or Fault(Kind.UNAVAILABLE, "No zone can be reached."))


def _zones(call: Call, launch: Launch, found: Ground) -> list[str]:
    """Where to ask, in this order."""
    zones = [each for each in call.cloud.clusters.roomiest() if each in found.subnets]
    if not launch.host_id:
        return zones
    here = [each for each in zones if each == zone_of(launch.host_id)]
    if not here:
        raise InvalidHostIDNotFound(launch.host_id)
    return here


def _tell(call: Call, launch: Launch, subnet: Subnet, seen: Sequence[Seen]) -> None:
    call.cloud.clusters.tell(
        subnet.zone,
        [
            orders.wish(each.row, each.details, (each.wired[0].nic, subnet.cidr), each.tags, launch.user_data)
            for each in seen
        ],
    )


async def _release(call: Call, placed: Placed) -> None:
    cluster = call.cloud.clusters.at(placed.subnet.zone)
    await cluster.release([each.instance_id for each in placed.placements])
