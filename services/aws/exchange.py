"""One request on its way through the front door: what has been found out about it so far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from mallee.aws.actions import Action
from mallee.aws.context import Request
from mallee.aws.errors import AwsError
from mallee.aws.protocol import Tree
from mallee.aws.service import Service
from mallee.aws.sigv4 import Arrived, Signed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):  # noqa: N818 - nothing failed; there is nobody left to answer
    """The client went away before its request was whole."""


@dataclass(slots=True)
class Exchange:
    """A request and its answer. Each stage fills in its part; what follows may rely on it.

    Attributes:
        service: whose words an answer is in; found first, since an error needs it too.
        extensions: what the listener offers for this request beside ASGI.
        presigned: the signature is in the query, whose X-Amz-* parameters are not the action's.
        held: what is given back when the request ends, however it ends.
    """

    request_id: str
    arrived: Arrived
    receive: Receive
    service: Service
    source_ip: str
    started: float
    extensions: Mapping[str, Any] = field(default_factory=dict)
    form: Tree = field(default_factory=dict)
    operation: str = ""
    version: str = ""
    signed: Signed | None = None
    action: Action | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    request: Request | None = None
    result: Mapping[str, Any] | None = None
    held: AsyncExitStack = field(default_factory=AsyncExitStack)
    status: int = 200
    code: str = ""
    body: bytes = b""

    def header(self, name: bytes) -> str:
        """A header's text, nothing if there is none; of several, all with commas between them."""
        return self.arrived.folded.get(name, b"").decode("latin-1")

    def fail(self, error: AwsError) -> None:
        """Answer an error."""
        self.status = error.status
        self.code = error.code
        self.body = self.service.wire.error(error, self.request_id)
