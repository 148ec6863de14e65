"""What an operation is given and what it gives back: the seam between HTTP and S3's meaning.

The front has found out who asks and what; a handler gets it as one `Call` and the parameters by
the model's names, and answers a mapping by the model's output members. Nothing of HTTP is below
this line but `Call.body`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from mallee.aws.context import Principal
from mallee.walrus.front.body import Body

Result = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes of an open file, to be sent by the kernel. Whoever sends it closes `fd`, sent or not."""

    fd: int
    offset: int
    length: int


Sending = FileRange | AsyncIterator[bytes] | bytes  # GetObject's "Body"; an iterator has `aclose` called


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, verified and read.

    Attributes:
        principal: who signed; None for an anonymous request.
        operation: the model's name, `PutObject`. A form upload is a `PutObject` too.
        bucket, key: as in the address; empty where the operation has none. A key is text decoded
            from UTF-8, at most 1,024 bytes of it, and never a path.
        body: of the request. An operation whose payload is XML or text has it parsed already in its
            parameters; one that streams (`PutObject`, `UploadPart`) reads it here and only here.
        now: when the request came; one reading for the whole request.
        secure: came over TLS.
        region: of the signature's scope; empty for an anonymous request.
        signed: `header`, `query` (presigned), `form`, or empty for an anonymous request.
        signature_age: seconds since a presigned or form signature was made, for `s3:signatureAge`.
        headers: the request's by lower-case name.
        query: the decoded parameters of the query that are not the signature's.
        store, identity: what the front was composed with.
        home: the `Bucket` of the address, as the access check found it; None for an operation without.
        reply_headers: sent with the answer whatever it is, errors too (CORS).
    """

    request_id: str
    principal: Principal | None
    operation: str
    bucket: str
    key: str
    body: Body
    now: datetime
    method: str
    host: str
    source_ip: str
    secure: bool
    store: Any
    identity: Any
    home: Any = None
    region: str = ""
    signed: str = ""
    signature_age: float = 0.0
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    reply_headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def header(self, name: bytes) -> str:
        """A header's text, nothing if there is none."""
        return self.headers.get(name, b"").decode("latin-1")


class Access(Protocol):
    """Who may do what: the front asks before it acts, and for browsers of other origins."""

    async def authorise(self, call: Call, parameters: Mapping[str, Any]) -> None:
        """Return if the call may be made.

        Raises:
            S3Error: AccessDenied, or NoSuchBucket where the caller may know so much.
        """

    async def preflight(self, call: Call, origin: str, method: str, headers: list[str]) -> Mapping[str, str]:
        """The headers that allow a cross-origin request which a browser asks about (OPTIONS).

        Args:
            call: anonymous, with the bucket and key; its operation is empty.
            origin: the browser's page.
            method: `Access-Control-Request-Method`.
            headers: `Access-Control-Request-Headers`, lower-case.

        Raises:
            S3Error: AccessForbidden when no rule of the bucket allows it; BadRequest.
        """

    async def cross_origin(self, call: Call, origin: str) -> Mapping[str, str]:
        """The headers for the answer to a request that carries `Origin`; empty if no rule fits."""
