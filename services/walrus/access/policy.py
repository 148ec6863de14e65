"""Bucket policies: read strictly when they are put, judged for every request.

Source: "Grammar of the IAM JSON policy language" and "Policy evaluation logic". An explicit Deny wins
over everything. A policy is compiled once and kept by its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from mallee.aws.context import Principal
from mallee.walrus.access.condition_keys import EXISTING_TAG, folded
from mallee.walrus.access.conditions import BadConditionError, Condition, Facts, compiled, matches_all
from mallee.walrus.access.patterns import Matches, matcher
from mallee.walrus.access.variables import Variables, resolved
from mallee.walrus.errors import S3Error

LONGEST: Final = 20 * 1024  # bytes
_VERSIONS: Final = ("2008-10-17", "2012-10-17")
_ELEMENTS: Final = frozenset(
    {
        *("Sid", "Effect", "Condition"),
        *("Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource"),
    }
)
_ARN: Final = "arn:aws:s3:::"
_is_action = re.compile(r"(\*|s3:[A-Za-z*?]+)", re.ASCII).fullmatch
_is_account = re.compile(r"\d{12}", re.ASCII).fullmatch
_account_root = re.compile(r"arn:aws:iam::(\d{12}):root", re.ASCII).fullmatch
_is_user_arn = re.compile(
    r"arn:aws:(iam|sts)::\d{12}:(user|role|assumed-role|federated-user)/[^*?]+", re.ASCII
).fullmatch
_is_canonical = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch


class Decision(IntEnum):
    """What a policy says to one request."""

    SILENT = 0
    DELEGATED = 1  # the account is allowed; whether its user is, the account itself must say
    ALLOWED = 2
    DENIED = 3


class Who(NamedTuple):
    """The request's principal as a policy names it; `canonical` is its account's. None: anonymous."""

    principal: Principal | None
    canonical: str = ""


class Principals(NamedTuple):
    """A `Principal` element.

    Attributes:
        everybody: `*`.
        accounts: ids and canonical ids.
        arns: of users.
        services: of AWS or of federation, whom nobody is here.
    """

    everybody: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    services: frozenset[str] = frozenset()

    def match(self, who: Who) -> Decision:
        """SILENT, DELEGATED (by the account) or ALLOWED (by name)."""
        if self.everybody:
            return Decision.ALLOWED
        one = who.principal
        if one is None:
            return Decision.SILENT
        if one.arn in self.arns:
            return Decision.ALLOWED
        if one.account_id in self.accounts or who.canonical in self.accounts:
            return Decision.ALLOWED if one.is_root else Decision.DELEGATED
        return Decision.SILENT


class Statement(NamedTuple):
    """One statement, compiled."""

    allows: bool
    principals: Principals
    not_principal: bool
    actions: tuple[Matches, ...]
    not_action: bool
    resources: tuple[str, ...]
    not_resource: bool
    variables: bool
    conditions: tuple[Condition, ...]
    block: Mapping[str, Any]  # the conditions as written

    def judge(self, who: Who, action: str, resource: str, facts: Facts, given: Variables) -> Decision:
        """What this statement alone says."""
        named = self.principals.match(who)
        if (named is Decision.SILENT) is not self.not_principal:
            return Decision.SILENT
        if any(fits(action) for fits in self.actions) is self.not_action:
            return Decision.SILENT
        if self._covers(resource, given) is self.not_resource:
            return Decision.SILENT
        if not matches_all(self.conditions, facts, given):
            return Decision.SILENT
        if not self.allows:
            return Decision.DENIED
        return Decision.ALLOWED if self.not_principal else named

    def _covers(self, resource: str, given: Variables) -> bool:
        texts = (resolved(each, given) if self.variables else each for each in self.resources)
        return any(text is not None and matcher(text)(resource) for text in texts)


class Policy(NamedTuple):
    """A bucket's policy."""

    statements: tuple[Statement, ...]

    @property
    def asks_for_tags(self) -> bool:
        """Whether a condition is on the tags of the object that is there."""
        blocks = (keys for statement in self.statements for keys in statement.block.values())
        return any(folded(key).startswith(EXISTING_TAG) for keys in blocks for key in keys)

    def judge(self, who: Who, action: str, resource: str, facts: Facts) -> Decision:
        """What it says to a request.

        Args:
            who: asks.
            action: `s3:GetObject`.
            resource: an ARN, `arn:aws:s3:::bucket/key`.
            facts: what conditions may ask about.
        """

        def given(key: str) -> str | None:
            values = facts(key)
            return values[0] if values and len(values) == 1 else None

        folded, best = action.lower(), Decision.SILENT
        for statement in self.statements:
            best = max(best, statement.judge(who, folded, resource, facts, given))
        return best


def read(document: bytes, bucket: str) -> Policy:
    """The policy of a bucket, checked.

    Raises:
        S3Error: MalformedPolicy, in the words of the thing that is wrong; PolicyTooLarge.
    """
    if len(document) > LONGEST:
        raise S3Error("MalformedPolicy", f"Policies may have at most {LONGEST} bytes.")
    try:
        return _kept(document, bucket)
    except BadConditionError as error:
        raise S3Error("MalformedPolicy", str(error)) from None


@lru_cache(maxsize=1024)
def _kept(document: bytes, bucket: str) -> Policy:
    try:
        raw = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise S3Error("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'")
    for name in raw:
        if name not in {"Version", "Id", "Statement"}:
            raise S3Error("MalformedPolicy", f"Unknown field {name}")
    version = raw.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise S3Error(
            "MalformedPolicy", f"The policy must contain a valid version string: {', '.join(_VERSIONS)}"
        )
    statements = raw.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    if not listed or statements is None:
        raise S3Error("MalformedPolicy", "Missing required field Statement")
    return Policy(tuple(_statement(one, bucket, variables=version == _VERSIONS[1]) for one in listed))


def _statement(raw: Any, bucket: str, *, variables: bool) -> Statement:
    if not isinstance(raw, dict):
        raise S3Error("MalformedPolicy", "A statement must be an object")
    for name in raw:
        if name not in _ELEMENTS:
            raise S3Error("MalformedPolicy", f"Unknown field {name}")
    if raw.get("Effect") not in {"Allow", "Deny"}:
        raise S3Error("MalformedPolicy", f"Invalid effect: {raw.get('Effect')}")
    principal, not_principal = _either(raw, "Principal")
    action, not_action = _either(raw, "Action")
    resource, not_resource = _either(raw, "Resource")
    actions = _texts(action, "Policy has invalid action")
    resources = _texts(resource, "Policy has invalid resource")
    if not all(map(_is_action, actions)):
        raise S3Error("MalformedPolicy", "Policy has invalid action")
    for arn in resources:
        _check_resource(arn, bucket)
    if not (not_action or not_resource):
        _check_levels(actions, resources)
    block = raw.get("Condition") or {}
    if not isinstance(block, dict):
        raise S3Error("MalformedPolicy", "Condition must be an object")
    return Statement(
        raw["Effect"] == "Allow",
        _principals(principal),
        not_principal,
        tuple(matcher(name.lower()) for name in actions),
        not_action,
        tuple(resources),
        not_resource,
        variables,
        compiled(block, variables=variables),
        block,
    )


def _either(raw: Mapping[str, Any], name: str) -> tuple[Any, bool]:
    """An element or its `Not` form, exactly one of them."""
    if (name in raw) is (f"Not{name}" in raw):
        raise S3Error("MalformedPolicy", f"Missing required field {name}")
    return (raw[name], False) if name in raw else (raw[f"Not{name}"], True)


def _texts(value: Any, wrong: str) -> Sequence[str]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) and one for one in listed):
        raise S3Error("MalformedPolicy", wrong)
    return listed


def _check_resource(arn: str, bucket: str) -> None:
    if arn == "*":
        return
    name = arn.removeprefix(_ARN).partition("/")[0]
    if not arn.startswith(_ARN) or "${" in name or not matcher(name)(bucket):
        raise S3Error("MalformedPolicy", "Policy has invalid resource")


# Actions on objects; all others are on the bucket. Those of the second kind have a resource of their own.
_on_objects: Callable[[str], object] = re.compile(
    r"s3:(Abort.*|Bypass.*|DeleteObject.*|GetObject.*|PutObject.*|Replicate.*|RestoreObject|UpdateObject.*"
    r"|ListMultipartUploadParts|ObjectOwnerOverrideToBucketOwner|InitiateReplication)",
    re.IGNORECASE,
).fullmatch


def _check_levels(actions: Sequence[str], resources: Sequence[str]) -> None:
    """An action on objects wants a resource with a key, one on the bucket a resource without."""
    any_object = any("/" in arn or arn.endswith("*") for arn in resources)
    any_bucket = any("/" not in arn or arn.partition("/")[0].endswith("*") for arn in resources)
    for action in actions:
        if "*" in action or "?" in action:
            continue
        if not (any_object if _on_objects(action) else any_bucket):
            raise S3Error("MalformedPolicy", "Action does not apply to any resource(s) in statement")


def _principals(raw: Any) -> Principals:
    if raw == "*":
        return Principals(everybody=True, accounts=frozenset(), arns=frozenset())
    if not isinstance(raw, dict) or not raw:
        raise S3Error("MalformedPolicy", "Invalid principal in policy")
    everybody, accounts, arns, services = False, set[str](), set[str](), set[str]()
    for kind, value in raw.items():
        for name in _texts(value, "Invalid principal in policy"):
            root = _account_root(name)
            if kind == "AWS" and name == "*":
                everybody = True
            elif kind == "AWS" and (root or _is_account(name)):
                accounts.add(root[1] if root else name)
            elif kind == "AWS" and _is_user_arn(name):
                arns.add(name)
            elif kind == "CanonicalUser" and _is_canonical(name):
                accounts.add(name)
            elif kind in {"Service", "Federated"}:
                services.add(name)
            else:
                raise S3Error("MalformedPolicy", "Invalid principal in policy")
    return Principals(everybody, frozenset(accounts), frozenset(arns), frozenset(services))
