"""Results into XML, by functions generated from the model.

For each shape one function of f-strings is written and compiled on first use: three times as fast
as walking the shape for every value, and the answers of a busy cloud are mostly this. All append
to one list of pieces, so a page of megabytes is joined once however deep its elements are. What the
values may not do is decided here: text is escaped, integers must be integers, and a member that
the model does not have is an error, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from threading import Lock
from typing import Any, Final, cast

from mallee.aws.model import Model, Shape
from mallee.aws.protocol import scalars

Piece = str | bytes  # bytes are fragments
Put = Callable[[Piece], None]
Write = Callable[[Any, Put], None]

_is_name = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*").fullmatch


class Fragment(bytes):
    """One element already written, tags included: it stands wherever a value of its shape may.

    In bytes, for they go as they are into every answer that shows them.
    """

    __slots__ = ()


_TEXT: Final[Mapping[str, str]] = {  # the inside of an f-string that writes the variable `x`
    "string": "{x if unsafe(x) is None else escape(x)}",
    "integer": "{x:d}",
    "long": "{x:d}",
    "float": "{number(x)}",
    "double": "{number(x)}",
    "boolean": "{boolean[x]}",
    "blob": "{blob(x)}",
    "timestamp": "{time(x)}",
    "iso8601": "{time(x)}",
    "unixTimestamp": "{epoch(x)}",
    "rfc822": "{http_date(x)}",
}


class Writer:
    """The generated functions of one service, by shape."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._functions: dict[tuple[str, str], str] = {}
        # Answers are also rendered in the threads of a database: whoever comes second waits for the whole function.
        self._compiling = Lock()
        self._names: dict[str, Any] = {
            "Fragment": Fragment,
            "unsafe": scalars.unsafe,
            "escape": scalars.escape,
            "number": scalars.number,
            "boolean": {True: "true", False: "false"},
            "blob": scalars.blob,
            "time": scalars.milliseconds if model.protocol == "ec2" else scalars.seconds,
            "epoch": scalars.epoch,
            "http_date": scalars.http_date,
            "reject": _reject,
        }

    def content(self, shape: Shape) -> Write:
        """A function that puts, piece by piece, what stands between the tags of a value."""
        with self._compiling:
            write: Write = self._names[self._compound(shape, "")]
        return write

    def element(self, shape: Shape, path: str) -> Callable[[Any], Fragment]:
        """A function from a value to a whole element: the one at a dotted path, or one of the list there.

        Raises:
            KeyError: no such path in the shape.
        """
        tag = ""
        for name in path.split("."):
            inner = shape.element if shape.type == "list" else shape
            shape = inner.members[name]
            tag = shape.location or name
        if shape.type == "list":
            tag = _item_tag(shape, tag)
            shape = shape.element
        write = self.content(shape)

        def whole(value: Any) -> Fragment:
            pieces: list[Piece] = [f"<{tag}>"]
            write(value, pieces.append)
            pieces.append(f"</{tag}>")
            return Fragment(joined(pieces))

        return whole

    def _compound(self, shape: Shape, tag: str) -> str:
        """The name of the function for a structure, list or map; `tag` is of a flattened one's elements."""
        found = self._functions.get((shape.name, tag))
        if found is None:
            found = self._functions[shape.name, tag] = f"w{len(self._functions)}"  # before: shapes recur
            body = {"structure": self._structure, "list": self._list, "map": self._map}[shape.type]
            source = "\n    ".join((f"def {found}(v, put):", *body(shape, tag)))
            exec(compile(source, f"<{shape.name}>", "exec"), self._names)  # noqa: S102 - made of the model alone
        return found

    def _structure(self, shape: Shape, _: str) -> Iterator[str]:
        """Every member that is there, in the wire's order; as many as were given, or one was unknown."""
        yield "n = 0; get = v.get"
        for name, member in self._in_order(shape):
            yield f"x = get({name!r})"
            yield f"if x is not None:\n        n += 1; {self._member(member, name)}"
        known = f"{shape.name}_members"
        self._names[known] = (shape.name, frozenset(shape.members))
        yield f"if n != len(v): reject(v, {known})"

    def _in_order(self, shape: Shape) -> list[tuple[str, Shape]]:
        first = self._model.order.get(shape.name, ())
        rank = {wire: place for place, wire in enumerate(first)} | {"nextToken": 1 << 20}

        def place(item: tuple[str, Shape]) -> int:
            return rank.get(item[1].location or item[0], len(first))

        return sorted(shape.members.items(), key=place)

    def _member(self, shape: Shape, name: str) -> str:
        """A line that writes the variable `x` with its tags."""
        tag = shape.location or name
        if shape.type in {"list", "map"} and shape.flattened:
            return f"{self._compound(shape, _item_tag(shape, tag))}(x, put)"
        return self._tagged(shape, tag)

    def _tagged(self, shape: Shape, tag: str) -> str:
        if not _is_name(tag):
            raise ValueError(f"{tag!r} of {shape.name} is not the name of an element")
        if shape.type in {"structure", "list", "map"}:
            whole = f"(put('<{tag}>'), {self._compound(shape, '')}(x, put), put('</{tag}>'))"
            return f"put(x) if x.__class__ is Fragment else {whole}" if shape.type == "structure" else whole
        return f'put(f"<{tag}>{self._scalar(shape)}</{tag}>")'

    def _scalar(self, shape: Shape) -> str:
        """The inside of an f-string; a word of an enumeration needs no look for what must be escaped."""
        text = _TEXT[shape.traits.get("timestampFormat", shape.type)]
        words = frozenset(word for word in shape.traits.get("enum", ()) if not scalars.unsafe(word))
        if not words:
            return text
        known = f"words_of_{shape.name}"
        self._names[known] = words
        return f"{{x if x in {known} or unsafe(x) is None else escape(x)}}"

    def _list(self, shape: Shape, tag: str) -> Iterator[str]:
        yield f"for x in v: {self._tagged(shape.element, tag or _item_tag(shape, ''))}"

    def _map(self, shape: Shape, tag: str) -> Iterator[str]:
        entry = tag or "entry"
        yield "for k, w in v.items():"
        yield f"    x = k; put('<{entry}>'); {self._tagged(shape.key, shape.key.location or 'key')}"
        yield f"    x = w; {self._tagged(shape.value, shape.value.location or 'value')}; put('</{entry}>')"


def joined(pieces: Iterable[Piece]) -> bytes:
    """All pieces in one; what is already bytes is copied once, and text is encoded in long runs."""
    runs: list[bytes] = []
    for kind, run in groupby(pieces, type):
        if kind is str:
            runs.append("".join(cast("Iterable[str]", run)).encode())
        else:
            runs += cast("Iterable[bytes]", run)
    return b"".join(runs)


def _item_tag(shape: Shape, own: str) -> str:
    if shape.type == "map":
        return own
    if shape.flattened:
        return shape.element.location or own
    return shape.element.location or "member"


def _reject(value: Mapping[str, Any], known: tuple[str, frozenset[str]]) -> None:
    """A handler answered a member that the model does not have: our bug, said loudly."""
    name, members = known
    for key, given in value.items():
        if key not in members and given is not None:
            raise TypeError(f"{name} has no member {key}")
