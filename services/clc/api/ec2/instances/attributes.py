"""Reading and changing one attribute of one instance; metadata options; detailed monitoring."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mallee.aws.errors import (
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    UnsupportedOperation,
)
from mallee.clc import wishes
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.instances import launch_request, view
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.api.ec2.instances.launch_request import one_of
from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.call import Call
from mallee.clc.db import instances, interfaces, security_groups, tags
from mallee.clc.db.instances import Details, InstanceRow
from mallee.clc.errors import IncorrectInstanceState, InvalidInstanceAttributeValue
from mallee.clc.instance import State
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        DescribeInstanceAttributeRequestTypeDef,
        ModifyInstanceAttributeRequestTypeDef,
        ModifyInstanceMetadataOptionsRequestTypeDef,
        MonitorInstancesRequestTypeDef,
        ResetInstanceAttributeRequestTypeDef,
        UnmonitorInstancesRequestTypeDef,
    )

# The attribute's name, the member of the request that sets it, the member of the answer that shows it.
_MEMBERS = {
    "instanceType": "InstanceType",
    "userData": "UserData",
    "disableApiTermination": "DisableApiTermination",
    "disableApiStop": "DisableApiStop",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
    "sourceDestCheck": "SourceDestCheck",
    "ebsOptimized": "EbsOptimized",
    "enaSupport": "EnaSupport",
    "sriovNetSupport": "SriovNetSupport",
    "enclaveOptions": "EnclaveOptions",
    "groupSet": "Groups",
    "kernel": "Kernel",
    "ramdisk": "Ramdisk",
    "blockDeviceMapping": "BlockDeviceMappings",
}


@ec2.action("DescribeInstanceAttribute", accepts=("InstanceId", "Attribute", "DryRun"))
async def describe_instance_attribute(
    call: Call, req: DescribeInstanceAttributeRequestTypeDef
) -> dict[str, Any]:
    """One attribute of one instance."""
    ids, attribute = checked_ids([req["InstanceId"]]), req["Attribute"]
    show = _SHOWN.get(attribute)
    if show is None:
        raise _unknown(attribute)

    def look(tx: Tx) -> tuple[Seen, bytes]:
        seen = view.look(tx, call.account, instances.mine(tx, call.account, ids))[0]
        return seen, instances.user_data_of(tx, ids).get(ids[0], b"")

    seen, data = await call.cloud.db.read(look)
    return {"InstanceId": ids[0], **show(seen, data)}


def _value(member: str, read: Callable[[Seen], Any]) -> Callable[[Seen, bytes], dict[str, Any]]:
    return lambda seen, _: {member: {"Value": read(seen)}}


def _user_data(_seen: Seen, data: bytes) -> dict[str, Any]:
    return {"UserData": {"Value": b64encode(data).decode()} if data else {}}


def _groups(seen: Seen, _data: bytes) -> dict[str, Any]:
    groups = seen.wired[0].groups if seen.wired else ()
    return {"Groups": [{"GroupId": each, "GroupName": name} for each, name in groups]}


_SHOWN: Mapping[str, Callable[[Seen, bytes], dict[str, Any]]] = {
    "instanceType": _value("InstanceType", lambda seen: seen.row.instance_type),
    "userData": _user_data,
    "disableApiTermination": _value("DisableApiTermination", lambda seen: seen.details.keep_from_termination),
    "disableApiStop": _value("DisableApiStop", lambda seen: seen.details.keep_from_stop),
    "instanceInitiatedShutdownBehavior": _value(
        "InstanceInitiatedShutdownBehavior", lambda seen: seen.details.shutdown_behavior
    ),
    "rootDeviceName": _value("RootDeviceName", lambda seen: seen.details.root_device_name),
    "sourceDestCheck": _value(
        "SourceDestCheck", lambda seen: seen.wired[0].nic.source_dest_check if seen.wired else True
    ),
    "ebsOptimized": _value("EbsOptimized", lambda seen: seen.details.ebs_optimized),
    "enaSupport": _value("EnaSupport", lambda _: True),
    "sriovNetSupport": lambda _seen, _data: {"SriovNetSupport": {}},
    "enclaveOptions": lambda _seen, _data: {"EnclaveOptions": {"Enabled": False}},
    "groupSet": _groups,
    "kernel": lambda _seen, _data: {"KernelId": {}},
    "ramdisk": lambda _seen, _data: {"RamdiskId": {}},
    "blockDeviceMapping": lambda _seen, _data: {"BlockDeviceMappings": []},
    "productCodes": lambda _seen, _data: {"ProductCodes": []},
}


def _unknown(attribute: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
    )


# --- changing ---------------------------------------------------------------------------------


@ec2.action(
    "ModifyInstanceAttribute",
    accepts=("InstanceId", "Attribute", "Value", "DryRun", *_MEMBERS.values()),
)
async def modify_instance_attribute(call: Call, req: ModifyInstanceAttributeRequestTypeDef) -> None:
    """Change one attribute; type and user data only of a stopped instance."""
    ids = checked_ids([req["InstanceId"]])
    attribute, value = _asked(req)
    change = _CHANGES.get(attribute)
    if change is None:
        raise UnsupportedOperation(f"The attribute '{attribute}' cannot be changed in this cloud.")

    def work(tx: Tx) -> bool:
        row = instances.mine(tx, call.account, ids)[0]
        if row.is_over:
            raise IncorrectInstanceState(f"The instance '{row.id}' is terminated.")
        change(tx, call, row, value)
        return True

    await call.change(work, bool)


def _asked(req: ModifyInstanceAttributeRequestTypeDef) -> tuple[str, Any]:
    """The one attribute of the request, in either of its two forms."""
    given: dict[str, Any] = {
        name: req[member]  # type: ignore[literal-required]
        for name, member in _MEMBERS.items()
        if member in req
    }
    if "Attribute" in req:
        if given:
            raise InvalidParameterCombination("Fields for multiple attribute types specified")
        if "Value" not in req:
            raise MissingParameter("Value")
        return req["Attribute"], _converted(req["Attribute"], req["Value"])
    if len(given) != 1:
        raise InvalidParameterCombination(
            "Fields for multiple attribute types specified" if given else "No attributes specified."
        )
    name, value = given.popitem()
    return name, value.get("Value", value.get("Enabled")) if isinstance(value, dict) else value


def _converted(attribute: str, text: str) -> Any:
    """A value that came as text, in the type of its attribute."""
    if attribute in {
        *("disableApiTermination", "disableApiStop", "sourceDestCheck", "ebsOptimized", "enaSupport"),
    }:
        return one_of("value", text.lower(), "true", "false") == "true"
    return launch_request.decode_user_data(text) if attribute == "userData" else text


def _save(tx: Tx, row: InstanceRow, details: Details, instance_type: str = "") -> None:
    changed = row._replace(
        version=row.version + 1,
        details=instances.encode(details),
        instance_type=instance_type or row.instance_type,
    )
    instances.save_details(tx, [changed])


def _set(field: str, check: Callable[[Any], Any]) -> Callable[[Tx, Call, InstanceRow, Any], None]:
    """A change of one member of the details."""

    def change(tx: Tx, _call: Call, row: InstanceRow, value: Any) -> None:
        details = instances.decode(row.details)
        _save(tx, row, msgspec.structs.replace(details, **{field: check(value)}))

    return change


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInstanceAttributeValue("The attribute needs a value of true or false.")
    return value


def _set_type(tx: Tx, call: Call, row: InstanceRow, value: Any) -> None:
    _must_be_stopped(row)
    details = instances.decode(row.details)
    kind = call.cloud.types.get(str(value))[0]
    if details.architecture not in kind.architectures:
        raise InvalidInstanceAttributeValue(
            f"The instance type '{kind.name}' does not have the architecture '{details.architecture}'."
        )
    keeps_credits = bool(details.credits) and kind.burstable
    changed = msgspec.structs.replace(
        details,
        vcpus=kind.vcpus,
        memory_mib=kind.memory_mib,
        cores=kind.cores,
        threads_per_core=kind.threads,
        credits=details.credits if keeps_credits else kind.credits,
        ebs_optimized=details.ebs_optimized and kind.ebs is not None,
    )
    _save(tx, row, changed, kind.name)


def _set_user_data(tx: Tx, _call: Call, row: InstanceRow, value: Any) -> None:
    _must_be_stopped(row)
    data = launch_request.checked_user_data(bytes(value or b""))
    instances.keep_user_data(tx, [row.id], data)
    _save(tx, row, msgspec.structs.replace(instances.decode(row.details), has_user_data=bool(data)))


def _set_groups(tx: Tx, call: Call, row: InstanceRow, value: Any) -> None:
    if not value or not isinstance(value, list):
        raise InvalidParameterValue("An instance needs at least one security group.")
    groups = security_groups.resolve(tx, call.account, row.vpc_id, ids=value)
    nics = interfaces.of_instances(tx, call.account, [row.id])
    interfaces.regroup(tx, [nic.id for nic in nics if nic.device_index == 0], [each.id for each in groups])
    instances.touch(tx, call.account, [row.id])


def _set_source_dest_check(tx: Tx, call: Call, row: InstanceRow, value: Any) -> None:
    nics = interfaces.of_instances(tx, call.account, [row.id])
    interfaces.check_source_dest(
        tx, [nic.id for nic in nics if nic.device_index == 0], wanted=_boolean(value)
    )
    instances.touch(tx, call.account, [row.id])


def _set_ebs_optimized(tx: Tx, call: Call, row: InstanceRow, value: Any) -> None:
    _must_be_stopped(row)
    kind = call.cloud.types.get(row.instance_type)[0]
    wished = launch_request.ebs_optimized(kind, wished=_boolean(value))
    _save(tx, row, msgspec.structs.replace(instances.decode(row.details), ebs_optimized=wished))


def _only(allowed: object, attribute: str) -> Callable[[Tx, Call, InstanceRow, Any], None]:
    """An attribute that every guest here has in one way."""

    def check(_tx: Tx, _call: Call, _row: InstanceRow, value: Any) -> None:
        if value != allowed:
            raise UnsupportedOperation(f"The attribute '{attribute}' can only be '{allowed}' in this cloud.")

    return check


def _must_be_stopped(row: InstanceRow) -> None:
    if row.state != State.STOPPED:
        raise IncorrectInstanceState(f"The instance '{row.id}' is not in the 'stopped' state.")


_CHANGES: Mapping[str, Callable[[Tx, Call, InstanceRow, Any], None]] = {
    "instanceType": _set_type,
    "userData": _set_user_data,
    "disableApiTermination": _set("keep_from_termination", _boolean),
    "disableApiStop": _set("keep_from_stop", _boolean),
    "instanceInitiatedShutdownBehavior": _set(
        "shutdown_behavior",
        lambda value: one_of("instanceInitiatedShutdownBehavior", str(value), "stop", "terminate"),
    ),
    "groupSet": _set_groups,
    "sourceDestCheck": _set_source_dest_check,
    "ebsOptimized": _set_ebs_optimized,
    "enaSupport": _only(allowed=True, attribute="enaSupport"),
    "sriovNetSupport": _only("simple", "sriovNetSupport"),
    "enclaveOptions": _only(allowed=False, attribute="enclaveOptions"),
}


@ec2.action("ResetInstanceAttribute", accepts=("InstanceId", "Attribute", "DryRun"))
async def reset_instance_attribute(call: Call, req: ResetInstanceAttributeRequestTypeDef) -> None:
    """Put the source/destination check back to true; kernels and RAM disks do not exist here."""
    ids = checked_ids([req["InstanceId"]])
    attribute = req["Attribute"]
    if attribute in {"kernel", "ramdisk"}:
        raise UnsupportedOperation(f"The attribute '{attribute}' cannot be changed in this cloud.")
    if attribute != "sourceDestCheck":
        raise InvalidParameterValue(f"The attribute '{attribute}' cannot be reset.")

    def work(tx: Tx) -> bool:
        _set_source_dest_check(tx, call, instances.mine(tx, call.account, ids)[0], value=True)
        return True

    await call.change(work, bool)


@ec2.action(
    "ModifyInstanceMetadataOptions",
    accepts=(
        *("InstanceId", "HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "HttpProtocolIpv6"),
        *("InstanceMetadataTags", "DryRun"),
    ),
)
async def modify_instance_metadata_options(
    call: Call, req: ModifyInstanceMetadataOptionsRequestTypeDef
) -> dict[str, Any]:
    """Change how the guest may ask for its metadata; `pending` until its node has heard of it."""
    ids = checked_ids([req["InstanceId"]])

    def work(tx: Tx) -> str:
        row = instances.mine(tx, call.account, ids)[0]
        if row.is_over:
            raise IncorrectInstanceState(f"The instance '{row.id}' is terminated.")
        details = instances.decode(row.details)
        options = launch_request.metadata_options(req, details.metadata)
        if options != details.metadata:
            if options.tags == "enabled":
                tagging.check_shown_to_guests(tags.of(tx, call.account, ids).get(row.id, {}))
            changed = wishes.describe(row, msgspec.structs.replace(details, metadata=options))
            instances.save_described(tx, [changed])
        return row.id

    await call.change(work, str)
    row = (await call.cloud.db.read(lambda tx: instances.mine(tx, call.account, ids)))[0]
    if row.unsettled:
        call.cloud.clusters.hint({row.id: row.zone})
    options = view.metadata_options(row, instances.decode(row.details))
    return {"InstanceId": row.id, "InstanceMetadataOptions": options}


@ec2.action("MonitorInstances", accepts=("InstanceIds", "DryRun"))
async def monitor_instances(call: Call, req: MonitorInstancesRequestTypeDef) -> dict[str, Any]:
    """Ask for detailed monitoring."""
    return await _monitor(call, req["InstanceIds"], wanted=True)


@ec2.action("UnmonitorInstances", accepts=("InstanceIds", "DryRun"))
async def unmonitor_instances(call: Call, req: UnmonitorInstancesRequestTypeDef) -> dict[str, Any]:
    """Go back to basic monitoring."""
    return await _monitor(call, req["InstanceIds"], wanted=False)


async def _monitor(call: Call, given: Any, *, wanted: bool) -> dict[str, Any]:
    ids = checked_ids(given)

    def work(tx: Tx) -> bool:
        for row in instances.mine(tx, call.account, ids):
            details = instances.decode(row.details)
            if details.monitoring is not wanted:
                _save(tx, row, msgspec.structs.replace(details, monitoring=wanted))
        return True

    await call.change(work, bool)
    state = "enabled" if wanted else "disabled"
    return {"InstanceMonitorings": [{"InstanceId": each, "Monitoring": {"State": state}} for each in ids]}
