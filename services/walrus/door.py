"""The S3 endpoint: until there are buckets, an honest refusal in S3's own words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from xml.sax.saxutils import escape

from mallee.kernel.entropy import Entropy, request_id

Message = MutableMapping[str, Any]


class S3Door:
    """An ASGI application that answers 501 `NotImplemented` to everything, signed or not."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],  # noqa: ARG002 - ASGI's shape
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        request = request_id(self._entropy)
        body = _refusal(scope["path"], request)
        headers = [
            (b"content-type", b"application/xml"),
            (b"content-length", str(len(body)).encode()),
            (b"x-amz-request-id", request.encode()),
            # The request's body is never read: the connection cannot carry another request.
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 501, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def unreadable(request: str) -> bytes:
    """S3's words for bytes that are no request at all."""
    return _error("BadRequest", "The bytes that were sent are not a request of HTTP/1.1.", "", request)


def _refusal(path: str, request: str) -> bytes:
    # Control characters of a path cannot stand in XML at all, not even escaped.
    resource = escape("".join(character if character.isprintable() else "?" for character in path[:1024]))
    words = "A header you provided implies functionality that is not implemented."
    return _error("NotImplemented", words, resource, request)


def _error(code: str, message: str, resource: str, request: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message><Resource>{resource}</Resource><RequestId>{request}</RequestId></Error>"
    ).encode()
