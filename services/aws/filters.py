"""Filters of the Describe actions: the documented names, exact values, `*` and `?`.

Source: "List and filter using the CLI and API" of the EC2 user guide. Values are case-sensitive;
one of a filter's values must match, and each filter must. A backslash takes the meaning from a
wildcard. For a database a filter gives its exact values, or a pattern for LIKE or GLOB.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from mallee.aws.errors import FilterLimitExceeded, InvalidParameterValue
from mallee.aws.protocol.scalars import milliseconds

MAX_FILTERS: Final = 50
MAX_VALUES: Final = 200
MAX_LENGTH: Final = 255
TAG: Final = "tag:"

_token = re.compile(r"\\([*?\\])|([*?])|(\\|[^*?\\]+)", re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """One value of a filter, as it was sent."""

    text: str

    @cached_property
    def _tokens(self) -> tuple[tuple[str, str], ...]:
        """(wildcard, literal) pairs, one of both empty."""
        return tuple((found[2] or "", found[1] or found[3] or "") for found in _token.finditer(self.text))

    @cached_property
    def literal(self) -> str | None:
        """The text that a value must be, or None if there are wildcards."""
        if any(wildcard for wildcard, _ in self._tokens):
            return None
        return "".join(literal for _, literal in self._tokens)

    @cached_property
    def like(self) -> str:
        r"""For `LIKE ... ESCAPE '\'` where LIKE respects case (PostgreSQL)."""
        return self._spelled({"*": "%", "?": "_"}, re.compile(r"([%_\\])"), r"\\\1")

    @cached_property
    def glob(self) -> str:
        """For SQLite's GLOB, which respects case as its LIKE does not."""
        return self._spelled({"*": "*", "?": "?"}, re.compile(r"([*?\[])"), r"[\1]")

    def _spelled(self, wildcards: Mapping[str, str], special: re.Pattern[str], escaped: str) -> str:
        return "".join(
            wildcards[wildcard] if wildcard else special.sub(escaped, literal)
            for wildcard, literal in self._tokens
        )

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        """Each part behind a `*` is found once, leftmost and for good: no value makes this slow."""
        parts = [""]
        for wildcard, literal in self._tokens:
            if wildcard == "*":
                parts.append("")
            else:
                parts[-1] += "." if wildcard else re.escape(literal)
        first, *middle = parts
        last = f".*{middle.pop()}" if middle else ""
        return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + last, re.DOTALL)

    def matches(self, text: str) -> bool:
        """Whether a text is one of those meant."""
        return text == self.literal if self.literal is not None else self._regex.fullmatch(text) is not None


@dataclass(frozen=True)
class Filter:
    """One filter of a request: a documented name, and values of which one must match."""

    name: str
    values: tuple[Pattern, ...]

    @cached_property
    def tag_key(self) -> str | None:
        """The key of a `tag:<key>` filter."""
        return self.name.removeprefix(TAG) if self.name.startswith(TAG) else None

    @cached_property
    def exact(self) -> tuple[str, ...] | None:
        """All values, if none has a wildcard: a look-up by index answers them."""
        literals = tuple(value.literal for value in self.values)
        return None if None in literals else tuple(one for one in literals if one is not None)

    def matches(self, value: object) -> bool:
        """Whether a value passes, or one of several: text, boolean, number, time; None never does."""
        return any(pattern.matches(text) for text in _texts(value) for pattern in self.values)


def _texts(value: object) -> Iterable[str]:
    """A value as filters see it: `true`, `80`, `2012-10-16T20:00:21.000Z`."""
    match value:
        case None:
            return ()
        case str():
            return (value,)
        case bool():
            return ("true" if value else "false",)
        case datetime():
            return (milliseconds(value),)
        case int() | float():
            return (str(value),)
        case Iterable():
            return (text for one in value for text in _texts(one))
    raise TypeError(f"a filter cannot look at {type(value).__name__}")


def parse(given: Sequence[Mapping[str, Any]] | None, documented: Container[str]) -> tuple[Filter, ...]:
    """The filters of a request.

    Args:
        given: the `Filters` parameter: `{"Name": ..., "Values": [...]}` each.
        documented: the action's filter names; `tag:` stands for every tag.

    Raises:
        InvalidParameterValue: a name that the action does not document, or no values.
        FilterLimitExceeded: more than EC2 takes.
    """
    if given and len(given) > MAX_FILTERS:
        raise FilterLimitExceeded(f"A request can have at most {MAX_FILTERS} filters.")
    return tuple([_one(filter_, documented) for filter_ in given or ()])


def _one(given: Mapping[str, Any], documented: Container[str]) -> Filter:
    name, values = given.get("Name", ""), given.get("Values") or []
    known = TAG in documented and len(name) > len(TAG) if name.startswith(TAG) else name in documented
    if not known:
        raise InvalidParameterValue(f"The filter '{name}' is invalid")
    if not values:
        raise InvalidParameterValue(f"The filter '{name}' has no values")
    if len(values) > MAX_VALUES:
        raise FilterLimitExceeded(f"A filter can have at most {MAX_VALUES} values.")
    if any(len(value) > MAX_LENGTH for value in values):
        raise InvalidParameterValue(f"A value of the filter '{name}' is longer than {MAX_LENGTH} characters")
    return Filter(name, tuple([Pattern(value) for value in values]))


def passes(filters: Iterable[Filter], look: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """Whether a resource passes all filters.

    Args:
        filters: of the request.
        look: for each documented name what the resource has there (a value, or several).
        tags: the resource's tags, for `tag:<key>`.
    """
    return all(
        each.matches(look.get(each.name) if each.tag_key is None else tags.get(each.tag_key))
        for each in filters
    )
