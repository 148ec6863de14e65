"""The stages of a request, each a function that finds out one thing or refuses.

Their order is in `pipeline.STAGES`. Nothing of a request is believed before `verify`, nothing of
its body is asked for before then either, and nothing about buckets and keys is told before
`authorise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mallee.aws.rest_xml import KEY, Reader, RestXml, Sent
from mallee.aws.sigv4_s3 import STREAMING_UNSIGNED_TRAILER, UNSIGNED, S3Verifier
from mallee.kernel.clock import Clock
from mallee.kernel.threads import Threads
from mallee.walrus.api.table import Operation
from mallee.walrus.errors import S3Error
from mallee.walrus.front.address import as_headers, decoded_query, locate
from mallee.walrus.front.body import Body, whole_number
from mallee.walrus.front.call import Access, Call
from mallee.walrus.front.exchange import Exchange
from mallee.walrus.front.incoming import Incoming, Patience
from mallee.walrus.front.sending import gather_small

MAX_HEADERS: Final = 8 * 1024
MAX_METADATA: Final = 2 * 1024
MAX_DOCUMENT: Final = 1024 * 1024
MAX_LONG_DOCUMENT: Final = 2 * 1024 * 1024  # of 1,000 keys to delete, of 10,000 parts to put together
MAX_UPLOAD: Final = 5 * 1024**3
_LONG: Final = frozenset({"DeleteObjects", "CompleteMultipartUpload"})
_META: Final = b"x-amz-meta-"
_ALGORITHM_MEMBER: Final = "requestAlgorithmMember"


@dataclass(slots=True, kw_only=True)
class Stages:
    """The stages, with what they need from outside."""

    wire: RestXml
    operations: Mapping[str, Operation]
    readers: Mapping[str, Reader]
    checked: frozenset[str]  # operations whose x-amz-checksum-* headers speak of the body
    verifier: S3Verifier
    access: Access
    clock: Clock
    domains: Sequence[str]
    hashing: Threads
    patience: Patience
    store: Any
    identity: Any

    async def find(self, x: Exchange) -> None:
        """What it is about: bucket and key."""
        x.headers = x.arrived.folded
        x.incoming = Incoming(
            x.scope,
            x.receive,
            self.clock,
            length=_length(x.headers),
            patience=self.patience,
            waited_for=x.headers.get(b"expect", b"").lower() == b"100-continue",
        )
        if sum(map(len, x.headers)) + sum(map(len, x.headers.values())) > MAX_HEADERS:
            raise S3Error("RequestHeaderSectionTooLarge", MaxSizeAllowed=str(MAX_HEADERS))
        x.address = locate(x.headers.get(b"host", b""), x.arrived.path, self.domains)
        if x.arrived.query:
            x.query = decoded_query(x.arrived.query)

    async def route(self, x: Exchange) -> None:
        """What is asked for."""
        x.name = self.wire.router.find(x.arrived.method, x.address.depth, x.query, x.headers)
        x.operation = self.operations.get(x.name)
        x.reader = self.readers.get(x.name)

    async def verify(self, x: Exchange) -> None:
        """Who asks, if it says so."""
        x.signed = await self.verifier.verify(x.arrived)
        if x.signed is not None and x.signed.how == "query":
            x.headers = _with_hoisted(x.headers, x.query)
        if b"aws-chunked" in x.headers.get(b"content-encoding", b""):
            x.headers = _without_framing(x.headers)

    async def open_call(self, x: Exchange) -> None:
        """What the operation is given. From here on answers carry what browsers of other origins want."""
        assert x.incoming
        payload, chain = UNSIGNED, None
        if x.signed is not None:
            payload, chain = x.signed.payload, x.signed.chain
        elif x.form is None and x.headers.get(b"x-amz-content-sha256") == STREAMING_UNSIGNED_TRAILER:
            payload = STREAMING_UNSIGNED_TRAILER
        body = Body(
            x.form or x.incoming,
            x.headers,
            payload=payload,
            chain=chain,
            hashing=self.hashing,
            etag=x.reader is not None and x.reader.payload == "stream",
            checked=x.name in self.checked,
        )
        x.call = Call(
            request_id=x.request_id,
            principal=x.signed.principal if x.signed else None,
            operation=x.name,
            bucket=x.address.bucket,
            key=x.address.key,
            body=body,
            now=x.now,
            method=x.arrived.method,
            host=x.headers.get(b"host", b"").decode("latin-1"),
            source_ip=x.source_ip,
            secure=x.scope.get("scheme") == "https",
            store=self.store,
            identity=self.identity,
            region=x.signed.region if x.signed else "",
            signed=x.signed.how if x.signed else "",
            signature_age=x.signed.age if x.signed else 0.0,
            headers=x.headers,
            query=x.query,
        )
        origin = x.headers.get(b"origin")
        if origin is not None:
            allowed = await self.access.cross_origin(x.call, origin.decode("latin-1"))
            x.call.reply_headers += [(name.encode(), value.encode()) for name, value in allowed.items()]

    async def read(self, x: Exchange) -> None:
        """The parameters, typed; of a body that streams, only its size."""
        assert x.call
        if x.operation is None or x.reader is None:
            raise S3Error("NotImplemented", f"The operation {x.name} is not implemented.", Header=x.name)
        if x.reader.payload == "stream":
            _check_upload(x.call.body.length)
            document = b""
        else:
            limit = MAX_LONG_DOCUMENT if x.name in _LONG else MAX_DOCUMENT
            document = await x.call.body.whole(limit)
        if x.address.depth == KEY:
            _check_metadata(x.headers)
        where = {"Bucket": x.address.bucket, "Key": x.address.key}
        x.parameters = x.reader.read(Sent(where, x.query, x.headers, document))

    async def authorise(self, x: Exchange) -> None:
        """Whether it may be done."""
        assert x.call
        await self.access.authorise(x.call, x.parameters)

    async def act(self, x: Exchange) -> None:
        """The operation itself, and its answer."""
        assert x.call
        assert x.operation
        result = await x.operation.handler(x.call, x.parameters)
        x.answer = self.wire.write(x.name, result)
        if result is not None and result.get("ContentRange"):
            x.answer.status = 206
        await gather_small(x.answer)

    async def preflight(self, x: Exchange) -> None:
        """What a browser asks before it sends a request to another origin."""
        origin = x.headers.get(b"origin", b"").decode("latin-1")
        method = x.headers.get(b"access-control-request-method", b"").decode("latin-1")
        if not origin:
            raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
        if not method:
            raise S3Error("BadRequest", "Invalid Access-Control-Request-Method: null")
        await self.open_call(x)
        assert x.call
        wanted = x.headers.get(b"access-control-request-headers", b"").decode("latin-1").lower()
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        x.call.reply_headers.clear()
        allowed = await self.access.preflight(x.call, origin, method, names)
        x.answer.headers += [(name.encode(), value.encode()) for name, value in allowed.items()]


def checked_operations(wire: RestXml) -> frozenset[str]:
    """The operations whose `x-amz-checksum-*` headers are about the body that comes with them."""
    return frozenset(
        name
        for name, operation in wire.model.operations.items()
        if _ALGORITHM_MEMBER in operation.get("httpChecksum", {})
    )


def _length(headers: Mapping[bytes, bytes]) -> int | None:
    given = headers.get(b"content-length")
    if given is not None:
        return whole_number(given, "Content-Length")
    return None if b"transfer-encoding" in headers else 0


def _check_upload(length: int | None) -> None:
    if length is None:
        raise S3Error("MissingContentLength")
    if length > MAX_UPLOAD:
        raise S3Error("EntityTooLarge", ProposedSize=str(length), MaxSizeAllowed=str(MAX_UPLOAD))


def _check_metadata(headers: Mapping[bytes, bytes]) -> None:
    size = sum(
        len(name) - len(_META) + len(value) for name, value in headers.items() if name.startswith(_META)
    )
    if size > MAX_METADATA:
        raise S3Error("MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(MAX_METADATA))


def _without_framing(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """How the body came is not how the object is encoded."""
    encodings = [one.strip() for one in headers[b"content-encoding"].split(b",")]
    kept = b",".join(one for one in encodings if one != b"aws-chunked")
    rest = {name: value for name, value in headers.items() if name != b"content-encoding"}
    return rest | {b"content-encoding": kept} if kept else rest


def _with_hoisted(headers: dict[bytes, bytes], query: Mapping[str, str]) -> dict[bytes, bytes]:
    """A presigned query may carry what would be a header, and it is signed there too."""
    hoisted = as_headers({name: value for name, value in query.items() if name.startswith("x-amz-")})
    return {**hoisted, **headers} if hoisted else headers
