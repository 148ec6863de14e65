"""Forms into the parameters of an operation, by parsers compiled from the model.

A parser is a closure per member that an action accepts; it walks what was sent. A name that the
model has and the action does not honour is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeAlias

from mallee.aws.errors import (
    InvalidParameterValue,
    MissingParameter,
    UnknownParameter,
    UnsupportedParameter,
)
from mallee.aws.model import Shape
from mallee.aws.protocol.form import Tree
from mallee.aws.protocol.scalars import READERS

Node: TypeAlias = "str | Tree"
Parse: TypeAlias = Callable[[Node, str], Any]  # what was sent at a name, and the name for complaints
Accepted: TypeAlias = "Mapping[str, Accepted] | None"  # None accepts everything below

_KINDS: Final = {
    "base64": "base64",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}


def accepted(paths: Iterable[str]) -> Accepted:
    """The dotted members that an action accepts, as a tree; a member with nothing below is whole."""
    root: dict[str, Any] = {}
    for path in paths:
        node = root
        *heads, last = path.split(".")
        for head in heads:
            below = node.setdefault(head, {})
            if below is None:
                break
            node = below
        else:
            node[last] = None
    return root


def compile_parser(protocol: str, shape: Shape | None, accepts: Accepted) -> Callable[[Tree], dict[str, Any]]:
    """A function from the tree of a form to the operation's parameters.

    Its errors are InvalidParameterValue, MissingParameter, UnknownParameter and
    UnsupportedOperation, each naming the parameter as the caller wrote it.
    """
    if shape is None:
        return _nothing
    parse = _Compiler(protocol).structure(shape, accepts)

    def parameters(form: Tree) -> dict[str, Any]:
        found: dict[str, Any] = parse(form, "")
        return found

    return parameters


def _nothing(form: Tree) -> dict[str, Any]:
    for name in form:
        raise UnknownParameter(name)
    return {}


class _Compiler:
    """Compiles shapes; a recursive shape refers to itself by a late look-up."""

    def __init__(self, protocol: str) -> None:
        self._ec2 = protocol == "ec2"
        self._whole: dict[str, Parse] = {}

    def parser(self, shape: Shape, accepts: Accepted) -> Parse:
        match shape.type:
            case "structure":
                return self._recursive(shape) if accepts is None else self.structure(shape, accepts)
            case "list":
                return self._list(shape, accepts)
            case "map":
                return self._map(shape)
        return _leaf(shape)

    def _recursive(self, shape: Shape) -> Parse:
        """One parser for a structure that is accepted whole, wherever it stands."""
        name = shape.name
        if name in self._whole:
            return self._whole[name]

        def later(node: Node, path: str) -> Any:
            return self._whole[name](node, path)

        self._whole[name] = later
        self._whole[name] = self.structure(shape, None)
        return self._whole[name]

    def structure(self, shape: Shape, accepts: Accepted) -> Parse:
        members: dict[str, tuple[str, Parse]] = {}
        required: list[tuple[str, str]] = []
        for name, member in shape.members.items():
            wire, *others = self._wire_names(name, member)
            known = accepts is None or name in accepts
            below = accepts.get(name) if accepts is not None else None
            members[wire] = (name, self.parser(member, below) if known else _refuse)
            members.update(dict.fromkeys(others, members[wire]))
            if name in shape.required:
                required.append((name, wire))
        return _structure(members, tuple(required))

    def _wire_names(self, name: str, member: Shape) -> tuple[str, ...]:
        """A member's name in a form; clients disagree on a flattened list whose elements have one too."""
        own = member.location or name
        if self._ec2:
            given: str | None = member.traits.get("queryName")
            return (given or own[0].upper() + own[1:],)
        if member.type == "list" and member.flattened and member.element.location:
            return own, member.element.location
        return (own,)

    def _list(self, shape: Shape, accepts: Accepted) -> Parse:
        parse = self.parser(shape.element, accepts)
        inner = None if self._ec2 or shape.flattened else shape.element.location or "member"
        return _list(parse, inner)

    def _map(self, shape: Shape) -> Parse:
        names = (shape.key.location or "key", shape.value.location or "value")
        parsers = (self.parser(shape.key, None), self.parser(shape.value, None))
        return _map(names, parsers, None if shape.flattened else "entry")


def _refuse(_: Node, path: str) -> NoReturn:
    """A member that the model has and the action does not honour."""
    raise UnsupportedParameter(path)


def _leaf(shape: Shape) -> Parse:
    read, sensitive = READERS[shape.type], shape.sensitive

    def parse(node: Node, path: str) -> Any:
        if not isinstance(node, str):
            raise UnknownParameter(f"{path}.{next(iter(node))}")
        try:
            return read(node)
        except ValueError as error:
            shown = "The value" if sensitive else f"Value ({node[:64]})"
            wanted = _KINDS.get(str(error), f"a {error}")
            raise InvalidParameterValue(
                f"{shown} for parameter {path} is invalid. It is not {wanted}."
            ) from None

    return parse


def _structure(members: Mapping[str, tuple[str, Parse]], required: tuple[tuple[str, str], ...]) -> Parse:
    def parse(node: Node, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        head = path + "." if path else ""
        for wire, below in _children(node, path):
            member = members.get(wire)
            if member is None:
                raise UnknownParameter(head + wire)
            found[member[0]] = member[1](below, head + wire)
        for name, wire in required:
            if name not in found:
                raise MissingParameter(head + wire)
        return found

    return parse


def _children(node: Node, path: str) -> Iterable[tuple[str, Node]]:
    """What is below a name; nothing below an empty value, and a bare value is an error."""
    if isinstance(node, str):
        if node:
            raise InvalidParameterValue(f"The parameter {path} takes no value of its own.")
        return ()
    return node.items()


def _list(parse_element: Parse, inner: str | None) -> Parse:
    def parse(node: Node, path: str) -> list[Any]:
        node, path = _inner(node, path, inner)
        return [parse_element(below, f"{path}.{index}") for index, below in _by_index(node, path)]

    return parse


def _inner(node: Node, path: str, name: str | None) -> tuple[Node, str]:
    """Go down the one constant name inside a list or map (`member`, `entry`), if there is one."""
    if name is None or isinstance(node, str):
        return node, path
    for other in node:
        if other != name:
            raise UnknownParameter(f"{path}.{other}")
    return node[name], f"{path}.{name}"


def _by_index(node: Node, path: str) -> list[tuple[int, Node]]:
    """Elements in the order of their indices, which may start at 0 and have gaps."""
    found: list[tuple[int, Node]] = []
    for index, below in _children(node, path):
        if not (index.isascii() and index.isdigit()) or len(index) > 6 or (index[0] == "0" and index != "0"):
            raise UnknownParameter(f"{path}.{index}")
        found.append((int(index), below))
    found.sort(key=_index)
    return found


def _index(item: tuple[int, Node]) -> int:
    return item[0]


def _map(names: tuple[str, str], parsers: tuple[Parse, Parse], inner: str | None) -> Parse:
    def parse(node: Node, path: str) -> dict[Any, Any]:
        node, path = _inner(node, path, inner)
        found: dict[Any, Any] = {}
        for index, entry in _by_index(node, path):
            here = f"{path}.{index}"
            for wire, _ in _children(entry, here):
                if wire not in names:
                    raise UnknownParameter(f"{here}.{wire}")
            key, value = (
                parse_one(_needed(entry, name, here), f"{here}.{name}")
                for name, parse_one in zip(names, parsers, strict=True)
            )
            found[key] = value
        return found

    return parse


def _needed(entry: Node, name: str, path: str) -> Node:
    if isinstance(entry, str) or name not in entry:
        raise MissingParameter(f"{path}.{name}")
    return entry[name]
