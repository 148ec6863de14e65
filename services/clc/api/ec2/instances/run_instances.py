"""RunInstances: check, claim, write once, answer `pending`. The cluster does the rest.

The claim on real capacity comes before the one transaction, so a lack of room is an answer and not
a failed instance; whatever fails after it gives the claim back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mallee.aws.errors import InvalidParameterCombination, InvalidParameterValue, UnauthorizedOperation
from mallee.clc import orders
from mallee.clc.api.ec2 import ec2
from mallee.clc.api.ec2.instances import launch_request, reservations
from mallee.clc.api.ec2.instances.launch_request import ACCEPTS, Launch
from mallee.clc.api.ec2.instances.launch_rows import Batch, Placed, write
from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.call import Call
from mallee.clc.db import images, key_pairs, network, security_groups
from mallee.clc.db.images import Image
from mallee.clc.db.network import Subnet
from mallee.clc.db.security_groups import Group
from mallee.clc.errors import InvalidAMIIDUnavailable, InvalidHostIDNotFound
from mallee.clc.faults import as_aws_error, refusal
from mallee.clc.host_ids import zone_of
from mallee.kernel.db import Tx
from mallee.kernel.errors import Fault, Kind
from mallee.rpc import cluster_pb2 as pb

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RunInstancesRequestTypeDef


class Ground(NamedTuple):
    """What a launch stands on, read in one snapshot. `subnets` are the places it may go to, by zone."""

    image: Image
    public_key: str
    subnets: dict[str, Subnet]
    groups: list[Group]


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
    ground = await call.cloud.db.read(lambda tx: _ground(tx, call.account, launch))
    _check_image(launch, ground.image)
    batch = Batch.make(call, launch, ground.image, ground.public_key, ground.groups)
    placed = await _place(call, launch, ground, batch)
    seen: list[Seen] = []

    def work(tx: Tx) -> str:
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


def _ground(tx: Tx, account: str, launch: Launch) -> Ground:
    image = images.get(tx, account, launch.image_id)
    key = key_pairs.get(tx, account, launch.key_name).public_key if launch.key_name else ""
    subnets = _subnets(tx, account, launch)
    vpc_id = next(iter(subnets.values())).vpc_id
    ids, names = launch.nic.group_ids, launch.nic.group_names
    if ids or names:
        groups = security_groups.resolve(tx, account, vpc_id, ids=ids, names=names)
    else:
        groups = [security_groups.default(tx, account, vpc_id)]
    return Ground(image, key, subnets, groups)


def _subnets(tx: Tx, account: str, launch: Launch) -> dict[str, Subnet]:
    """The subnet asked for, or the default ones of the zones that will do."""
    if launch.nic.subnet_id:
        subnet = network.subnet(tx, account, launch.nic.subnet_id)
        if launch.zone and launch.zone != subnet.zone:
            raise InvalidParameterValue(
                f"The availability zone '{launch.zone}' is not that of the subnet '{subnet.id}'"
            )
        return {subnet.zone: subnet}
    found = {each.zone: each for each in network.default_subnets(tx, account)}
    if launch.zone:
        found = {zone: each for zone, each in found.items() if zone == launch.zone}
        if not found:
            raise InvalidParameterValue(f"Invalid availability zone: [{launch.zone}]")
    elif launch.nic.address is not None:  # the address says which subnet
        found = {zone: each for zone, each in found.items() if _holds(each, launch.nic.address)}
    if not found:
        raise InvalidParameterCombination("No default subnet fits. Name a subnet with SubnetId.")
    return found


def _holds(subnet: Subnet, address: int) -> bool:
    block = subnet.block()
    return int(block.network_address) <= address <= int(block.broadcast_address)


def _check_image(launch: Launch, image: Image) -> None:
    if image.state != "available":
        raise InvalidAMIIDUnavailable(f"The image ID '{image.id}' is not available")
    if image.architecture not in launch.type.architectures:
        raise InvalidParameterValue(
            f"The architecture '{','.join(launch.type.architectures)}' of the specified instance type does"
            f" not match the architecture '{image.architecture}' of the specified AMI."
        )


async def _place(call: Call, launch: Launch, ground: Ground, batch: Batch) -> Placed:
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
    for zone in _zones(call, launch, ground):
        try:
            outcome = await clusters.at(zone).place(ask)
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise as_aws_error(fault) from fault
            unreachable = fault
            continue
        if outcome.placements:
            return Placed(ground.subnets[zone], list(outcome.placements))
        refused = outcome, zone
    if refused is not None:
        raise refusal(refused[0].refusal, refused[1], launch.type.name, launch.host_id)
    raise as_aws_error(unreachable or Fault(Kind.UNAVAILABLE, "No zone can be reached."))


def _zones(call: Call, launch: Launch, ground: Ground) -> list[str]:
    """Where to ask, in this order."""
    zones = [each for each in call.cloud.clusters.roomiest() if each in ground.subnets]
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
