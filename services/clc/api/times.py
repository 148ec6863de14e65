"""Milliseconds as the records keep them, datetimes as the wire takes them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(milliseconds: int) -> datetime:
    """The calendar time of so many milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
