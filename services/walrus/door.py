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


def _refusal(path: str, request: str) -> bytes:
    # Control characters of a path cannot stand in XML at all, not even escaped.
    resource = escape("".join(character if character.isprintable() else "?" for character in path[:1024]))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<Error><Code>NotImplemented</Code>"
        "<Message>A header you provided implies functionality that is not implemented.</Message>"
        f"<Resource>{resource}</Resource><RequestId>{request}</RequestId></Error>"
    ).encode()
