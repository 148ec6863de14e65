"""Who am I: the first question of every tool."""

from __future__ import annotations

from mallee.clc.api.sts import sts
from mallee.clc.call import Call


@sts.action("GetCallerIdentity")
async def get_caller_identity(call: Call, _req: dict[str, object]) -> dict[str, str]:
    """The account, the user's unique id and the ARN of whoever signed."""
    principal = call.request.principal
    return {"UserId": principal.user_id, "Account": principal.account_id, "Arn": principal.arn}
