"""What a launch stands on: its image, key, subnets and security groups.

A launch looks at it before it claims capacity; in its transaction it must be the same, which a count tells
that rises with everything that such things lose. So the look may be at what an earlier launch of the same
kind has seen: if anything has changed since, the launch begins anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from mallee.aws.errors import InvalidParameterCombination, InvalidParameterValue
from mallee.clc.api.ec2.instances.launch_request import Launch
from mallee.clc.db import images, key_pairs, network, security_groups, settings
from mallee.clc.db.images import Image
from mallee.clc.db.network import Subnet
from mallee.clc.db.security_groups import Group
from mallee.kernel.db import Tx


class GroundMoved(Exception):  # noqa: N818 - nothing failed; the launch begins anew
    """What a launch stands on has changed since it looked."""


class Ground(NamedTuple):
    """Read in one snapshot, when so many moves had been counted.

    `subnets` are the places it may go to, by zone, without their counters.
    """

    image: Image
    public_key: str
    subnets: dict[str, Subnet]
    groups: list[Group]
    moves: int


def kind(account: str, launch: Launch) -> Hashable:
    """Launches of one kind stand on the same ground."""
    return account, launch.image_id, launch.key_name, launch.nic, launch.zone


def look(tx: Tx, account: str, launch: Launch) -> Ground:
    """The ground of a launch. Raises AWS's error for what does not exist, or does not go together."""
    image = images.get(tx, account, launch.image_id, images.MACHINE)
    key = key_pairs.get(tx, account, launch.key_name).public_key if launch.key_name else ""
    subnets = _subnets(tx, account, launch)
    vpc_id = next(iter(subnets.values())).vpc_id
    ids, names = launch.nic.group_ids, launch.nic.group_names
    if ids or names:
        groups = security_groups.resolve(tx, account, vpc_id, ids=ids, names=names)
    else:
        groups = [security_groups.default(tx, account, vpc_id)]
    still = {zone: each._replace(free=0, cursor=0) for zone, each in subnets.items()}
    return Ground(image, key, still, groups, settings.count(tx, settings.GROUND))


def check(tx: Tx, found: Ground) -> None:
    """Raises GroundMoved if it may have changed since."""
    if settings.count(tx, settings.GROUND) != found.moves:
        raise GroundMoved


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
