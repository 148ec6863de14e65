"""Who may do what, until there are policies: the root of an account everything in it, a user nothing.

Refusing a user is the default of IAM: what no policy allows is denied. What concerns the nodes is for
the account that the cloud was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mallee.aws.actions import Action
from mallee.aws.context import Request
from mallee.aws.errors import AccessDenied, AwsError, UnauthorizedOperation

# Asking who one is needs no permission. Source: the API reference of GetCallerIdentity.
_FREE = frozenset({("sts", "GetCallerIdentity")})
# What an ordinary account must not even try.
_OPERATORS = frozenset(
    {
        ("ec2", "CancelInstanceMigration"),
        ("ec2", "CreateNodeToken"),
        ("ec2", "DescribeAudit"),
        ("ec2", "MigrateInstances"),
        ("ec2", "ModifyHosts"),
    }
)


class RootOnly:
    """The authoriser of the front door.

    Args:
        admin_account: whose root runs the cloud.
    """

    def __init__(self, admin_account: str) -> None:
        self._admin = admin_account

    async def authorise(self, request: Request, action: Action, parameters: Mapping[str, Any]) -> None:
        principal, asked = request.principal, (request.service, action.name)
        if asked in _FREE:
            return
        if not principal.is_root:
            raise _denied(
                request.service,
                f"User: {principal.arn} is not authorized to perform: {request.service}:{action.name} because"
                f" no identity-based policy allows the {request.service}:{action.name} action. This cloud has"
                " no policies yet: use an access key of the account's root.",
            )
        if principal.account_id != self._admin and (asked in _OPERATORS or _names_a_node(parameters)):
            raise _denied(
                request.service,
                f"{action.name} on nodes is for the account that the cloud was made with.",
            )


def _names_a_node(parameters: Mapping[str, Any]) -> bool:
    """Whether a launch or a move says which node."""
    placement = parameters.get("Placement")
    named = placement.get("HostId") if isinstance(placement, Mapping) else None
    return bool(named or parameters.get("HostId"))


def _denied(service: str, why: str) -> AwsError:
    """EC2 begins each refusal with the same sentence, which clients look for."""
    if service == "ec2":
        return UnauthorizedOperation(f"You are not authorized to perform this operation. {why}")
    return AccessDenied(why)
