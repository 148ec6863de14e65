"""One line of `mallee doctor`."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What was looked at, and how it stands.

    Attributes:
        ok: None where it only matters for what is not asked for yet.
        fix: what to do, empty when nothing needs to be done.
    """

    ok: bool | None
    name: str
    seen: str
    fix: str = ""
