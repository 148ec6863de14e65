"""A bucket's lifecycle, read and replaced; `reconcile.lifecycle` carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from mallee.walrus.api import BUCKET, Req, s3
from mallee.walrus.api.settings import documents
from mallee.walrus.api.settings.lifecycle_rules import LIFECYCLE
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result

_MINIMUM: Final = "all_storage_classes_128K"
_ACTIONS: Final = ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")


@s3.operation("GetBucketLifecycleConfiguration", accepts=BUCKET)
async def get_bucket_lifecycle_configuration(call: Call, _: Req) -> Result:
    """The rules."""
    found = documents.required(call.home, LIFECYCLE, "NoSuchLifecycleConfiguration")
    rules = []
    for rule in found["Rules"]:
        ends = rule.get("Expiration") or {}
        if ends.get("Date"):
            ends["Date"] = datetime.fromisoformat(ends["Date"])
        rules.append(rule)
    return {"Rules": rules, "TransitionDefaultMinimumObjectSize": _MINIMUM}


@s3.operation(
    "PutBucketLifecycleConfiguration",
    accepts=(*BUCKET, "LifecycleConfiguration", "TransitionDefaultMinimumObjectSize"),
)
async def put_bucket_lifecycle_configuration(call: Call, req: Req) -> Result:
    """Replace the rules: expiration, of old versions too, and the end of abandoned uploads."""
    asked = req.get("TransitionDefaultMinimumObjectSize") or _MINIMUM
    if asked not in {_MINIMUM, "varies_by_storage_class"}:
        raise S3Error("InvalidArgument", ArgumentName="x-amz-transition-default-minimum-object-size")
    rules = (req.get("LifecycleConfiguration") or {}).get("Rules") or []
    if not 1 <= len(rules) <= 1000:
        raise S3Error("MalformedXML")
    _name(rules)
    for rule in rules:
        _check(rule)
    await documents.put(call, LIFECYCLE, {"Rules": rules})
    return {"TransitionDefaultMinimumObjectSize": asked}


@s3.operation("DeleteBucketLifecycle", accepts=BUCKET)
async def delete_bucket_lifecycle(call: Call, _: Req) -> Result:
    """Nothing ends by itself any more."""
    await documents.remove(call, LIFECYCLE)
    return None


def _name(rules: Sequence[dict[str, Any]]) -> None:
    """Each rule has an id of its own; one that was given none is numbered."""
    for number, rule in enumerate(rules, 1):
        rule["ID"] = rule.get("ID") or f"rule-{number}"
        if len(rule["ID"]) > 255:
            raise S3Error("InvalidArgument", "ID length should not exceed allowed limit of 255")
    if len({rule["ID"] for rule in rules}) < len(rules):
        raise S3Error("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")


def _check(rule: Mapping[str, Any]) -> None:
    if rule.get("Transitions") or rule.get("NoncurrentVersionTransitions"):
        raise S3Error(
            "NotImplemented",
            "This cloud has one class of storage: nothing moves to another.",
            Header="Transition",
        )
    if rule.get("Status") not in {"Enabled", "Disabled"} or not any(rule.get(name) for name in _ACTIONS):
        raise S3Error("MalformedXML")
    if ("Prefix" in rule) is ("Filter" in rule):
        raise S3Error("MalformedXML")
    ends = rule.get("Expiration") or {}
    if ends and len(ends) != 1:
        raise S3Error("MalformedXML")
    if isinstance(ends.get("Date"), datetime) and ends["Date"].strftime("%H%M%S%f") != "000000000000":
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    replaced, abort = (
        rule.get("NoncurrentVersionExpiration") or {},
        rule.get("AbortIncompleteMultipartUpload") or {},
    )
    for name, days in (
        ("Expiration", ends.get("Days")),
        ("NoncurrentVersionExpiration", replaced.get("NoncurrentDays")),
        ("AbortIncompleteMultipartUpload", abort.get("DaysAfterInitiation")),
    ):
        if days is not None and not 0 < days < 2**31:
            raise S3Error("InvalidArgument", f"'Days' for {name} action must be a positive integer")
    if replaced and "NoncurrentDays" not in replaced:
        raise S3Error("MalformedXML")
    if not 0 <= (replaced.get("NewerNoncurrentVersions") or 0) <= 100:
        raise S3Error("InvalidArgument", "'NewerNoncurrentVersions' must be between 1 and 100")
    _check_filter(rule.get("Filter") or {}, uploads=bool(abort))


def _check_filter(chosen: Mapping[str, Any], *, uploads: bool) -> None:
    if len(chosen) > 1:
        raise S3Error("MalformedXML")
    both = chosen.get("And") or {}
    if "And" in chosen and len(both) + len(both.get("Tags") or ()) - ("Tags" in both) < 2:
        raise S3Error("MalformedXML")
    sized = {"ObjectSizeGreaterThan", "ObjectSizeLessThan"} & (set(chosen) | set(both))
    if uploads and (sized or chosen.get("Tag") or both.get("Tags")):
        raise S3Error(
            "InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Tags or object sizes"
        )
