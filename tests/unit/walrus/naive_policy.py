"""A second evaluator of bucket policies: slow, plain, written from the documentation and from nothing else.

It reads the JSON anew for every question. What both evaluators agree about is what the policy means.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, tuple[str, ...]]


def verdict(
    policy: Mapping[str, Any], who: Mapping[str, str] | None, action: str, resource: str, facts: Facts
) -> str:
    """`deny`, `allow`, `delegate` (the caller's account is allowed, not the caller) or nothing."""
    statements = policy["Statement"]
    statements = statements if isinstance(statements, list) else [statements]
    said = {_one(statement, who, action, resource, facts) for statement in statements}
    for word in ("deny", "allow", "delegate"):
        if word in said:
            return word
    return ""


def _one(
    s: Mapping[str, Any], who: Mapping[str, str] | None, action: str, resource: str, facts: Facts
) -> str:
    listed = _named(s["Principal"] if "Principal" in s else s["NotPrincipal"], who)
    named = listed if "Principal" in s else "" if listed else "allow"
    by_action = [_glob(p.lower(), action.lower()) for p in _list(s.get("Action", s.get("NotAction")))]
    by_resource = [_glob(p, resource) for p in _list(s.get("Resource", s.get("NotResource")))]
    if any(by_action) != ("Action" in s) or any(by_resource) != ("Resource" in s):
        return ""
    for operator, keys in s.get("Condition", {}).items():
        for key, wanted in keys.items():
            if not _condition(operator, facts.get(key.lower()), [str(w) for w in _list(wanted)]):
                return ""
    return "deny" if s["Effect"] == "Deny" and named else named


def _named(principal: Any, who: Mapping[str, str] | None) -> str:
    if principal == "*":
        return "allow"
    best = ""
    for kind, names in principal.items():
        for name in _list(names):
            if kind == "AWS" and name == "*":
                return "allow"
            if who is None:
                continue
            account = who["account"]
            if kind == "AWS" and name == who["arn"] and "root" not in name:
                return "allow"
            whole = kind == "AWS" and name in {account, f"arn:aws:iam::{account}:root"}
            if whole or (kind == "CanonicalUser" and name == who["canonical"]):
                best = "allow" if who["arn"].endswith(":root") else "delegate"
    return best


def _condition(operator: str, values: tuple[str, ...] | None, wanted: list[str]) -> bool:
    quantifier, _, operator = operator.rpartition(":")
    if operator == "Null":
        return any((values is None) == (w == "true") for w in wanted)
    if_exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    if values is None:
        if if_exists:
            return True
        if quantifier:
            return quantifier == "ForAllValues"
        return "Not" in operator
    results = []
    for value in values:
        positive = any(_compare(operator.replace("Not", ""), value, w) for w in wanted)
        results.append(not positive if "Not" in operator else positive)
    return any(results) if quantifier == "ForAnyValue" else all(results)


def _compare(operator: str, value: str, want: str) -> bool:
    means: dict[str, Callable[[], bool]] = {
        "StringEquals": lambda: value == want,
        "StringEqualsIgnoreCase": lambda: value.lower() == want.lower(),
        "Bool": lambda: value.lower() == want.lower(),
        "StringLike": lambda: _glob(want, value),
        "IpAddress": lambda: ipaddress.ip_address(value) in ipaddress.ip_network(want, strict=False),
        "NumericEquals": lambda: float(value) == float(want),
        "NumericLessThan": lambda: float(value) < float(want),
        "NumericGreaterThanEquals": lambda: float(value) >= float(want),
    }
    return means[operator]()


def _glob(pattern: str, text: str) -> bool:
    """By definition: a star is any beginning of the rest, tried one by one."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_glob(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in {"?", text[0]} and _glob(pattern[1:], text[1:])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
