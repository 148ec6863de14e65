"""A client of the object store as the SDKs are: signed by botocore, sent again when the wire breaks.

Each attempt is one request that may be done, be lost, or be done after its sender has given up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.sim.client import READ_TIMEOUT, Key
from tests.sim.loop import LIFE
from tests.sim.world import REGION, Process, World

HOST = "objects.simulated:8774"
_PIECE = 3000  # bytes of a body that come at once


class Answer(NamedTuple):
    """What came back. A status of 0 is nothing: whoever asked does not know what was done, but for `refused`."""

    status: int
    headers: Mapping[bytes, bytes] = {}
    body: bytes = b""
    refused: bool = False  # nobody was there to be asked

    @property
    def is_known(self) -> bool:
        """Whether it says what was done: a 5xx does not."""
        return 0 < self.status < 500


NOTHING = Answer(0)


class StoreClient:
    """Whoever holds a key."""

    def __init__(self, world: World, name: str, key: Key) -> None:
        self.world = world
        self.name = name
        self._credentials = Credentials(key.access_key_id, key.secret_access_key)
        self._chance = world.chance(f"store client {name}")
        (self._process,) = world.of_role("walrus")

    async def once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One attempt."""
        answer = NOTHING
        try:
            answer = await self._send(
                method, quote(path), urlencode(sorted((query or {}).items())), body, headers or {}
            )
        except (ConnectionError, TimeoutError) as error:
            self.world.trace(f"{self.name} {method} {path} {type(error).__name__}")
            answer = Answer(0, refused=isinstance(error, ConnectionRefusedError))
        else:
            self.world.trace(f"{self.name} {method} {path} {answer.status} ({len(answer.body)})")
        return answer

    async def _send(
        self, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        process = self._process
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": self._signed(method, path, query, body, headers),
            "client": ("192.0.2.7", 40000),
        }
        if await self.world.network.carry(self.name, process.name):
            raise TimeoutError
        if not process.up or process.service.front is None:
            raise ConnectionRefusedError(process.name)
        async with asyncio.timeout(READ_TIMEOUT):
            answer = await _exchange(process, scope, body, self._chance.uniform(0, 0.02))
            if await self.world.network.carry(process.name, self.name):
                await asyncio.sleep(READ_TIMEOUT)
        return answer

    def _signed(
        self, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str]
    ) -> list[tuple[bytes, bytes]]:
        url = f"http://{HOST}{path}{f'?{query}' if query else ''}"
        request = AWSRequest(method, url, data=body, headers={"Host": HOST, **headers})
        botocore.auth.get_current_datetime = self._process.clock.now  # type: ignore[attr-defined]
        botocore.auth.S3SigV4Auth(self._credentials, "s3", REGION).add_auth(request)
        found = {**dict(request.headers.items()), "Content-Length": str(len(body))}
        return [(name.lower().encode(), value.encode()) for name, value in found.items()]


async def _exchange(process: Process, scope: dict[str, Any], body: bytes, pause: float) -> Answer:
    """One request and its answer on one connection."""
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    process.connections.append(answered)
    context = contextvars.Context()
    context.run(LIFE.set, process.life)
    work = _serve(process.service.front, scope, body, pause, answered)
    task = asyncio.get_running_loop().create_task(work, context=context)
    try:
        return await answered
    finally:
        if answered in process.connections:
            process.connections.remove(answered)
        del task


async def _serve(
    front: Any, scope: dict[str, Any], body: bytes, pause: float, answered: asyncio.Future[Answer]
) -> None:
    pieces = [body[at : at + _PIECE] for at in range(0, len(body), _PIECE)] or [b""]
    status, headers, found = 0, {}, bytearray()

    async def receive() -> Mapping[str, Any]:
        if not pieces:
            await asyncio.get_running_loop().create_future()  # it does not hang up
        piece = pieces.pop(0)
        if pieces:
            await asyncio.sleep(pause)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.update(message["headers"])
            return
        found.extend(message["body"])
        if message.get("more_body", False):
            await asyncio.sleep(0)
        elif not answered.done():
            answered.set_result(Answer(status, headers, bytes(found)))

    await front(scope, receive, send)
    if not answered.done():  # the head is out and the rest does not come
        answered.set_exception(ConnectionResetError("cut short"))
