"""Single values on the wire, both ways.

Readers take the text of a form and raise ValueError naming what was expected; writers return text
that is safe inside an XML element. Written text is pure ASCII: any other character becomes a
character reference, so text joins and encodes at the speed of memory.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

Reader = Callable[[str], Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_is_integer = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
_is_number = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?").fullmatch
_is_iso8601 = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII
).fullmatch


def _integer(bits: int) -> Reader:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def read(text: str) -> int:
        if not _is_integer(text) or not low <= (number := int(text)) <= high:
            raise ValueError("integer")
        return number

    return read


def _number(text: str) -> float:
    if text in {"NaN", "Infinity", "-Infinity"} or _is_number(text):
        return float(text)
    raise ValueError("number")


_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False, "True": True, "False": False}


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text)
    if value is None:
        raise ValueError("boolean")
    return value


def _blob(text: str) -> bytes:
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError("base64") from error


def read_time(text: str) -> datetime:
    """A time in UTC from ISO 8601, seconds since 1970, or an HTTP date.

    Raises:
        ValueError: none of these, or out of the calendar.
    """
    try:
        if _is_number(text):
            return _EPOCH + timedelta(seconds=float(text))
        found = datetime.fromisoformat(text) if _is_iso8601(text) else parsedate_to_datetime(text[:40])
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError("timestamp") from error


READERS: Final[Mapping[str, Reader]] = {
    "string": str,
    "integer": _integer(32),
    "long": _integer(64),
    "float": _number,
    "double": _number,
    "boolean": _boolean,
    "blob": _blob,
    "timestamp": read_time,
}

# --- written ----------------------------------------------------------------------------------

unsafe = re.compile(r"[^\x20-\x25\x27-\x3b\x3d\x3f-\x7e]").search
_any_unsafe = re.compile(r"[^\x20-\x25\x27-\x3b\x3d\x3f-\x7e]")
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\t": "\t", "\n": "\n", "\r": "&#xD;"}


def escape(text: str) -> str:
    """Free text as the content of an XML element; what XML 1.0 cannot carry becomes U+FFFD."""
    return _any_unsafe.sub(_reference, text)


def _reference(found: re.Match[str]) -> str:
    character = found[0]
    named = _NAMED.get(character)
    if named is not None:
        return named
    code = ord(character)
    if code < 0x20 or 0xD800 <= code <= 0xDFFF or code in {0xFFFE, 0xFFFF}:
        return "&#xFFFD;"
    return f"&#x{code:X};"


def number(value: float) -> str:
    """A floating-point number as AWS writes it: 1.5, NaN, Infinity."""
    if value != value:  # noqa: PLR0124 - the one value that is not itself
        return "NaN"
    if value in {float("inf"), float("-inf")}:
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(value))


def blob(value: bytes) -> str:
    """Bytes as base64."""
    return b64encode(value).decode("ascii")


def milliseconds(moment: datetime) -> str:
    """`2012-10-16T20:00:21.000Z`, as EC2 writes every time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    text = moment.isoformat()[:19]
    return f"{text}.{moment.microsecond // 1000:03}Z" if moment.microsecond else text + ".000Z"


def seconds(moment: datetime) -> str:
    """`2012-10-16T20:00:21Z`, as the query protocol's services do; a fraction only where there is one."""
    if moment.microsecond:
        return milliseconds(moment)
    return moment.astimezone(UTC).isoformat(timespec="seconds")[:-6] + "Z"


def epoch(moment: datetime) -> str:
    """Seconds since 1970, a fraction only where there is one."""
    since = moment.timestamp()
    return str(int(since)) if since == int(since) else repr(since)


def http_date(moment: datetime) -> str:
    """`Sun, 06 Nov 1994 08:49:37 GMT`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    clock = f"{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    return f"{day}, {moment.day:02} {month} {moment.year:04} {clock} GMT"
