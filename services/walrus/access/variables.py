"""Policy variables: `${aws:username}` in a resource or a condition's value, since version 2012-10-17.

Source: "IAM policy elements: Variables and tags". A variable that the request has no value for makes
the text match nothing, unless it names a default.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mallee.walrus.access.condition_keys import folded
from mallee.walrus.access.patterns import MARK, STAR

Variables = Callable[[str], str | None]  # a key, folded -> its one value

_variable = re.compile(r"\$\{\s*([^}]*?)\s*\}")
_default = re.compile(r"([^,]+?)\s*,\s*'(.*)'\s*", re.DOTALL)
_LITERAL = {"*": STAR, "?": MARK, "$": "$"}


def resolved(text: str, given: Variables) -> str | None:
    """The text with its variables replaced; None when one has no value."""
    if "${" not in text:
        return text
    missing = False

    def replacement(found: re.Match[str]) -> str:
        nonlocal missing
        name = found[1]
        if name in _LITERAL:
            return _LITERAL[name]
        default = _default.fullmatch(name)
        if default:
            name = default[1]
        value = given(folded(name))
        if value is None and default:
            value = default[2]
        if value is None:
            missing = True
            return ""
        # A user may be called `*`: what comes out of a variable is never a wildcard.
        return value.replace("*", _LITERAL["*"]).replace("?", _LITERAL["?"])

    replaced = _variable.sub(replacement, text)
    return None if missing else replaced
