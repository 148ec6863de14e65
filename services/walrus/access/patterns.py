"""Wildcards of policies: `*` is any run of characters, `?` one, and nothing else is special.

Matching takes time linear in pattern and text (for each part between stars): a policy is written by one
user and evaluated in the requests of all others, so no pattern may take long.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

Matches = Callable[[str], bool]
# Stand for characters that came out of a policy variable and are no wildcards.
STAR, MARK = "\ue000", "\ue001"


def plain(pattern: str) -> str:
    """The pattern as the text that it is, for comparisons without wildcards."""
    return pattern.replace(STAR, "*").replace(MARK, "?")


@lru_cache(maxsize=8192)
def matcher(pattern: str) -> Matches:
    """A predicate for whole texts."""
    if "*" not in pattern:
        return plain(pattern).__eq__ if "?" not in pattern else _exactly(pattern)
    first, *middle, last = pattern.split("*")
    if "?" not in pattern and not any(middle):
        first, last = plain(first), plain(last)
        fixed = len(first) + len(last)
        return lambda text: len(text) >= fixed and text.startswith(first) and text.endswith(last)
    return _parts(first, [part for part in middle if part], last)


def _exactly(pattern: str) -> Matches:
    found = _searcher(pattern).fullmatch
    return lambda text: found(text) is not None


def _parts(first: str, middle: list[str], last: str) -> Matches:
    """The first and last part stand at the ends; each between them wherever it comes first."""
    head, tail = _searcher(first), _searcher(last)
    between = [(_searcher(part), len(part)) for part in middle]

    def matches(text: str) -> bool:
        end = len(text) - len(last)
        if head.match(text) is None or end < len(first) or tail.match(text, end) is None:
            return False
        at = len(first)
        for part, length in between:
            found = part.search(text, at, end)
            if found is None:
                return False
            at = found.start() + length
        return at <= end

    return matches


def _searcher(part: str) -> re.Pattern[str]:
    """Of fixed length, so a search is linear for each place and never turns back."""
    return re.compile(
        "".join("." if letter == "?" else re.escape(plain(letter)) for letter in part), re.DOTALL
    )
