"""What a failure between services means to a user of EC2: said here and nowhere else."""

from __future__ import annotations

from mallee.aws.errors import (
    AwsError,
    CodedError,
    InternalError,
    InvalidParameterValue,
    StorageFull,
    Unavailable,
)
from mallee.clc.errors import IncorrectState, InsufficientInstanceCapacity, InvalidHostIDNotFound
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.rpc import common_pb2


class InsufficientHostCapacity(CodedError, status=500):  # noqa: N818 - AWS's code
    """The node that was asked for takes no more."""


def as_aws_error(fault: Fault) -> AwsError:
    """The error that a caller gets for a fault of a call to another service."""
    match fault.kind:
        case Kind.UNAVAILABLE:
            return StorageFull() if fault.code == STORAGE_FULL else Unavailable()
        case Kind.NO_CAPACITY:
            return InsufficientInstanceCapacity(str(fault))
        case Kind.INVALID | Kind.NOT_FOUND:
            return InvalidParameterValue(str(fault))
        case Kind.CONFLICT | Kind.STALE:
            return IncorrectState(str(fault))
        case _:
            return InternalError()


NO_ROOM_ANYWHERE = "no-capacity"


def refusal(cause: common_pb2.Cause, zone: str, instance_type: str, host_id: str) -> AwsError:
    """The error for a placement that a cluster refused."""
    if host_id and cause.code == "not-found":
        return InvalidHostIDNotFound(host_id)
    if host_id:
        return InsufficientHostCapacity(
            f"The host '{host_id}' cannot take the instance: {cause.message or cause.code}."
        )
    return InsufficientInstanceCapacity(
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you"
        f" requested ({zone}). Our system will be working on provisioning additional capacity."
    )
