"""The stages of a request, each a function that finds out one thing or refuses.

Their order is in `server.PIPELINE`. Nothing of a request is believed before `authenticate`, and
nothing about resources is told before `authorise`: permission comes before existence.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from mallee.aws import sigv2, sigv4
from mallee.aws.context import Request
from mallee.aws.errors import (
    AuthFailure,
    DryRunOperation,
    InvalidParameterValue,
    InvalidRequest,
    MethodNotAllowed,
    MissingAction,
    MissingParameter,
    NoSuchVersion,
    RequestEntityTooLarge,
    RequestTimeout,
)
from mallee.aws.exchange import Disconnected, Exchange
from mallee.aws.fingerprint import parameter_hash
from mallee.aws.protocol import decode, tree
from mallee.aws.service import Authoriser, Service
from mallee.aws.throttle import Throttle

MAX_BODY: Final = 1024 * 1024
MAX_HEADERS: Final = 8 * 1024
BODY_SECONDS: Final = 30
_FORM: Final = "application/x-www-form-urlencoded"
_PRESIGNED: Final = tuple(
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token")
)
_is_version = re.compile(r"20\d\d-[01]\d-[0-3]\d", re.ASCII).fullmatch
_is_token = re.compile(r"[\x20-\x7e]{1,64}").fullmatch


@dataclass(slots=True)
class Turns:
    """One at a time: requests of the same name wait for each other, in the order they came."""

    _locks: dict[tuple[str, ...], tuple[asyncio.Lock, int]] = field(default_factory=dict)

    @asynccontextmanager
    async def of(self, name: tuple[str, ...]) -> AsyncIterator[None]:
        """Hold the turn of a name; a name that nobody holds or awaits takes no memory."""
        lock, users = self._locks.get(name, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks.pop(name)
            if users > 1:
                self._locks[name] = (lock, users - 1)


@dataclass(slots=True, kw_only=True)
class Stages:
    """The stages, with what they need from outside."""

    services: Mapping[str, Service]
    verifier: sigv4.Verifier
    old_verifier: sigv2.Verifier | None
    throttle: Throttle
    authoriser: Authoriser
    turns: Turns = field(default_factory=Turns)

    async def receive(self, x: Exchange) -> None:
        """The whole body, within its limits of size and time."""
        if x.arrived.method not in {"GET", "POST"}:
            raise MethodNotAllowed("A request must be a GET or a POST.")
        if sum(len(name) + len(value) for name, value in x.arrived.headers) > MAX_HEADERS:
            raise InvalidRequest(f"The headers of a request may have at most {MAX_HEADERS} bytes.")
        length = x.header(b"content-length")
        if length.isascii() and length.isdigit() and (len(length) > 9 or int(length) > MAX_BODY):
            raise RequestEntityTooLarge(f"A request may have at most {MAX_BODY} bytes.")
        arrived = x.extensions.get("mallee.arrived")
        whole: bytes | None = arrived() if arrived else None  # with the head, as nearly all do
        x.arrived.body = await _body_in_time(x) if whole is None else _bounded(whole)
        if x.arrived.body and not _is_form(x.header(b"content-type")):
            raise InvalidRequest(f"The Content-Type of a request must be {_FORM}.")

    async def read_envelope(self, x: Exchange) -> None:
        """Which action of which version, and the form."""
        if x.arrived.path != b"/":
            raise InvalidRequest("Requests go to the path /.")
        x.form = tree(decode(x.arrived.query) + decode(x.arrived.body))
        action, version = x.form.pop("Action", ""), x.form.pop("Version", "")
        if not isinstance(action, str) or not action:
            raise MissingAction
        if not isinstance(version, str) or not version:
            raise MissingParameter("Version")
        if not x.header(b"authorization") and b"X-Amz-Credential" not in x.arrived.query:  # names no service
            x.service = self.services.get(sigv2.SERVICES.get(version, "ec2"), x.service)
        own = x.service.wire.model.version
        old_enough = x.service.wire.model.protocol == "ec2" and _is_version(version) and version <= own
        if version != own and not old_enough:
            raise NoSuchVersion(version[:32])
        x.operation, x.version = action, version

    async def authenticate(self, x: Exchange) -> None:
        """Who asks."""
        if not x.header(b"authorization") and sigv2.looks_signed(x.arrived):
            if self.old_verifier is None:
                raise AuthFailure("Signature version 2 is not accepted by this cloud; sign with version 4.")
            x.signed = await self.old_verifier.verify(x.arrived)
            beside = sigv2.PARAMETERS
        else:
            x.signed = await self.verifier.verify(x.arrived)
            beside = frozenset() if x.header(b"authorization") else frozenset(_PRESIGNED)
        if x.signed.service != x.service.name:
            why = f"Credential should be scoped to a service of this cloud, not '{x.signed.service}'."
            sigv4.refuse(x.signed.service, why=why)
        for name in beside:
            x.form.pop(name, None)

    async def find_action(self, x: Exchange) -> None:
        """What is asked for."""
        x.action = x.service.action(x.operation)

    async def throttle_requests(self, x: Exchange) -> None:
        """A token for the request, from the account's bucket for the action."""
        assert x.signed
        assert x.action
        account = x.signed.principal.account_id
        self.throttle.request(account, x.action.name, mutating=x.action.mutating)

    async def read_parameters(self, x: Exchange) -> None:
        """The action's parameters, typed; from here on the request is known whole."""
        assert x.signed
        assert x.action
        x.parameters = x.service.read(x.action, x.form)
        token = x.parameters.get("ClientToken")
        if token is not None and not _is_token(token):
            raise InvalidParameterValue("The parameter ClientToken must have 1 to 64 ASCII characters.")
        invocation = x.header(b"amz-sdk-invocation-id")
        x.request = Request(
            request_id=x.request_id,
            service=x.service.name,
            operation=x.operation,
            version=x.version,
            region=x.signed.region,
            principal=x.signed.principal,
            client_token=token,
            invocation_id=invocation if _is_token(invocation) else None,
            parameter_hash=parameter_hash(x.parameters),
            dry_run=bool(x.parameters.get("DryRun")),
            host=x.header(b"host"),
            source_ip=x.source_ip,
            user_agent=x.header(b"user-agent")[:256],
        )

    async def throttle_resources(self, x: Exchange) -> None:
        """A token for each thing to be made."""
        assert x.request
        self.throttle.resources(x.request.principal.account_id, x.operation, x.parameters)

    async def authorise(self, x: Exchange) -> None:
        """Whether it may be done."""
        assert x.request
        assert x.action
        await self.authoriser.authorise(x.request, x.action, x.parameters)

    async def one_at_a_time(self, x: Exchange) -> None:
        """Requests with one token run one after another: the second finds the answer of the first."""
        assert x.request
        assert x.action
        token = x.request.client_token or (x.request.invocation_id if x.action.mutating else None)
        if token is not None:
            who = x.request.principal.account_id
            await x.held.enter_async_context(self.turns.of((who, x.service.name, x.operation, token)))

    async def dry_run(self, x: Exchange) -> None:
        """A dry run ends here: the permission was all that it asked for."""
        assert x.request
        if x.request.dry_run:
            raise DryRunOperation

    async def act(self, x: Exchange) -> None:
        """The action itself."""
        assert x.request
        assert x.action
        x.result = await x.action.handler(x.service.make_call(x.request), x.parameters)

    async def serialize(self, x: Exchange) -> None:
        """The answer, written."""
        x.body = x.service.wire.serialize(x.operation, x.result, x.request_id, x.version)


def _is_form(content_type: str) -> bool:
    return not content_type or content_type.partition(";")[0].strip().lower() == _FORM


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge(f"A request may have at most {MAX_BODY} bytes.")
    return body


async def _body_in_time(x: Exchange) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _body(x)
    except TimeoutError as error:
        raise RequestTimeout("The body of the request did not arrive in time.") from error


async def _body(x: Exchange) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await x.receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise RequestEntityTooLarge(f"A request may have at most {MAX_BODY} bytes.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
