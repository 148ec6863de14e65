"""One guest's metadata over HTTP: version 1 by asking, version 2 by a token that a PUT has given.

A token can only be had by a PUT without X-Forwarded-For: a proxy that can be talked into fetching an
address sends GETs, and open ones add that header.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from hashlib import sha256
from typing import Any, Final

from mallee.domain.guest import Guest
from mallee.kernel.clock import Clock
from mallee.nc.metadata.categories import VERSIONS, listing, tree

Message = MutableMapping[str, Any]
LONGEST_TTL: Final = 21_600
_TOKEN: Final = b"x-aws-ec2-metadata-token"
_TTL: Final = b"x-aws-ec2-metadata-token-ttl-seconds"
_is_ttl = re.compile(rb"[0-9]{1,5}").fullmatch
_token_parts = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII).fullmatch
_ANSWERS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
}


class MetadataDoor:
    """An ASGI application for one guest.

    Args:
        guest: who asks here.
        secret: with which this process signs tokens; a token is good for this guest alone.
        tokens_required: refuse version 1.
    """

    def __init__(self, guest: Guest, secret: bytes, clock: Clock, *, tokens_required: bool = False) -> None:
        self._instance_id = guest.instance_id
        self._leaves: Mapping[str, str] = tree(guest)
        self._secret = secret
        self._clock = clock
        self._required = tokens_required

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],  # noqa: ARG002 - ASGI's shape; no request here has a body
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        status, text, more = self._answer(scope["method"], scope["path"], dict(scope["headers"]))
        body = text.encode("latin-1", "replace")
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(body)).encode()),
            (b"server", b"EC2ws"),
            *more,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(
        self, method: str, path: str, headers: Mapping[bytes, bytes]
    ) -> tuple[int, str, list[tuple[bytes, bytes]]]:
        if path == "/latest/api/token":
            return self._give_token(method, headers)
        if method not in {"GET", "HEAD"}:
            return _error(405)
        token = headers.get(_TOKEN)
        if (token is None and self._required) or (token is not None and not self._is_good(token)):
            return _error(401)
        found = self._find(path.strip("/"))
        return (200, found, []) if found is not None else _error(404)

    def _find(self, path: str) -> str | None:
        if not path:
            return "\n".join(VERSIONS)
        version, _, rest = path.partition("/")
        if version not in VERSIONS:
            return None
        return self._leaves.get(rest) if rest in self._leaves else listing(self._leaves, rest)

    def _give_token(
        self, method: str, headers: Mapping[bytes, bytes]
    ) -> tuple[int, str, list[tuple[bytes, bytes]]]:
        if method != "PUT":
            return _error(405)
        if b"x-forwarded-for" in headers:
            return _error(403)
        asked = headers.get(_TTL, b"")
        if not _is_ttl(asked) or not 1 <= int(asked) <= LONGEST_TTL:
            return _error(400)
        expires = int(self._clock.boot()) + int(asked)
        return 200, f"{expires}.{self._sign(expires)}", [(_TTL, asked)]

    def _is_good(self, token: bytes) -> bool:
        parts = _token_parts(token.decode("latin-1"))
        if parts is None:
            return False
        expires = int(parts[1])
        return hmac.compare_digest(parts[2], self._sign(expires)) and self._clock.boot() < expires

    def _sign(self, expires: int) -> str:
        said = f"{self._instance_id} {expires}".encode()
        return hmac.new(self._secret, said, sha256).hexdigest()


def _error(status: int) -> tuple[int, str, list[tuple[bytes, bytes]]]:
    return status, f"{status} - {_ANSWERS[status]}", []
