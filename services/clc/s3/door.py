"""One door: S3 requests that come to the cloud controller's port go on to the object store.

In one process they are handed over. Between processes they are carried: request line and headers as
they came (they are signed), bodies both ways as they flow, `100 Continue` only when the object store
asks for it. Nothing is kept, repeated or followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import structlog
from multidict import CIMultiDict
from yarl import URL

from mallee.aws.exchange import App, Receive, Scope, Send

_log = structlog.get_logger()

# Between two machines, never end to end. Source: RFC 9110, 7.6.1.
_HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te"),
        *(b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"),
    }
)
FORWARDED: Final = "x-mallee-forwarded-for"
_BLOCK: Final = 256 * 1024
_CONNECTIONS: Final = 512
_UNAVAILABLE: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>ServiceUnavailable</Code>'
    b"<Message>The object store cannot be reached now. Please try again.</Message></Error>"
)


class Door:
    """An ASGI application that passes requests on.

    Args:
        here: the object store's own application, if it is in this process and has started.
        address: where else it answers, `http://host:port`; empty for nowhere.
        token: by which it believes us who the client is; it hears of it when it asks for keys.
    """

    def __init__(self, here: Callable[[], App | None], address: str, token: str = "") -> None:
        self._here = here
        self._token = token
        self._address = address.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on and its answer back."""
        app = self._here()
        if app is not None:
            await app(scope, receive, send)
        elif self._address:
            await self._carry(scope, receive, send)
        else:
            await _unavailable(scope, send)

    async def close(self) -> None:
        """Close the connections to the object store."""
        if self._session is not None:
            await self._session.close()

    async def _carry(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self._headers(scope)
        expects = headers.pop("expect", "").lower() == "100-continue"
        comes = any(name in {b"content-length", b"transfer-encoding"} for name, _ in scope["headers"])
        body = _Body(receive, comes=comes)
        started = False
        try:
            async with self._client().request(
                scope["method"],
                self._url(scope),
                headers=headers,
                data=body.blocks() if comes else None,
                expect100=expects,
                allow_redirects=False,
            ) as answer:
                await send(_start(answer))
                started = True
                if scope["method"] != "HEAD":
                    async for block in answer.content.iter_chunked(_BLOCK):
                        await send({"type": "http.response.body", "body": block, "more_body": True})
                        if body.hung_up():
                            return  # nobody reads: leaving here hangs up on the object store too
                await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if body.gone:
                return
            if started:
                raise  # the head is out: the connection is cut, so nobody takes the answer for whole
            _log.warning("the object store cannot be reached", address=self._address, why=repr(error))
            await _unavailable(scope, send)
        finally:
            await body.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    def _url(self, scope: Scope) -> URL:
        raw: bytes = (scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")).partition(
            b"?"
        )[0]
        query: bytes = scope["query_string"]
        target = raw.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        return URL(self._address + target, encoded=True)

    def _headers(self, scope: Scope) -> CIMultiDict[str]:
        """Those of the request, in their order, `Host` among them; and who sent it."""
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in scope["headers"]:
            if name not in _HOP and name != FORWARDED.encode():
                headers.add(name.decode("latin-1"), value.decode("latin-1"))
        client = scope.get("client")
        if client and self._token:
            headers[FORWARDED] = f"{self._token} {client[0]} {scope.get('scheme', 'http')}"
        return headers


class _Body:
    """The request's body on its way through."""

    def __init__(self, receive: Receive, *, comes: bool) -> None:
        self._receive = receive
        self._whole = not comes
        self._waiting: asyncio.Task[None] | None = None
        self.gone = False  # the client went away

    async def blocks(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ConnectionResetError("the client went away")
            block: bytes = message.get("body", b"")
            if block:
                yield block
            if not message.get("more_body", False):
                self._whole = True
                return

    def hung_up(self) -> bool:
        """Whether the client went away while it was answered; asked now and then.

        After a whole body nothing can come but the end of the connection.
        """
        if self._whole and self._waiting is None:
            self._waiting = asyncio.create_task(self._wait_for_end())
        return self._waiting is not None and self._waiting.done()

    async def _wait_for_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def close(self) -> None:
        """Listen no more."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait((self._waiting,))


def _start(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    headers = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() not in _HOP]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


async def _unavailable(scope: Scope, send: Send) -> None:
    headers = [
        (b"content-type", b"application/xml"),
        (b"content-length", b"%d" % len(_UNAVAILABLE)),
        (b"retry-after", b"1"),
        (b"connection", b"close"),  # the body may not have been read
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else _UNAVAILABLE
    await send({"type": "http.response.body", "body": body})
