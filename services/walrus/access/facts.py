"""What a request is known by, as conditions of policies ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from mallee.walrus.access.condition_keys import EXISTING_TAG, REQUESTED_TAG
from mallee.walrus.access.conditions import Values
from mallee.walrus.front.call import Call

_PARAMETERS: Final = {
    "s3:prefix": "Prefix",
    "s3:delimiter": "Delimiter",
    "s3:max-keys": "MaxKeys",
    "s3:versionid": "VersionId",
    "s3:x-amz-acl": "ACL",
    "s3:x-amz-grant-read": "GrantRead",
    "s3:x-amz-grant-write": "GrantWrite",
    "s3:x-amz-grant-read-acp": "GrantReadACP",
    "s3:x-amz-grant-write-acp": "GrantWriteACP",
    "s3:x-amz-grant-full-control": "GrantFullControl",
    "s3:x-amz-copy-source": "CopySource",
    "s3:x-amz-metadata-directive": "MetadataDirective",
    "s3:x-amz-server-side-encryption": "ServerSideEncryption",
    "s3:x-amz-server-side-encryption-customer-algorithm": "SSECustomerAlgorithm",
    "s3:x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "s3:x-amz-storage-class": "StorageClass",
    "s3:x-amz-website-redirect-location": "WebsiteRedirectLocation",
    "s3:x-amz-object-ownership": "ObjectOwnership",
    "s3:if-match": "IfMatch",
    "s3:if-none-match": "IfNoneMatch",
}
_AUTH_TYPES: Final = {"header": "REST-HEADER", "query": "REST-QUERY-STRING", "form": "POST"}


class RequestFacts:
    """Answers `facts(key)` for one request and one bucket.

    Args:
        owner: the bucket's account.
        existing: the tags of the object that is there; None where that was not looked up.
    """

    def __init__(
        self, call: Call, req: Mapping[str, Any], owner: str, existing: Mapping[str, str] | None = None
    ) -> None:
        self.call = call
        self.req = req
        self.owner = owner
        self.existing = existing or {}

    def __call__(self, key: str) -> Values | None:
        """The values of a key (folded), None where the request has none."""
        if key in _PARAMETERS:
            return _one(self.req.get(_PARAMETERS[key]))
        if key.startswith(EXISTING_TAG):
            return _one(self.existing.get(key.removeprefix(EXISTING_TAG)))
        if key.startswith(REQUESTED_TAG):
            return _one(self.requested().get(key.removeprefix(REQUESTED_TAG)))
        find = _FINDERS.get(key)
        return find(self) if find else None

    def requested(self) -> Mapping[str, str]:
        """The tags that a request brings: in a header, or as the document of PutObjectTagging."""
        tagging = self.req.get("Tagging")
        if isinstance(tagging, str):
            return dict(parse_qsl(tagging, keep_blank_values=True))
        listed = (tagging or {}).get("TagSet") or ()
        return {tag.get("Key", ""): tag.get("Value", "") for tag in listed}

    def principal(self, name: str) -> Values | None:
        """One thing of who signed."""
        principal = self.call.principal
        return _one(getattr(principal, name)) if principal else None

    def kind(self) -> Values:
        """`Account`, `User` or `Anonymous`."""
        principal = self.call.principal
        return ("Anonymous" if principal is None else "Account" if principal.is_root else "User",)

    def user(self) -> Values | None:
        """The name of a user."""
        principal = self.call.principal
        return None if principal is None or principal.is_root else (principal.arn.rpartition("/")[2],)

    def user_id(self) -> Values:
        """The unique id of who signed."""
        return (self.call.principal.user_id if self.call.principal else "anonymous",)

    def location(self) -> Values | None:
        """Where CreateBucket asks to be."""
        return _one((self.req.get("CreateBucketConfiguration") or {}).get("LocationConstraint"))

    def locked(self, header: str, document: str, member: str) -> Values | None:
        """A part of the object lock that a request asks for."""
        return _one(self.req.get(header) or (self.req.get(document) or {}).get(member))

    def retention_days(self) -> Values | None:
        """Whole days from now."""
        until = self.req.get("ObjectLockRetainUntilDate") or (self.req.get("Retention") or {}).get(
            "RetainUntilDate"
        )
        return (str((until - self.call.now).days),) if isinstance(until, datetime) else None

    def header(self, name: bytes) -> Values | None:
        """A header that was sent."""
        return _one(self.call.header(name) or None)


def _one(value: Any) -> Values | None:
    if value is None or value == "":
        return None
    return (value.isoformat() if isinstance(value, datetime) else str(value),)


_FINDERS: Final[Mapping[str, Callable[[RequestFacts], Values | None]]] = {
    "aws:sourceip": lambda x: _one(x.call.source_ip),
    "aws:securetransport": lambda x: ("true" if x.call.secure else "false",),
    "aws:currenttime": lambda x: (x.call.now.isoformat(),),
    "aws:epochtime": lambda x: (str(int(x.call.now.timestamp())),),
    "aws:useragent": lambda x: x.header(b"user-agent"),
    "aws:referer": lambda x: x.header(b"referer"),
    "aws:principalarn": lambda x: x.principal("arn"),
    "aws:principalaccount": lambda x: x.principal("account_id"),
    "aws:principaltype": RequestFacts.kind,
    "aws:userid": RequestFacts.user_id,
    "aws:username": RequestFacts.user,
    "aws:requestedregion": lambda x: _one(x.call.region),
    "aws:resourceaccount": lambda x: (x.owner,),
    "aws:principalisawsservice": lambda _: ("false",),
    "aws:viaawsservice": lambda _: ("false",),
    "s3:resourceaccount": lambda x: (x.owner,),
    "s3:locationconstraint": RequestFacts.location,
    "s3:authtype": lambda x: _one(_AUTH_TYPES.get(x.call.signed)),
    "s3:signatureversion": lambda x: ("AWS4-HMAC-SHA256",) if x.call.signed else None,
    "s3:signatureage": lambda x: (
        (str(int(x.call.signature_age * 1000)),) if x.call.signed in {"query", "form"} else None
    ),
    "s3:x-amz-content-sha256": lambda x: x.header(b"x-amz-content-sha256"),
    "s3:requestobjecttagkeys": lambda x: tuple(x.requested()) or None,
    "s3:object-lock-mode": lambda x: x.locked("ObjectLockMode", "Retention", "Mode"),
    "s3:object-lock-retain-until-date": lambda x: x.locked(
        "ObjectLockRetainUntilDate", "Retention", "RetainUntilDate"
    ),
    "s3:object-lock-legal-hold": lambda x: x.locked("ObjectLockLegalHoldStatus", "LegalHold", "Status"),
    "s3:object-lock-remaining-retention-days": RequestFacts.retention_days,
}
