"""One spelling for what was signed: path, query and headers as Signature Version 4 wants them.

Source: "Create a signed AWS API request", the form for every service but S3 (paths are normalised
and encoded once more). A query is decoded and encoded anew, so `+` and `%20`, which mean the same
to the parser, are the same here too: nothing can be respelled under a signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote_from_bytes, unquote_to_bytes

Headers = Iterable[tuple[bytes, bytes]]


def path(raw: bytes) -> bytes:
    """The path as it was sent, without empty and dot segments, percent-encoded."""
    if raw in {b"/", b""}:
        return b"/"
    kept: list[bytes] = []
    for segment in raw.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    tail = b"/" if kept and raw.endswith(b"/") else b""
    return quote_from_bytes(b"/" + b"/".join(kept) + tail, safe="/~").encode()


def query(raw: bytes, *, without: bytes = b"") -> bytes:
    """The parameters sorted by name, then value; `without` names the one that holds the signature."""
    if not raw:
        return b""
    pairs = []
    for part in raw.split(b"&"):
        name, _, value = part.partition(b"=")
        if part and (not without or unquote_to_bytes(name) != without):
            pairs.append((encode(name), encode(value)))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs]).encode()


def encode(raw: bytes) -> str:
    """A name or value of a query, decoded and encoded by the one rule."""
    if raw.isalnum():
        return raw.decode("ascii")
    return quote_from_bytes(unquote_to_bytes(raw.replace(b"+", b" ")), safe="-_.~")


def fold(headers: Headers) -> dict[bytes, bytes]:
    """Headers by their lower-case names; those that come more than once are joined by commas."""
    folded: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        folded[lower] = folded[lower] + b"," + value.strip() if lower in folded else value.strip()
    return folded


def header_lines(folded: Mapping[bytes, bytes], names: Iterable[bytes]) -> bytes:
    """`name:value` lines in the order of `names`, inner spaces collapsed.

    Raises:
        KeyError: a name that was not sent.
    """
    return b"".join([name + b":" + b" ".join(folded[name].split()) + b"\n" for name in names])
