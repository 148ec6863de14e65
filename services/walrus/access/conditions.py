"""Conditions of policy statements: operators, compiled once, asked with what a request is known by.

Source: "IAM JSON policy elements: Condition operators" and "Actions, resources, and condition keys for
Amazon S3". A key that this cloud could not tell the truth about is refused when the policy is put: as a
missing key it would make a Deny statement weaker than its author meant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from mallee.walrus.access.condition_keys import folded, is_known
from mallee.walrus.access.patterns import matcher, plain
from mallee.walrus.access.variables import Variables, resolved

Values = tuple[str, ...]
Facts = Callable[[str], Values | None]  # a key in small letters -> what the request has, None if nothing
Condition = Callable[[Facts, Variables], bool]
Test = Callable[[str, str], bool]  # the request's value, the policy's


class BadConditionError(ValueError):
    """A condition that cannot be evaluated; the message is for the policy's author."""


def compiled(block: Mapping[str, Any], *, variables: bool) -> tuple[Condition, ...]:
    """The conditions of a statement: all must hold.

    Args:
        block: the value of `Condition`.
        variables: whether `${...}` is replaced.

    Raises:
        BadConditionError: an operator, key or value that is none.
    """
    found = []
    for name, keys in block.items():
        if not isinstance(keys, dict) or not keys:
            raise BadConditionError(f"Invalid Condition type : {name}")
        for key, values in keys.items():
            found.append(_condition(name, key, _strings(key, values), variables=variables))
    return tuple(found)


def _strings(key: str, values: Any) -> list[str]:
    listed = values if isinstance(values, list) else [values]
    words = []
    for value in listed:
        if isinstance(value, bool):
            words.append("true" if value else "false")
        elif isinstance(value, str | int | float):
            words.append(str(value))
        else:
            raise BadConditionError(f"Invalid value for the condition key {key}")
    return words


def _condition(name: str, key: str, wanted: list[str], *, variables: bool) -> Condition:
    if not is_known(folded(key)):
        raise BadConditionError(f"Policy has an invalid condition key: {key}")
    quantifier, _, bare = name.rpartition(":")
    if_exists = bare.endswith("IfExists")
    bare = bare.removesuffix("IfExists")
    if quantifier not in {"", "ForAllValues", "ForAnyValue"} or (bare == "Null" and if_exists):
        raise BadConditionError(f"Invalid Condition type : {name}")
    if bare == "Null":
        return _null(folded(key), wanted)
    known = _OPERATORS.get(bare)
    if known is None:
        raise BadConditionError(f"Invalid Condition type : {name}")
    test, negated, check = known
    for value in wanted:
        check(value)
    return _holds(
        folded(key), wanted, test, quantifier, negated=negated, if_exists=if_exists, variables=variables
    )


def _holds(
    key: str,
    wanted: list[str],
    test: Test,
    quantifier: str,
    *,
    negated: bool,
    if_exists: bool,
    variables: bool,
) -> Condition:
    def one(value: str, given: Variables) -> bool:
        """Whether one value of the request fits; negated, whether it fits none of the policy's."""
        texts = (resolved(want, given) for want in wanted) if variables else iter(wanted)
        return any(text is not None and test(value, text) for text in texts) is not negated

    def holds(facts: Facts, given: Variables) -> bool:
        values = facts(key)
        if values is None or (not values and quantifier):
            if quantifier == "ForAnyValue":
                return if_exists and values is None
            return negated or if_exists or quantifier == "ForAllValues"
        if quantifier == "ForAnyValue":
            return any(one(value, given) for value in values)
        return all(one(value, given) for value in values)

    return holds


def _null(key: str, wanted: list[str]) -> Condition:
    absent = {word.lower() for word in wanted}
    if not absent <= {"true", "false"}:
        raise BadConditionError("The value of Null must be true or false")
    return lambda facts, _: ("true" if facts(key) is None else "false") in absent


def _like(value: str, pattern: str) -> bool:
    return matcher(pattern)(value)


def _arn_like(value: str, pattern: str) -> bool:
    """Each of the six parts of an ARN by itself, so that no wildcard reaches over a colon before the last."""
    values, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(values) == len(patterns) and all(map(_like, values, patterns))


def _numeric(compare: Callable[[Any, Any], bool]) -> Test:
    def test(value: str, want: str) -> bool:
        number, wanted = _number(value), _number(want)
        return number is not None and wanted is not None and compare(number, wanted)

    return test


def _dated(compare: Callable[[Any, Any], bool]) -> Test:
    def test(value: str, want: str) -> bool:
        moment, wanted = _moment(value), _moment(want)
        return moment is not None and wanted is not None and compare(moment, wanted)

    return test


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _moment(text: str) -> datetime | None:
    try:
        if text.lstrip("-").isdigit():
            return datetime.fromtimestamp(int(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def network(text: str) -> IPv4Network | IPv6Network:
    """The addresses that a value of IpAddress means.

    Raises:
        BadConditionError: none.
    """
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise BadConditionError(f"Invalid IP address or range: {text}") from None


def _in_network(value: str, want: str) -> bool:
    try:
        address = ip_address(value)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in network(want)


def _any(_: str) -> None:
    """Every text is a value."""


def _a_number(text: str) -> None:
    if _number(text) is None:
        raise BadConditionError(f"Not a number: {text[:64]}")


def _a_date(text: str) -> None:
    if _moment(text) is None:
        raise BadConditionError(f"Not a date: {text[:64]}")


def _a_truth(text: str) -> None:
    if text.lower() not in {"true", "false"}:
        raise BadConditionError(f"Not true or false: {text[:64]}")


def _a_network(text: str) -> None:
    network(text)


def _equal(value: str, want: str) -> bool:
    return value == plain(want)


def _folded(value: str, want: str) -> bool:
    return value.casefold() == plain(want).casefold()


_Operator = tuple[
    Test, bool, Callable[[str], None]
]  # how it compares, whether it is negated, what values it takes
_COMPARISONS: Final = {
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_OPERATORS: Final[Mapping[str, _Operator]] = {
    "StringEquals": (_equal, False, _any),
    "StringNotEquals": (_equal, True, _any),
    "StringEqualsIgnoreCase": (_folded, False, _any),
    "StringNotEqualsIgnoreCase": (_folded, True, _any),
    "StringLike": (_like, False, _any),
    "StringNotLike": (_like, True, _any),
    "BinaryEquals": (_equal, False, _any),
    "Bool": (_folded, False, _a_truth),
    "IpAddress": (_in_network, False, _a_network),
    "NotIpAddress": (_in_network, True, _a_network),
    "ArnEquals": (_arn_like, False, _any),
    "ArnLike": (_arn_like, False, _any),
    "ArnNotEquals": (_arn_like, True, _any),
    "ArnNotLike": (_arn_like, True, _any),
    "NumericEquals": (_numeric(operator.eq), False, _a_number),
    "NumericNotEquals": (_numeric(operator.eq), True, _a_number),
    "DateEquals": (_dated(operator.eq), False, _a_date),
    "DateNotEquals": (_dated(operator.eq), True, _a_date),
    **{f"Numeric{name}": (_numeric(compare), False, _a_number) for name, compare in _COMPARISONS.items()},
    **{f"Date{name}": (_dated(compare), False, _a_date) for name, compare in _COMPARISONS.items()},
}


def matches_all(conditions: Sequence[Condition], facts: Facts, given: Variables) -> bool:
    """Whether every condition holds."""
    return all(condition(facts, given) for condition in conditions)
