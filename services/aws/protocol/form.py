"""A query string or form, from bytes to a tree of its dotted names.

`Filter.1.Name=x` becomes `{"Filter": {"1": {"Name": "x"}}}`: the tree is built once, and a parser
then looks only at what was sent, never at what could have been.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from mallee.aws.errors import InvalidCharacter, InvalidParameterCombination, MalformedQueryString

# The longest lists of EC2 have 1,000 elements; beside them stand 50 tags of two parts, and a few more.
MAX_PARAMETERS: Final = 1200
MAX_DEPTH: Final = 24

Pairs: TypeAlias = list[tuple[str, str]]
Tree: TypeAlias = dict[str, "str | Tree"]

_needs_decoding = re.compile(rb"[%+\x00]").search
_broken_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search


def decode(form: bytes) -> Pairs:
    """The names and values of a form, in order.

    Raises:
        MalformedQueryString: a broken percent-escape, bytes that are not UTF-8, too many parameters.
        InvalidCharacter: a NUL.
    """
    if form.count(b"&") >= MAX_PARAMETERS:
        raise MalformedQueryString(f"A request may have at most {MAX_PARAMETERS} parameters.")
    if _broken_escape(form):
        raise MalformedQueryString("The query string contains a broken percent-escape.")
    try:
        if not _needs_decoding(form):
            parts = form.decode().split("&")
            return [(name, value) for name, _, value in (part.partition("=") for part in parts if part)]
        halves = [part.partition(b"=") for part in form.split(b"&") if part]
        return [(_text(name), _text(value)) for name, _, value in halves]
    except UnicodeDecodeError as error:
        raise MalformedQueryString("The query string is not UTF-8.") from error


def _text(raw: bytes) -> str:
    if not _needs_decoding(raw):
        return raw.decode()
    raw = unquote_to_bytes(raw.replace(b"+", b" "))
    if b"\0" in raw:
        raise InvalidCharacter("A parameter may not contain a NUL character.")
    return raw.decode()


def tree(pairs: Iterable[tuple[str, str]]) -> Tree:
    """The tree of the names.

    Raises:
        InvalidParameterCombination: one name twice, or a name that is also the head of another.
    """
    root: Tree = {}
    for name, value in pairs:
        *heads, leaf = name.split(".", MAX_DEPTH) if "." in name else (name,)
        node = root
        for head in heads:
            below = node.setdefault(head, {})
            if isinstance(below, str):
                raise InvalidParameterCombination(f"The parameter {name} conflicts with another parameter.")
            node = below
        if leaf in node:
            raise InvalidParameterCombination(f"The parameter {name} was given more than once.")
        node[leaf] = value
    return root
