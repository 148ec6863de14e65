"""The answer on its way out: documents whole, objects in pieces, files by the kernel where it can.

Where the listener offers it (`mallee.sendfile`), a range of a file goes from the page cache to the
socket without passing through this process; else, and for small ranges, it is read and sent.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any, Final

from mallee.aws.exchange import Disconnected
from mallee.aws.rest_xml import Answer
from mallee.walrus.front.call import FileRange
from mallee.walrus.front.exchange import Exchange

WORTH_A_SENDFILE: Final = 64 * 1024  # bytes; a smaller range is read faster than it is sent by the kernel
_BLOCK: Final = 256 * 1024
_SLOWEST: Final = 60.0  # seconds in which a client must have taken something
_LINGERING: Final = 16 * 1024 * 1024  # bytes
_LINGERING_SECONDS: Final = 2.0
_WITHOUT_BODY: Final = frozenset({204, 304})


async def gather_small(answer: Answer) -> None:
    """Read a small object whole, before anything of its answer is out.

    Raises:
        Fault: it cannot be read; there is still time to say so.
    """
    body = answer.body
    if isinstance(body, FileRange):
        if body.length < WORTH_A_SENDFILE:
            answer.body = _read_range(body)
    elif not isinstance(body, bytes) and getattr(body, "length", WORTH_A_SENDFILE) < WORTH_A_SENDFILE:
        try:
            answer.body = b"".join(
                [_read_range(piece) if isinstance(piece, FileRange) else bytes(piece) async for piece in body]
            )
        finally:
            await body.aclose()


def _read_range(piece: FileRange) -> bytes:
    try:
        found = os.pread(piece.fd, piece.length, piece.offset)
    finally:
        os.close(piece.fd)
    if len(found) != piece.length:
        raise EOFError("a file of an object is shorter than its record says")
    return found


async def send_answer(x: Exchange) -> None:
    """Send head and body.

    Raises:
        Disconnected: the client went away.
        Fault: the object cannot be read to its end; the head is out, so the connection must be cut.
    """
    answer = x.answer
    bodiless = x.arrived.method == "HEAD" or answer.status in _WITHOUT_BODY
    if bodiless:
        await _close(answer)
        answer.body = b""
    keeps = x.incoming is not None and x.incoming.ended  # else the connection cannot carry another request
    headers = _headers(x, keeps=keeps, bodiless=bodiless)
    body = answer.body
    if isinstance(body, bytes):
        x.sent = len(body)
        whole = (x.scope.get("extensions") or {}).get("mallee.answer")
        if keeps and whole is not None and whole(answer.status, headers, body):
            return
    await x.send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(body, bytes):
        await x.send({"type": "http.response.body", "body": body, "more_body": True})
    else:
        await _send_pieces(x, body)
    if not keeps:
        await _linger(x)
    await x.send({"type": "http.response.body", "body": b""})


def _headers(x: Exchange, *, keeps: bool, bodiless: bool) -> list[tuple[bytes, bytes]]:
    name, body = x.request_id.encode(), x.answer.body
    headers = [*x.answer.headers, (b"x-amz-request-id", name), (b"x-amz-id-2", name)]
    if x.call is not None and x.call.reply_headers:
        headers += x.call.reply_headers
    if not keeps:
        headers.append((b"connection", b"close"))
    if not bodiless and not any(name == b"content-length" for name, _ in headers):
        length = len(body) if isinstance(body, bytes) else getattr(body, "length", None)
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
    return headers


async def _send_pieces(x: Exchange, body: Any) -> None:
    if isinstance(body, FileRange):
        await _send_range(x, body)
        return
    try:
        async for piece in body:
            if isinstance(piece, FileRange):
                await _send_range(x, piece)
            else:
                x.sent += len(piece)
                await _send_block(x, piece)
    finally:
        await _close(x.answer)


async def _send_range(x: Exchange, piece: FileRange) -> None:
    """Send a range of a file, and close the file however that ends."""
    x.sent += piece.length
    send_file = (x.scope.get("extensions") or {}).get("mallee.sendfile")
    try:
        if send_file is not None:
            if not await send_file(piece.fd, piece.offset, piece.length):
                raise Disconnected
            return
        at, end = piece.offset, piece.offset + piece.length
        while at < end:
            size = min(_BLOCK, end - at)
            block = await asyncio.to_thread(os.pread, piece.fd, size, at)
            if not block:
                raise EOFError("a file of an object is shorter than its record says")
            at += len(block)
            await _send_block(x, block)
    finally:
        os.close(piece.fd)


async def _send_block(x: Exchange, block: bytes | memoryview) -> None:
    """Send what is read anew for every call, as fast as the client takes it."""
    try:
        async with asyncio.timeout(_SLOWEST):
            await x.send({"type": "http.response.body", "body": block, "more_body": True})
    except TimeoutError as error:
        raise Disconnected from error


async def _close(answer: Answer) -> None:
    """Give back what the body holds, sent or not."""
    body = answer.body
    if isinstance(body, FileRange):
        os.close(body.fd)
    elif not isinstance(body, bytes) and hasattr(body, "aclose"):
        await body.aclose()


async def _linger(x: Exchange) -> None:
    """Take what the client is still sending, for a while: closing on it at once would lose the answer.

    A client that waits for `100 Continue` sends nothing, and is not asked to.
    """
    if x.incoming is None:
        return
    if x.headers.get(b"expect", b"").lower() == b"100-continue" and not x.incoming.begun:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGERING_SECONDS):
            await x.incoming.throw_away(_LINGERING)
