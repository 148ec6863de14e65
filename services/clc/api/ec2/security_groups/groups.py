"""Security groups: made, described, deleted. Their rules are in `rules`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mallee.aws.errors import InvalidParameterValue, MissingParameter
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.call import Call
from mallee.clc.db import interfaces, network, security_groups, tags
from mallee.clc.db.security_groups import Group
from mallee.clc.errors import (
    CannotDelete,
    DependencyViolation,
    InvalidGroupDuplicate,
    InvalidGroupNotFound,
    VPCIdNotSpecified,
)
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        CreateSecurityGroupRequestTypeDef,
        DeleteSecurityGroupRequestTypeDef,
    )

Result = dict[str, object]

_is_text = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}").fullmatch


def arn(call: Call, kind: str, resource: str) -> str:
    """A resource of the caller's account."""
    return f"arn:aws:ec2:{call.cloud.config.region}:{call.account}:{kind}/{resource}"


def meant(tx: Tx, account: str, group_id: str | None, name: str | None) -> Group:
    """The group of that id, or of that name in the default VPC.

    Raises:
        MissingParameter: neither.
        InvalidGroupIdMalformed, InvalidGroupNotFound
    """
    if group_id:
        return security_groups.get(tx, account, group_id)
    if not name:
        raise MissingParameter("GroupName or GroupId")
    home = network.default_vpc(tx, account)
    found = security_groups.by_names(tx, account, home.id, (name,)) if home else []
    if not found:
        raise InvalidGroupNotFound(name)
    return found[0]


def _check_text(what: str, text: str) -> None:
    if not _is_text(text):
        raise InvalidParameterValue(
            f"Value ({text[:300]}) for parameter {what} is invalid. Character sets beyond ASCII are not"
            " supported, and it must have 1 to 255 of a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{}!$*"
        )


@ec2.action(
    "CreateSecurityGroup", accepts=("GroupName", "Description", "VpcId", "TagSpecifications", "DryRun")
)
async def create_security_group(call: Call, req: CreateSecurityGroupRequestTypeDef) -> Result:
    """A new group of the VPC named, or of the default one. It lets everything out and nothing in."""
    name, description = req["GroupName"].rstrip(" "), req["Description"]  # trimmed as on EC2
    _check_text("GroupName", name)
    _check_text("GroupDescription", description)
    if name.lower().startswith("sg-"):
        raise InvalidParameterValue(f"Invalid value '{name}' for groupName. It may not start with 'sg-'.")
    if name.lower() == "default":
        raise InvalidParameterValue(f"Cannot use reserved security group name: {name}")
    wanted = tagging.specified(req.get("TagSpecifications", ()), "security-group")["security-group"]
    entropy, now_ms = call.cloud.entropy, call.now_ms
    group_id, rule_id = resource_id(entropy, "sg"), resource_id(entropy, "sgr")

    def work(tx: Tx) -> str:
        vpc_id = _vpc(tx, call.account, req.get("VpcId"))
        if security_groups.by_names(tx, call.account, vpc_id, (name,)):
            raise InvalidGroupDuplicate(f"The security group '{name}' already exists for VPC '{vpc_id}'")
        group = Group(group_id, call.account, vpc_id, name, description, now_ms)
        security_groups.add(tx, group, (security_groups.all_out(group, rule_id),))
        tags.attach(tx, call.account, "security-group", (group_id,), wanted)
        return group_id

    made = await call.change(work, str)
    answer: Result = {"GroupId": made, "SecurityGroupArn": arn(call, "security-group", made)}
    if wanted:
        answer["Tags"] = tagging.shown(wanted)
    return answer


def _vpc(tx: Tx, account: str, vpc_id: str | None) -> str:
    if vpc_id is not None:
        return network.vpc(tx, account, vpc_id).id
    home = network.default_vpc(tx, account)
    if home is None:
        raise VPCIdNotSpecified("No default VPC for this user")
    return home.id


@ec2.action("DeleteSecurityGroup", accepts=("GroupId", "GroupName", "DryRun"))
async def delete_security_group(call: Call, req: DeleteSecurityGroupRequestTypeDef) -> Result:
    """Forget a group that guards nothing and that no other group's rule names."""

    def work(tx: Tx) -> str:
        group = meant(tx, call.account, req.get("GroupId"), req.get("GroupName"))
        if group.is_default:
            raise CannotDelete(
                f'the specified group: "{group.id}" name: "{group.name}" cannot be deleted by a user'
            )
        if interfaces.guarded(tx, group.id) or security_groups.referenced(tx, group.id):
            raise DependencyViolation(f"resource {group.id} has a dependent object")
        rules = security_groups.rules_of(tx, (group.id,))[group.id]
        tags.drop(tx, call.account, (group.id, *(rule.id for rule in rules)))
        security_groups.remove(tx, call.account, group.id)
        return group.id

    return {"Return": True, "GroupId": await call.change(work, str)}
