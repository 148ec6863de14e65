"""The policy of a form: until when, and what the fields may say.

Source: "POST policy" of the S3 API reference. Every field must be allowed by some condition; what a
condition says of a field must hold.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

import msgspec

from mallee.aws.protocol.scalars import read_time
from mallee.walrus.errors import S3Error

# What signs or carries the policy is not its object; the bucket is in the address.
_FREE: Final = frozenset({"policy", "file", "bucket", "x-amz-signature"})
_LARGEST: Final = 5 * 1024**3


@dataclass(frozen=True, slots=True)
class FormPolicy:
    """A policy that has been read.

    Attributes:
        conditions: (`eq` or `starts-with`, field in lower case, value).
        smallest, largest: of the file, in bytes.
    """

    expiration: datetime
    conditions: tuple[tuple[str, str, str], ...]
    smallest: int = 0
    largest: int = _LARGEST

    def check(self, fields: Mapping[str, str], bucket: str, now: datetime) -> None:
        """Whether the form may be.

        Raises:
            S3Error: AccessDenied, saying what is against it.
        """
        if now >= self.expiration:
            _deny("Policy expired.")
        given = {**fields, "bucket": bucket}
        for operator, name, value in self.conditions:
            held = given.get(name, "")
            if not (held == value if operator == "eq" else _starts(name, held, value)):
                _deny(f'Policy Condition failed: ["{operator}", "${name}", "{value}"]')
        named = {name for _, name, _ in self.conditions} | _FREE
        for name in fields:
            if name not in named and not name.startswith("x-ignore-"):
                _deny(f"Extra input fields: {name}")


def _starts(name: str, held: str, value: str) -> bool:
    """A list of types, as a form for several files has it, must begin so each."""
    if name == "content-type" and "," in held:
        return all(one.strip().startswith(value) for one in held.split(","))
    return held.startswith(value)


def read_policy(encoded: str) -> FormPolicy:
    """The policy in a form's field.

    Raises:
        S3Error: InvalidPolicyDocument.
    """
    try:
        document = msgspec.json.decode(b64decode("".join(encoded.split()), validate=True))
    except (binascii.Error, ValueError) as error:
        raise _invalid("Invalid JSON.") from error
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    names = {str(name).lower(): value for name, value in document.items()}
    if not isinstance(names.get("expiration"), str):
        raise _invalid("Policy missing expiration.")
    if not isinstance(names.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    if extra := names.keys() - {"expiration", "conditions"}:
        raise _invalid(f"Unexpected: '{min(extra)[:64]}'.")
    try:
        expiration = read_time(names["expiration"])
    except ValueError as error:
        raise _invalid(f"Invalid 'expiration' value: '{names['expiration'][:64]}'") from error
    conditions: list[tuple[str, str, str]] = []
    smallest, largest = 0, _LARGEST
    for condition in names["conditions"]:
        if isinstance(condition, list) and condition and str(condition[0]).lower() == "content-length-range":
            smallest, largest = _range(condition)
        else:
            conditions.extend(_conditions(condition))
    return FormPolicy(expiration, tuple(conditions), smallest, min(largest, _LARGEST))


def _conditions(condition: Any) -> list[tuple[str, str, str]]:
    if isinstance(condition, dict) and condition:
        if not all(isinstance(value, str) for value in condition.values()):
            raise _invalid("Invalid Simple-Condition: value must be a string.")
        return [("eq", str(name).lower(), value) for name, value in condition.items()]
    if not isinstance(condition, list) or len(condition) != 3:
        raise _invalid("Invalid Condition: it must be a simple condition or have three parts.")
    operator, name, value = condition
    if not isinstance(operator, str) or operator.lower() not in {"eq", "starts-with"}:
        raise _invalid("Invalid Condition: the operation is unknown.")
    if not isinstance(name, str) or not name.startswith("$") or not isinstance(value, str):
        raise _invalid("Invalid Condition: the field must begin with '$' and the value must be a string.")
    return [(operator.lower(), name[1:].lower(), value)]


def _range(condition: list[Any]) -> tuple[int, int]:
    try:
        _, low, high = condition
        smallest, largest = int(low), int(high)
    except (ValueError, TypeError) as error:
        raise _invalid("Invalid content-length-range.") from error
    if not 0 <= smallest <= largest:
        raise _invalid("Invalid content-length-range.")
    return smallest, largest


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")


def _deny(why: str) -> NoReturn:
    raise S3Error("AccessDenied", f"Invalid according to Policy: {why}")
