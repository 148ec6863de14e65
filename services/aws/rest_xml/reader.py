"""A request's address, query, headers and document into the parameters of an operation, compiled from the model.

A reader is a list of closures, one per member. A name that the model has and the operation does not
honour is refused with `NotImplemented`, never ignored; what the model does not have is not looked at
in a query or a header, and is an error in a document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

from lxml import etree

from mallee.aws.model import Shape
from mallee.aws.protocol.reader import Accepted
from mallee.aws.protocol.scalars import READERS
from mallee.aws.rest_xml.errors import RestError
from mallee.aws.rest_xml.xml import local_name, malformed, parse

Element: TypeAlias = etree._Element  # noqa: SLF001 - lxml has no public name for it
Read: TypeAlias = Callable[[Element], Any]

_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_TEXT_TYPES: Final = {"string", "blob"}


@dataclass(slots=True)
class Sent:
    """What a request brought, before it is parameters.

    Attributes:
        address: the members of the path, by their names on the wire (`Bucket`, `Key`).
        query: decoded.
        headers: by lower-case name.
        document: the body of an operation that does not stream.
    """

    address: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    document: bytes = b""


Take: TypeAlias = Callable[[Sent, dict[str, Any]], None]


@dataclass(slots=True)
class Reader:
    """One operation's.

    Attributes:
        payload: how the body is read: `stream` (by the handler), `document`, or empty for none.
        takers: from the whole request.
        headers, query: by the name on the wire, to the member and its value.
        required: members of headers and query that must be there, with their names on the wire.
    """

    payload: str = ""
    takers: list[Take] = field(default_factory=list)
    headers: dict[bytes, Callable[[bytes], tuple[str, Any]]] = field(default_factory=dict)
    query: dict[str, Callable[[str], tuple[str, Any]]] = field(default_factory=dict)
    required: list[tuple[str, str]] = field(default_factory=list)

    def read(self, sent: Sent) -> dict[str, Any]:
        """The parameters, without the stream.

        Raises:
            RestError: InvalidArgument, MissingRequestBodyError, MalformedXML, NotImplemented.
        """
        found: dict[str, Any] = {}
        for take in self.takers:
            take(sent, found)
        for header, value in sent.headers.items():
            known = self.headers.get(header)
            if known is not None:
                name, typed = known(value)
                if typed is not None:
                    found[name] = typed
        for parameter, text in sent.query.items():
            asked = self.query.get(parameter)
            if asked is not None:
                name, typed = asked(text)
                if typed is not None:
                    found[name] = typed
        for name, wire in self.required:
            if name not in found:
                raise _invalid(f"The request is missing {wire}.", wire, "")
        return found


def compile_reader(shape: Shape | None, accepts: Accepted, always: Iterable[str] = ()) -> Reader:
    """The reader of an operation's input.

    Args:
        shape: the input; None for an operation that takes nothing.
        accepts: the members that are honoured; None for all.
        always: members that are honoured by whoever reads the request.
    """
    reader = Reader()
    if shape is None:
        return reader
    payload = shape.traits.get("payload")
    body: dict[str, Shape] = {}
    for name, member in shape.members.items():
        known = accepts is None or name in accepts or name in always
        location = member.traits.get("location")
        if location is None and name != payload:
            body[name] = member
            continue
        wire = member.location or name
        if name in shape.required and location in {"querystring", "header"}:
            reader.required.append((name, wire))
        if location == "uri":
            reader.takers.append(_address(name, wire))
        elif location == "header":
            reader.headers[wire.lower().encode()] = _header(name, member, wire, known=known)
        elif location == "querystring":
            reader.query[wire] = _parameter(name, member, wire, known=known)
        elif location == "headers":
            reader.takers.append(_prefixed(name, wire.lower().encode(), known=known))
        else:
            _payload(reader, name, member, accepts, required=name in shape.required)
    if body:
        reader.payload = "document"
        whole = _Documents().structure(shape, accepts, members=body)
        reader.takers.append(_rooted(None, whole, names=(shape.name,), required=True))
    return reader


def _payload(reader: Reader, name: str, member: Shape, accepts: Accepted, *, required: bool) -> None:
    if member.type in _TEXT_TYPES:
        if member.traits.get("streaming"):
            reader.payload = "stream"
            return
        reader.payload = "document"
        reader.takers.append(_text(name, member))
        return
    reader.payload = "document"
    below = accepts.get(name) if accepts is not None else None
    known = accepts is None or name in accepts
    read: Read = _Documents().structure(member, below) if known else _refuse(name)
    reader.takers.append(_rooted(name, read, names=(member.location or "", member.name), required=required))


def _address(name: str, wire: str) -> Take:
    def take(sent: Sent, found: dict[str, Any]) -> None:
        found[name] = sent.address[wire]

    return take


def _header(name: str, member: Shape, wire: str, *, known: bool) -> Callable[[bytes], tuple[str, Any]]:
    read, several = _text_reader(member, wire), member.type == "list"

    def take(value: bytes) -> tuple[str, Any]:
        if not known:
            _not_implemented(wire)
        text = _decoded(value)
        if several:
            return name, [part.strip() for part in text.split(",") if part.strip()]
        return name, read(text)

    return take


def _parameter(name: str, member: Shape, wire: str, *, known: bool) -> Callable[[str], tuple[str, Any]]:
    read = _text_reader(member, wire)

    def take(value: str) -> tuple[str, Any]:
        if not known:
            _not_implemented(wire)
        return name, read(value)

    return take


def _text_reader(member: Shape, wire: str) -> Callable[[str], Any]:
    """From the text of a header or a query parameter; an empty one that is not text counts as not sent."""
    if member.type in {"string", "list"}:
        return str
    read, sensitive = READERS[member.type], member.sensitive

    def typed(text: str) -> Any:
        if not text:
            return None
        try:
            return read(text.strip())
        except ValueError as error:
            shown = "" if sensitive else text[:256]
            raise _invalid(
                f"Provided {wire} is not a valid {error} or out of its range", wire, shown
            ) from None

    return typed


def _prefixed(name: str, prefix: bytes, *, known: bool) -> Take:
    start = len(prefix)

    def take(sent: Sent, found: dict[str, Any]) -> None:
        given = {
            _decoded(header[start:]): _decoded(value)
            for header, value in sent.headers.items()
            if header.startswith(prefix)
        }
        if given:
            if not known:
                _not_implemented(prefix.decode())
            found[name] = given

    return take


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _text(name: str, member: Shape) -> Take:
    blob = member.type == "blob"

    def take(sent: Sent, found: dict[str, Any]) -> None:
        if not sent.document:
            raise RestError("MissingRequestBodyError", "Request Body is empty")
        try:
            found[name] = sent.document if blob else sent.document.decode()
        except UnicodeDecodeError as error:
            raise _invalid("The body of the request is not UTF-8.", name, "") from error

    return take


def _rooted(name: str | None, read: Read, *, names: tuple[str, ...], required: bool) -> Take:
    def take(sent: Sent, found: dict[str, Any]) -> None:
        if not sent.document.strip():
            if required:
                raise RestError("MissingRequestBodyError", "Request Body is empty")
            return
        root = parse(sent.document)
        if local_name(root) not in names:
            raise malformed()
        value = read(root)
        if name is None:
            found.update(value)
        else:
            found[name] = value

    return take


class _Documents:
    """Compiles the shapes of a document; a recursive shape refers to itself by a late look-up."""

    def __init__(self) -> None:
        self._whole: dict[str, Read] = {}

    def reader(self, shape: Shape, accepts: Accepted) -> Read:
        match shape.type:
            case "structure" if accepts is None:
                return self._recursive(shape)
            case "structure":
                return self.structure(shape, accepts)
            case "list":
                return _list(self.reader(shape.element, accepts), shape.element.location or "member")
        return _scalar(shape)

    def _recursive(self, shape: Shape) -> Read:
        name = shape.name
        if name not in self._whole:

            def later(element: Element) -> Any:
                return self._whole[name](element)

            self._whole[name] = later
            self._whole[name] = self.structure(shape, None)
        return self._whole[name]

    def structure(
        self, shape: Shape, accepts: Accepted, *, members: Mapping[str, Shape] | None = None
    ) -> Read:
        elements: dict[str, tuple[str, bool, Read]] = {}
        attributes: dict[str, str] = {}
        for name, member in (shape.members if members is None else members).items():
            known = accepts is None or name in accepts
            below = accepts.get(name) if accepts is not None else None
            if member.traits.get("xmlAttribute"):
                attributes[_XSI + (member.location or name).removeprefix("xsi:")] = name
                continue
            flat = member.type == "list" and member.flattened
            inner = member.element if flat else member
            wire = (flat and inner.location) or member.location or name
            elements[wire] = (name, flat, self.reader(inner, below) if known else _refuse(name))
        needed = tuple(name for name in shape.required if members is None or name in members)
        return _structure(elements, attributes, needed)


def _structure(
    elements: Mapping[str, tuple[str, bool, Read]], attributes: Mapping[str, str], required: tuple[str, ...]
) -> Read:
    def read(element: Element) -> dict[str, Any]:
        found: dict[str, Any] = {
            attributes[key]: element.get(key) for key in attributes if key in element.attrib
        }
        for child in element:
            member = elements.get(local_name(child))
            if member is None:
                raise malformed()
            name, flat, below = member
            if flat:
                found.setdefault(name, []).append(below(child))
            elif name in found:
                raise malformed()
            else:
                found[name] = below(child)
        for name in required:
            if name not in found:
                raise malformed()
        return found

    return read


def _list(read_element: Read, tag: str) -> Read:
    def read(element: Element) -> list[Any]:
        found = []
        for child in element:
            if local_name(child) != tag:
                raise malformed()
            found.append(read_element(child))
        return found

    return read


def _scalar(shape: Shape) -> Read:
    typed, is_text = READERS[shape.type], shape.type == "string"

    def read(element: Element) -> Any:
        if len(element):
            raise malformed()
        text = element.text or ""
        try:
            return text if is_text else typed(text.strip())
        except ValueError:
            raise malformed() from None

    return read


def _refuse(name: str) -> Read:
    def read(_: Element) -> NoReturn:
        _not_implemented(name)

    return read


def _not_implemented(name: str) -> NoReturn:
    raise RestError(
        "NotImplemented",
        f"{name} implies functionality that is not implemented.",
        501,
        details={"Header": name},
    )


def _invalid(why: str, name: str, value: str) -> RestError:
    return RestError("InvalidArgument", why, details={"ArgumentName": name, "ArgumentValue": value})
