"""One guest's metadata over HTTP: version 1 by asking, version 2 by a token that a PUT has given.

A token can only be had by a PUT without X-Forwarded-For: a proxy that can be talked into fetching an
address sends GETs, and open ones add that header. The answer with the token travels as many hops as the
guest's owner allows, so that it ends in the guest and not in what the guest forwards for.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from mallee.domain.guest import Guest
from mallee.kernel.clock import Clock
from mallee.nc.metadata.categories import VERSIONS, listing, tree

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]
LONGEST_TTL: Final = 21_600
HEAD_BYTES: Final = 8 * 1024
SET_HOPS: Final = "mallee.hops"
"""The extension of the scope by which what is answered may go this many hops, and no further."""
_GIVES: Final = "/latest/api/token"
_TOKEN: Final = b"x-aws-ec2-metadata-token"
_TTL: Final = b"x-aws-ec2-metadata-token-ttl-seconds"
_FORWARDED: Final = b"x-forwarded-for"
_is_ttl = re.compile(rb"[0-9]{1,5}").fullmatch
_token_parts = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII).fullmatch
_ANSWERS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
}


class Answer(NamedTuple):
    """What is sent back; `hops` of 0 for as many as may be."""

    status: int
    text: str
    headers: Headers
    hops: int = 0


class MetadataDoor:
    """An ASGI application for one guest.

    Args:
        guest: who asks here.
        secret: with which this process signs tokens; a token is good for this guest alone.
    """

    def __init__(self, guest: Guest, secret: bytes, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self.describe(guest)

    def describe(self, guest: Guest) -> None:
        """Answer so from now on. Tokens that were given stay good."""
        self._instance_id = guest.instance_id
        self._options = guest.metadata
        self._leaves: Mapping[str, str] = tree(guest)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],  # noqa: ARG002 - ASGI's shape; no request here has a body
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        answer = self._answer(scope["method"], scope["path"], scope["headers"])
        if answer.hops and (set_hops := scope.get("extensions", {}).get(SET_HOPS)) is not None:
            set_hops(answer.hops)
        body = answer.text.encode("latin-1", "replace")
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(body)).encode()),
            (b"server", b"EC2ws"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, method: str, path: str, given: Iterable[tuple[bytes, bytes]]) -> Answer:
        if not self._options.enabled:
            return _error(403)
        headers = _once(given)
        if headers is None:
            return _error(400)
        if path == _GIVES:
            return self._give_token(method, headers)
        if method not in {"GET", "HEAD"}:
            return _error(405)
        token = headers.get(_TOKEN)
        missing = token is None and self._options.tokens_required
        if missing or (token is not None and not self._is_good(token)):
            return _error(401)
        found = self._find(path)
        return Answer(200, found, []) if found is not None else _error(404)

    def _find(self, path: str) -> str | None:
        """A leaf or a folder; one slash may stand at the end, and nothing is ever resolved."""
        path = path.removeprefix("/").removesuffix("/")
        if not path:
            return "\n".join(VERSIONS)
        version, _, rest = path.partition("/")
        if version not in VERSIONS:
            return None
        return self._leaves.get(rest) if rest in self._leaves else listing(self._leaves, rest)

    def _give_token(self, method: str, headers: Mapping[bytes, bytes]) -> Answer:
        if method != "PUT":
            return _error(405)
        if _FORWARDED in headers:
            return _error(403)
        asked = headers.get(_TTL, b"")
        if not _is_ttl(asked) or not 1 <= int(asked) <= LONGEST_TTL:
            return _error(400)
        expires = int(self._clock.boot()) + int(asked)
        token = f"{expires}.{self._sign(expires)}"
        return Answer(200, token, [(_TTL, asked)], hops=self._options.hop_limit)

    def _is_good(self, token: bytes) -> bool:
        parts = _token_parts(token.decode("latin-1"))
        if parts is None:
            return False
        expires = int(parts[1])
        return hmac.compare_digest(parts[2], self._sign(expires)) and self._clock.boot() < expires

    def _sign(self, expires: int) -> str:
        said = f"{self._instance_id} {expires}".encode()
        return hmac.new(self._secret, said, sha256).hexdigest()


def _once(given: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes] | None:
    """The headers that matter here; None when one is there twice, of which a proxy may have meant the other.

    None as well for more of them than anybody needs.
    """
    found: dict[bytes, bytes] = {}
    length = 0
    for name, value in given:
        length += len(name) + len(value)
        if length > HEAD_BYTES:
            return None
        if name in {_TOKEN, _TTL, _FORWARDED}:
            if name in found and name != _FORWARDED:
                return None
            found[name] = value
    return found


def _error(status: int) -> Answer:
    return Answer(status, f"{status} - {_ANSWERS[status]}", [])
