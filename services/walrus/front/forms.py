"""An upload by a browser's form: the fields, and then the file as it streams.

Fields count up to the file; what follows it is not looked at, as S3 has it. Nothing of the file is
kept here: it goes to whoever reads the body, bounded by what the form's policy allows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from mallee.walrus.errors import S3Error
from mallee.walrus.front.address import as_headers
from mallee.walrus.front.incoming import Incoming

MAX_FIELDS: Final = 20 * 1024  # bytes of all fields before the file
MAX_PARTS: Final = 200
_FILE: Final = "file"


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a form's body; None if it is not a form.

    Raises:
        S3Error: MalformedPOSTRequest, a form without a boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 256:
        raise S3Error("MalformedPOSTRequest")
    return boundary


@dataclass(slots=True)
class _Part:
    name: str
    filename: str | None
    content_type: str
    value: bytearray = field(default_factory=bytearray)


class Form:
    """One form on its way in.

    Attributes:
        fields: by lower-case name, those before the file.
        filename: of the file, without its folders; empty if the browser sent none.
        smallest, largest: what the file may have, in bytes; set once the policy is known.
        length: of the file: nobody knows before its end.
    """

    length: int | None = None

    def __init__(self, incoming: Incoming, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.smallest = 0
        self.largest = 0
        self._incoming = incoming
        self._blocks = incoming.blocks()
        self._headers: list[tuple[bytes, bytes]] = []
        self._name, self._value = bytearray(), bytearray()
        self._part: _Part | None = None
        self._parts = 0
        self._size = 0
        self._in_file = False
        self._files = 0
        self._pieces: list[bytes] = []
        self._whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def read_fields(self) -> None:
        """Read up to the file.

        Raises:
            S3Error: MalformedPOSTRequest, MaxPostPreDataLengthExceededError, IncorrectNumberOfFilesInPostRequest.
        """
        async for block in self._blocks:
            self._feed(block)
            if self._files:
                return
        raise S3Error("IncorrectNumberOfFilesInPostRequest")

    def at_once(self) -> None:
        """A form is read to its end, whatever came with its head."""

    async def blocks(self) -> AsyncIterator[bytes]:
        """The file, in pieces of any size.

        Raises:
            S3Error: EntityTooLarge, EntityTooSmall, MalformedPOSTRequest, IncorrectNumberOfFilesInPostRequest.
        """
        came = 0
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                came += len(piece)
                if came > self.largest:
                    raise S3Error("EntityTooLarge", ProposedSize=str(came), MaxSizeAllowed=str(self.largest))
                yield piece
            block = await anext(self._blocks, None)
            if block is None:
                break
            self._feed(block)
        if not self._whole:
            raise S3Error("MalformedPOSTRequest")
        if came < self.smallest:
            raise S3Error("EntityTooSmall", ProposedSize=str(came), MinSizeAllowed=str(self.smallest))

    def _feed(self, block: bytes | memoryview) -> None:
        try:
            self._parser.write(bytes(block))
        except MultipartParseError as error:
            raise S3Error("MalformedPOSTRequest") from error

    # -- the parser's side

    def _on_part_begin(self) -> None:
        self._headers.clear()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise S3Error("MaxPostPreDataLengthExceededError")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.append((bytes(self._name).lower(), bytes(self._value)))
        self._name.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        given = dict(self._headers)
        _, options = parse_options_header(given.get(b"content-disposition", b""))
        filename = options.get(b"filename")
        self._part = _Part(
            _text(options.get(b"name", b"")).lower(),
            None if filename is None else _text(filename),
            _text(given.get(b"content-type", b"")),
        )
        if self._part.name == _FILE:
            self._files += 1
            if self._files > 1:
                raise S3Error("IncorrectNumberOfFilesInPostRequest")
            self._in_file = True
            self.filename = (self._part.filename or "").replace("\\", "/").rpartition("/")[2]

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
        elif not self._files:
            assert self._part
            self._size += end - start
            if self._size > MAX_FIELDS:
                raise S3Error("MaxPostPreDataLengthExceededError", MaxPostPreDataLengthBytes=str(MAX_FIELDS))
            self._part.value += data[start:end]

    def _on_part_end(self) -> None:
        assert self._part
        if not self._in_file and not self._files and self._part.name:
            self.fields.setdefault(self._part.name, _text(bytes(self._part.value)))
        self._in_file = False

    def _on_end(self) -> None:
        self._whole = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise S3Error("InvalidArgument", "A field of the form is not UTF-8.") from error


def headers_of(fields: Mapping[str, str]) -> dict[bytes, bytes]:
    """What would be the headers of the same upload by PUT.

    Raises:
        S3Error: InvalidArgument.
    """
    headers = {
        name: value
        for name, value in fields.items()
        if name in _AS_HEADERS or (name.startswith("x-amz-") and name not in _OF_SIGNATURES)
    }
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    return as_headers(headers)


_AS_HEADERS: Final = frozenset(
    {"cache-control", "content-type", "content-disposition", "content-encoding", "expires"}
)
_OF_SIGNATURES: Final = frozenset(
    {"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"}
)
