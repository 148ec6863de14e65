"""What a resource's id looks like: its kind, a dash, 17 lower-case hexadecimal digits, or the 8 of old."""

from __future__ import annotations

import re

_is_id = re.compile(r"[a-z]+-(?:[0-9a-f]{8}|[0-9a-f]{17})").fullmatch


def is_id(kind: str, text: str) -> bool:
    """Whether a text can be the id of a resource of that kind (`ami`, `sg`)."""
    return text.startswith(f"{kind}-") and _is_id(text) is not None
