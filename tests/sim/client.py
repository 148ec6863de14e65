"""A client as the SDKs are: requests encoded and signed by botocore, sent again when the wire breaks.

There is no socket: a request crosses the pretended network and is handed to the front as uvicorn hands it
over. Whoever waits on a connection to a process that dies learns it as from a kernel: by a reset.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

import botocore.auth
import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from mallee.aws import model
from mallee.kernel.entropy import SeededEntropy, request_id
from tests.sim.loop import LIFE
from tests.sim.world import REGION, Process, World

ATTEMPTS = 4
READ_TIMEOUT = 20.0  # seconds
PASSING = {500, 502, 503, 504}


class Refused(Exception):
    """The cloud's answer was no. Attributes: `code`, `status`."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{code} ({status}): {message}")
        self.code = code
        self.status = status


class Unknown(Exception):
    """No answer came: it may have been done, or not."""


class Away(Unknown):
    """Nobody listened, however often it was tried: nothing was done."""


@dataclass(frozen=True)
class Key:
    access_key_id: str
    secret_access_key: str
    account_id: str = ""


class Client:
    """Whoever holds a key."""

    def __init__(self, world: World, name: str, key: Key) -> None:
        self.world = world
        self.name = name
        self.key = key
        self._chance = world.chance(f"client {name}")
        self._entropy = SeededEntropy(self._chance.getrandbits(64))

    def token(self) -> str:
        """A client token, as SDKs make them."""
        return request_id(self._entropy)

    async def __call__(
        self, operation: str, *, service: str = "ec2", attempts: int = ATTEMPTS, **parameters: Any
    ) -> dict[str, Any]:
        """Ask; what is sent again is the same request, its invocation id included.

        Raises:
            Refused: the last answer, when that was an error.
            Unknown: there was none.
        """
        encoded = _encode(service, operation, parameters)
        invocation = request_id(self._entropy)
        uncertain = False
        doors = self.world.of_role("clc")
        first = self._chance.randrange(len(doors)) if len(doors) > 1 else 0
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(self._chance.uniform(0.05, 0.5 * 2**attempt))
            door = doors[(first + attempt) % len(doors)]
            try:
                status, body = await self._send(door, service, encoded, invocation)
            except (ConnectionError, TimeoutError) as error:
                self.world.trace(f"{self.name} {operation} {type(error).__name__}")
                failure: Exception = error
                uncertain = uncertain or not isinstance(error, ConnectionRefusedError)
                continue
            read = _parser(service).parse(
                {"body": body, "headers": {}, "status_code": status},
                _model(service).operation_model(operation).output_shape,
            )
            code = read.get("Error", {}).get("Code", "")
            self.world.trace(f"{self.name} {operation} {status} {code} ({len(body)})")
            if status == 200:
                del read["ResponseMetadata"]
                return read  # type: ignore[no-any-return]
            refusal = Refused(code, read["Error"].get("Message", ""), status)
            if status not in PASSING or code == "InsufficientInstanceCapacity":
                raise refusal
            failure = refusal
            uncertain = True  # a 5xx does not say that nothing was done
        if uncertain:
            raise Unknown(f"{operation}: {failure}") from failure
        raise Away(operation) from failure

    async def _send(
        self, process: Process, service: str, encoded: bytes, invocation: str
    ) -> tuple[int, bytes]:
        headers = self._signed(process, service, encoded, invocation)
        if await self.world.network.carry(self.name, process.name):
            raise TimeoutError
        if not process.up:
            raise ConnectionRefusedError(process.name)
        async with asyncio.timeout(READ_TIMEOUT):
            answer = await _exchange(process, headers, encoded)
            if await self.world.network.carry(process.name, self.name):
                await asyncio.sleep(READ_TIMEOUT)
        return answer

    def _signed(
        self, process: Process, service: str, encoded: bytes, invocation: str
    ) -> list[tuple[bytes, bytes]]:
        request = AWSRequest(
            "POST",
            "http://cloud.simulated:8773/",
            data=encoded,
            headers={
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                "Host": "cloud.simulated:8773",
                "amz-sdk-invocation-id": invocation,
            },
        )
        # Users' clocks agree with the cloud's: how far apart they may be is the wire suite's matter.
        botocore.auth.get_current_datetime = process.clock.now  # type: ignore[attr-defined]
        signer = botocore.auth.SigV4Auth(
            Credentials(self.key.access_key_id, self.key.secret_access_key), service, REGION
        )
        signer.add_auth(request)
        headers = {**dict(request.headers.items()), "Content-Length": str(len(encoded))}
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _exchange(process: Process, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, bytes]:
    """One request and its answer on one connection."""
    answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    process.connections.append(answered)
    context = contextvars.Context()
    context.run(LIFE.set, process.life)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": headers,
        "client": ("192.0.2.7", 40000),
    }
    work = _serve(process.service.front, scope, body, answered)
    task = asyncio.get_running_loop().create_task(work, context=context)
    try:
        return await answered
    finally:
        if answered in process.connections:
            process.connections.remove(answered)
        del task


async def _serve(
    front: Any, scope: dict[str, Any], body: bytes, answered: asyncio.Future[tuple[int, bytes]]
) -> None:
    status = 0

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif not answered.done():
            answered.set_result((status, message["body"]))

    await front(scope, receive, send)


@cache
def _model(service: str) -> ServiceModel:
    loader = botocore.session.get_session().get_component("data_loader")
    loader.search_paths.insert(0, str(model.EXTRAS_DIR))
    return ServiceModel(loader.load_service_model(service, "service-2"))


@cache
def _parser(service: str) -> Any:
    return create_parser(_model(service).protocol)


@cache
def _serializer(service: str) -> Any:
    return create_serializer(_model(service).protocol, include_validation=False)


def _encode(service: str, operation: str, parameters: dict[str, Any]) -> bytes:
    form = _serializer(service).serialize_to_request(parameters, _model(service).operation_model(operation))[
        "body"
    ]
    return urlencode(form).encode()
