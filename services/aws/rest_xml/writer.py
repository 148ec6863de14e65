"""A result into status, headers and body, compiled from the model.

The XML itself is written by the functions that `protocol.writer` generates; here is what rest-xml
adds: members in headers, payloads, attributes, and keys that are percent-encoded when the caller
asked for it (`EncodingType`: XML 1.0 cannot carry every character that a key may have).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from mallee.aws.model import Model, Shape
from mallee.aws.protocol import scalars
from mallee.aws.protocol.writer import Piece, Write, Writer, joined
from mallee.aws.rest_xml.errors import RestError

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_XSI: Final = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
# The names of the documents in the API reference; the model has only those of its own shapes.
_ROOTS: Final[Mapping[str, str]] = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CreateSession": "CreateSessionResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycle": "LifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotification": "NotificationConfiguration",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBucketAnalyticsConfigurations": "ListBucketAnalyticsConfigurationResult",
    "ListBucketInventoryConfigurations": "ListInventoryConfigurationsResult",
    "ListBucketMetricsConfigurations": "ListMetricsConfigurationsResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListDirectoryBuckets": "ListAllMyDirectoryBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
_ENCODED: Final = frozenset(
    {"Delimiter", "Key", "KeyMarker", "Marker", "NextKeyMarker", "NextMarker", "Prefix", "StartAfter"}
)
_no_text = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_plain = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Answer:
    """What goes back: `body` is whole in bytes, or what the handler gave as the stream."""

    status: int
    headers: Headers
    body: Any = b""


class _Documents(Writer):
    """Writes what is inside tags; with `encoded`, keys and prefixes are percent-encoded."""

    def __init__(self, model: Model, *, encoded: bool) -> None:
        super().__init__(model)
        self._encoded = encoded
        self._names |= {"time": scalars.milliseconds, "quoted": quoted, "attribute": _attribute}

    def _member(self, shape: Shape, name: str) -> str:
        if shape.traits.get("xmlAttribute"):
            return "pass"  # it stands in the tag
        if self._encoded and name in _ENCODED and shape.type == "string":
            tag = shape.location or name
            return f'put(f"<{tag}>{{quoted(x)}}</{tag}>")'
        return super()._member(shape, name)

    def _tagged(self, shape: Shape, tag: str) -> str:
        if shape.type == "structure":
            for name, member in shape.members.items():
                if member.traits.get("xmlAttribute"):
                    start = f"<{tag} {_XSI} {member.location}="
                    start += f'"{{attribute(x.get("{name}"))}}">'
                    return f"(put(f'''{start}'''), {self._compound(shape, '')}(x, put), put('</{tag}>'))"
        return super()._tagged(shape, tag)


def _attribute(text: str | None) -> str:
    return scalars.escape(text or "").replace('"', "&quot;")


def quoted(key: str) -> str:
    """A key as `encoding-type=url` wants it; most need nothing."""
    return key if _plain(key) else quote(key, safe="/-_.~")


@dataclass(slots=True)
class _Form:
    """How one operation's result is laid out."""

    status: int
    headers: dict[str, tuple[bytes, Callable[[Any], bytes]]] = field(default_factory=dict)
    prefixes: dict[str, bytes] = field(default_factory=dict)
    payload: str = ""
    raw: bool = False  # the payload is bytes, text or a stream
    inside: frozenset[str] = frozenset()  # members of the document
    head: str = ""
    tail: str = ""
    write: Write | None = None
    write_encoded: Write | None = None


class Answers:
    """The compiled answers of one model."""

    def __init__(self, model: Model) -> None:
        self._plain = _Documents(model, encoded=False)
        self._encoded = _Documents(model, encoded=True)
        self._forms = {name: self._form(name, model) for name in model.operations}

    def write(self, operation: str, result: Mapping[str, Any] | None) -> Answer:
        """The answer with a result.

        Raises:
            TypeError, ValueError, KeyError, AttributeError: it does not fit the model (our bug).
            RestError: InvalidArgument, a text that cannot stand in a header.
        """
        form = self._forms[operation]
        answer = Answer(form.status, [])
        inside: dict[str, Any] = {}
        payload: Any = None
        for name, value in (result or {}).items():
            if value is None:
                continue
            header = form.headers.get(name)
            if header is not None:
                answer.headers.append((header[0], header[1](value)))
            elif name in form.inside:
                inside[name] = value
            elif name == form.payload:
                payload = value
            elif name in form.prefixes:
                start = form.prefixes[name]
                answer.headers += [(start + key.encode(), header_text(text)) for key, text in value.items()]
            else:
                raise TypeError(f"{operation} answers no {name}")
        self._put_body(form, inside, payload, answer)
        return answer

    def _put_body(self, form: _Form, inside: Mapping[str, Any], payload: Any, answer: Answer) -> None:
        if form.raw:
            answer.body = payload.encode() if isinstance(payload, str) else payload or b""
            return
        value = inside if form.inside else payload
        if form.write is None or value is None:
            return
        write = form.write
        if form.write_encoded is not None and inside.get("EncodingType") == "url":
            write = form.write_encoded
        pieces: list[Piece] = [form.head]
        write(value, pieces.append)
        pieces.append(form.tail)
        answer.body = joined(pieces)
        answer.headers.append((b"content-type", b"application/xml"))

    def _form(self, operation: str, model: Model) -> _Form:
        form = _Form(model.operations[operation]["http"].get("responseCode", 200))
        shape = model.output(operation)
        if shape is None:
            return form
        form.payload = shape.traits.get("payload", "")
        inside: set[str] = set()
        for name, member in shape.members.items():
            location = member.traits.get("location")
            wire = (member.location or name).lower().encode()
            if location == "header":
                form.headers[name] = (wire, _header_writer(member))
            elif location == "headers":
                form.prefixes[name] = wire
            elif location is None and not form.payload:
                inside.add(name)
        if form.payload:
            self._payload(form, shape.members[form.payload])
        elif inside:
            form.inside = frozenset(inside)
            self._document(form, shape.only(inside), _ROOTS.get(operation, operation + "Result"))
        if operation == "GetBucketLocation":  # the one document that is a text
            form.write = _location
        return form

    def _payload(self, form: _Form, member: Shape) -> None:
        if member.type in {"blob", "string"} or member.traits.get("eventstream"):
            form.raw = True
        else:
            self._document(form, member, member.location or member.name)

    def _document(self, form: _Form, shape: Shape, root: str) -> None:
        form.head, form.tail = f'{_HEAD}<{root} xmlns="{NAMESPACE}">', f"</{root}>"
        form.write = self._plain.content(shape)
        if "EncodingType" in shape.members:
            form.write_encoded = self._encoded.content(shape)


def _location(value: Mapping[str, Any], put: Callable[[Piece], None]) -> None:
    put(scalars.escape(value.get("LocationConstraint") or ""))


def _header_writer(member: Shape) -> Callable[[Any], bytes]:
    match member.type:
        case "boolean":
            return lambda value: b"true" if value else b"false"
        case "integer" | "long":
            return lambda value: b"%d" % value
        case "timestamp" if member.traits.get("timestampFormat") == "iso8601":
            return lambda value: scalars.milliseconds(value).encode()
        case "timestamp":
            return lambda value: scalars.http_date(value).encode()
        case "list":
            return lambda value: header_text(",".join(value))
    return header_text


def header_text(text: str) -> bytes:
    """Text as a header's value.

    Raises:
        RestError: InvalidArgument for control characters, which would begin a header of their own.
    """
    if _no_text(text):
        raise RestError("InvalidArgument", "A header cannot hold control characters.")
    return text.encode()
