"""Object lock: what may not be deleted or overwritten, until when, and who may anyway.

Source: "Locking objects with Object Lock". The store keeps the rule; here are its documents.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast

from mallee.walrus.api import BUCKET, OBJECT, Req, s3
from mallee.walrus.api.finding import find
from mallee.walrus.api.settings import documents
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call, Result
from mallee.walrus.store import Bucket, Lock

LOCK: Final = "object-lock"
LOCKING: Final = ("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus")
_LOCKS: Final = frozenset(LOCKING)
_FREE: Final = Lock()
_MODES: Final = ("GOVERNANCE", "COMPLIANCE")
_LONGEST_DAYS: Final = 36_500
_Mode = Literal["", "GOVERNANCE", "COMPLIANCE"]


def new_lock(req: Req, home: Bucket, now: datetime) -> Lock:
    """The lock of a new object: what its request says, else the bucket's default.

    Raises:
        S3Error: InvalidRequest, InvalidArgument.
    """
    if not home.object_lock and _LOCKS.isdisjoint(req):
        return _FREE
    mode, until, hold = (req.get(name) for name in LOCKING)
    if (mode or until or hold) and not home.object_lock:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    if hold not in {None, "ON", "OFF"}:
        raise S3Error(
            "InvalidArgument", "Legal Hold must be either of 'ON' or 'OFF'", ArgumentValue=str(hold)[:64]
        )
    if bool(mode) is not bool(until):
        raise S3Error(
            "InvalidArgument",
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        )
    lock = _retention(mode, until, now) if mode and until else _default(home, now)
    return replace(lock, legal_hold=hold == "ON")


def _retention(mode: str, until: datetime, now: datetime) -> Lock:
    if mode not in _MODES:
        raise S3Error("InvalidArgument", "Unknown wormMode directive.", ArgumentValue=mode[:64])
    if until.astimezone(UTC) <= now:
        raise S3Error("InvalidArgument", "The retain until date must be in the future!")
    return Lock(cast("_Mode", mode), until.astimezone(UTC))


def _default(home: Bucket, now: datetime) -> Lock:
    rule = (
        ((documents.read(home, LOCK) or {}).get("Rule") or {}).get("DefaultRetention")
        if home.object_lock
        else None
    )
    if not rule:
        return Lock()
    return Lock(rule["Mode"], _after(now, rule.get("Days"), rule.get("Years")))


def _after(now: datetime, days: int | None, years: int | None) -> datetime:
    if days:
        return now + timedelta(days=days)
    year = now.year + (years or 0)
    last = calendar.monthrange(year, now.month)[1]  # the 29th of February has no namesake in most years
    return now.replace(year=year, day=min(now.day, last))


@s3.operation("GetObjectLockConfiguration", accepts=BUCKET)
async def get_object_lock_configuration(call: Call, _: Req) -> Result:
    """Whether the bucket locks objects, and its default retention."""
    if not call.home.object_lock:
        raise S3Error("ObjectLockConfigurationNotFoundError", BucketName=call.bucket)
    rule = documents.read(call.home, LOCK) or {}
    return {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", **rule}}


@s3.operation("PutObjectLockConfiguration", accepts=(*BUCKET, "RequestPayer", "ObjectLockConfiguration"))
async def put_object_lock_configuration(call: Call, req: Req) -> Result:
    """Enable object lock in a bucket with versioning, and set the default retention of new objects."""
    asked = req.get("ObjectLockConfiguration") or {}
    if asked.get("ObjectLockEnabled") != "Enabled":
        raise S3Error("MalformedXML")
    rule = asked.get("Rule")
    if rule is not None:
        _check_default(rule.get("DefaultRetention") or {})
    if not call.home.object_lock:
        await call.store.enable_object_lock(call.bucket)
    if rule is None:
        await documents.remove(call, LOCK)
    else:
        await documents.put(call, LOCK, {"Rule": rule})
    return None


def _check_default(retention: Mapping[str, Any]) -> None:
    days, years = retention.get("Days"), retention.get("Years")
    if retention.get("Mode") not in _MODES or (days is None) is (years is None):
        raise S3Error("MalformedXML")
    if not 0 < (days if days is not None else (years or 0) * 365) <= _LONGEST_DAYS:
        raise S3Error("InvalidArgument", "Default retention period must be a positive integer value.")


@s3.operation("GetObjectRetention", accepts=(*OBJECT, "VersionId"))
async def get_object_retention(call: Call, req: Req) -> Result:
    """Until when a version is kept."""
    lock = (await find(call, req.get("VersionId"))).lock
    _check_locks(call.home)
    if not lock.mode:
        raise S3Error("NoSuchObjectLockConfiguration", Key=call.key)
    return {"Retention": {"Mode": lock.mode, "RetainUntilDate": lock.until}}


@s3.operation("PutObjectRetention", accepts=(*OBJECT, "VersionId", "Retention", "BypassGovernanceRetention"))
async def put_object_retention(call: Call, req: Req) -> Result:
    """Keep a version until a date. Less is only for who may bypass governance, and never in compliance mode."""
    _check_locks(call.home)
    version = await find(call, req.get("VersionId"))
    asked = req.get("Retention") or {}
    mode, until = asked.get("Mode"), asked.get("RetainUntilDate")
    if bool(mode) is not bool(until):
        raise S3Error("MalformedXML")
    retention = _retention(mode, until, call.now) if mode and until else Lock()
    lock = replace(retention, legal_hold=version.lock.legal_hold)
    bypass = bool(req.get("BypassGovernanceRetention"))
    await call.store.set_lock(call.bucket, call.key, req.get("VersionId"), lock, bypass_governance=bypass)
    return None


@s3.operation("GetObjectLegalHold", accepts=(*OBJECT, "VersionId"))
async def get_object_legal_hold(call: Call, req: Req) -> Result:
    """Whether a version is held."""
    lock = (await find(call, req.get("VersionId"))).lock
    _check_locks(call.home)
    return {"LegalHold": {"Status": "ON" if lock.legal_hold else "OFF"}}


@s3.operation("PutObjectLegalHold", accepts=(*OBJECT, "VersionId", "LegalHold"))
async def put_object_legal_hold(call: Call, req: Req) -> Result:
    """Hold a version, or let it go."""
    _check_locks(call.home)
    status = (req.get("LegalHold") or {}).get("Status")
    if status not in {"ON", "OFF"}:
        raise S3Error("MalformedXML")
    version = await find(call, req.get("VersionId"))
    lock = replace(version.lock, legal_hold=status == "ON")
    await call.store.set_lock(call.bucket, call.key, req.get("VersionId"), lock)
    return None


def _check_locks(home: Bucket) -> None:
    if not home.object_lock:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
