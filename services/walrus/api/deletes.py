"""Objects, deleted: one, or up to a thousand in one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mallee.walrus.access.authorise import permits
from mallee.walrus.access.needs import DELETE, Need
from mallee.walrus.api import BUCKET, OBJECT, Req, s3
from mallee.walrus.api.headers import unquoted
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Conditions, Deleted, Doomed

_MOST: Final = 1000
_BYPASS: Final = Need("s3:BypassGovernanceRetention", "object")


@s3.operation(
    "DeleteObject",
    accepts=(
        *(*OBJECT, "VersionId", "BypassGovernanceRetention"),
        *("IfMatch", "IfMatchLastModifiedTime", "IfMatchSize"),
    ),
)
async def delete_object(call: Call, req: Req) -> Result:
    """Delete an object, or one version of it; in a bucket with versions a delete marker hides what there is."""
    conditions = Conditions(
        if_match=unquoted(req.get("IfMatch")),
        size=req.get("IfMatchSize"),
        modified=req.get("IfMatchLastModifiedTime"),
    )
    done: Deleted = await call.store.delete(
        call.bucket,
        call.key,
        req.get("VersionId"),
        conditions=conditions,
        bypass_governance=bool(req.get("BypassGovernanceRetention")),
        owner=_owner(call),
    )
    answer: dict[str, Any] = {}
    if done.version_id and call.home.versioning:
        answer["VersionId"] = done.version_id
    if done.delete_marker:
        answer["DeleteMarker"] = True
    return answer


@s3.operation(
    "DeleteObjects",
    accepts=(*BUCKET, "RequestPayer", "Delete", "BypassGovernanceRetention"),
)
async def delete_objects(call: Call, req: Req) -> Result:
    """Delete up to 1,000 objects; each is allowed, found and refused by itself."""
    asked = req["Delete"].get("Objects") or []
    if not 1 <= len(asked) <= _MOST:
        raise S3Error("MalformedXML")
    bypass = bool(req.get("BypassGovernanceRetention"))
    refused = [await _refusal(call, one, bypass=bypass) for one in asked]
    doomed = [_doomed(one) for one, error in zip(asked, refused, strict=True) if error is None]
    results = iter(
        await call.store.delete_many(call.bucket, doomed, bypass_governance=bypass, owner=_owner(call))
        if doomed
        else ()
    )
    deleted, errors = [], []
    for one, error in zip(asked, refused, strict=True):
        outcome = error or next(results)
        if isinstance(outcome, S3Error):
            errors.append(_named(one) | {"Code": outcome.code, "Message": outcome.message})
        else:
            deleted.append(_told(call, one, outcome))
    return {"Deleted": [] if req["Delete"].get("Quiet") else deleted, "Errors": errors}


async def _refusal(call: Call, one: Mapping[str, Any], *, bypass: bool) -> S3Error | None:
    key, version = one["Key"], one.get("VersionId")
    if not key or len(key.encode()) > 1024:
        return S3Error("KeyTooLongError" if key else "UserKeyMustBeSpecified")
    needed = [DELETE._replace(action="s3:DeleteObjectVersion") if version else DELETE]
    if bypass:
        needed.append(_BYPASS)
    for need in needed:
        if not await permits(call, call.home, need, key, version):
            return S3Error("AccessDenied")
    return None


def _doomed(one: Mapping[str, Any]) -> Doomed:
    conditions = Conditions(
        if_match=unquoted(one.get("ETag")), size=one.get("Size"), modified=one.get("LastModifiedTime")
    )
    return Doomed(one["Key"], one.get("VersionId"), conditions)


def _named(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"Key": one["Key"]} | ({"VersionId": one["VersionId"]} if one.get("VersionId") else {})


def _told(call: Call, one: Mapping[str, Any], done: Deleted) -> dict[str, Any]:
    told = _named(one)
    if done.delete_marker and call.home.versioning:
        told |= {"DeleteMarker": True, "DeleteMarkerVersionId": done.version_id}
    return told


def _owner(call: Call) -> str:
    owner: str = call.principal.account_id if call.principal else call.home.owner
    return owner
