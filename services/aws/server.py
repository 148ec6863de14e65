"""The front door: a raw ASGI application that takes every request of every AWS service.

The service is read from the signature's credential scope, so one endpoint serves all; requests
signed for S3 go on to the object store's own application. An answer is XML whatever came in, with
its request id in body and header, and what a client did wrong is never a 5xx.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import structlog
from prometheus_client import CollectorRegistry

from mallee.aws import sigv2, sigv4
from mallee.aws.errors import AwsError, InternalError, StorageFull, Unavailable
from mallee.aws.exchange import App, Disconnected, Exchange, Receive, Scope, Send
from mallee.aws.service import Authoriser, Service
from mallee.aws.stages import Stages
from mallee.aws.telemetry import Telemetry
from mallee.aws.throttle import Limits, Throttle
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy, request_id
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind

_log = structlog.get_logger()

# Before these: the request id. After them, however they end: the access log, then the metrics.
PIPELINE: Final[tuple[Callable[[Stages, Exchange], Awaitable[None]], ...]] = (
    Stages.receive,
    Stages.read_envelope,
    Stages.authenticate,
    Stages.find_action,
    Stages.throttle_requests,
    Stages.read_parameters,
    Stages.throttle_resources,
    Stages.authorise,
    Stages.one_at_a_time,
    Stages.dry_run,
    Stages.act,
    Stages.serialize,
)

_OWN_PATHS: Final = frozenset({b"/", b"/healthz", b"/readyz", b"/metrics"})
_scope_service = re.compile(rb"Credential=[^/,]*/[^/,]*/[^/,]*/([^/,&]*)/").search


class Front:
    """The application to give to uvicorn.

    Args:
        services: by the name in the credential scope; `ec2` must be among them.
        keys: where access keys are found.
        authoriser: decides who may do what.
        ready: says what is still missing before requests can be served; empty when nothing is.
        limits: of throttling; without any, none.
        s3: the application for requests signed for S3, and for unsigned ones that cannot be for another
            service: on paths other than `/`, or for a bucket by its name before one of `s3_domains`.
        regions: the region names that a scope may carry; None allows any.
        region: this cloud's own region, for signatures of version 2, which name none.
        allow_sigv2: whether those are accepted.
        registry: where the metrics go.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        *,
        keys: sigv4.KeyStore,
        authoriser: Authoriser,
        clock: Clock,
        entropy: Entropy,
        ready: Callable[[], Awaitable[str]] | None = None,
        limits: Limits | None = None,
        s3: App | None = None,
        s3_domains: Collection[str] = (),
        regions: Collection[str] | None = None,
        region: str = "mallee-1",
        allow_sigv2: bool = False,
        registry: CollectorRegistry | None = None,
        access_log: bool = True,
    ) -> None:
        self._services = services
        self._clock = clock
        self._entropy = entropy
        self._ready = ready
        self._s3 = s3
        self._s3_domains = tuple(f".{domain}".encode() for domain in s3_domains)
        self._stages = Stages(
            services=services,
            verifier=sigv4.Verifier(keys, clock, regions=regions),
            old_verifier=sigv2.Verifier(keys, clock, region=region) if allow_sigv2 else None,
            throttle=Throttle(limits or Limits(), clock),
            authoriser=authoriser,
        )
        self._telemetry = Telemetry(registry or CollectorRegistry(), clock, access_log=access_log)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
        else:
            arrived = _arrived(scope)
            service = _service_of(arrived)
            if self._s3 is not None and self._is_for_s3(arrived, service):
                await self._s3(scope, receive, send)
            elif not await self._answered_by_itself(scope, send):
                await self._exchange(scope, arrived, service, receive, send)

    def _is_for_s3(self, arrived: sigv4.Arrived, service: str) -> bool:
        """A signature says so; without one the path or the name of the host does."""
        if service:
            return service == "s3"
        if arrived.path not in _OWN_PATHS:
            return True
        host = next((value for name, value in arrived.headers if name == b"host"), b"")
        return host.partition(b":")[0].lower().endswith(self._s3_domains)

    async def _exchange(
        self, scope: Scope, arrived: sigv4.Arrived, service: str, receive: Receive, send: Send
    ) -> None:
        x = Exchange(
            request_id=request_id(self._entropy),
            arrived=arrived,
            receive=receive,
            service=self._services.get(service) or self._services["ec2"],
            source_ip=(scope.get("client") or ("",))[0],
            started=self._clock.monotonic(),
            extensions=scope.get("extensions") or {},
        )
        try:
            async with x.held:
                await self._run(x)
        except Disconnected:
            return
        await _send(send, x)
        self._telemetry.log_access(x)
        self._telemetry.measure(x)

    async def _run(self, x: Exchange) -> None:
        """All stages, or an error in the words of the service."""
        try:
            for stage in PIPELINE:
                await stage(self._stages, x)
        except AwsError as error:
            x.fail(error)
        except Disconnected:
            raise
        except Fault as fault:
            if fault.kind is Kind.UNAVAILABLE:
                _log.warning("unavailable", request_id=x.request_id, why=str(fault), code=fault.code)
                x.fail(StorageFull() if fault.code == STORAGE_FULL else Unavailable())
            else:
                _log.exception("fault without an answer", request_id=x.request_id, operation=x.operation[:64])
                x.fail(InternalError())
        except Exception:  # noqa: BLE001 - the door stays open; the log has the whole story
            _log.exception("internal error", request_id=x.request_id, operation=x.operation[:64])
            x.fail(InternalError())

    async def _answered_by_itself(self, scope: Scope, send: Send) -> bool:
        """Health, readiness and metrics, which need no signature."""
        if scope["method"] not in {"GET", "HEAD"}:
            return False
        match scope["path"]:
            case "/healthz":
                await _plain(send, 200, b"ok\n")
            case "/readyz":
                missing = await self._ready() if self._ready else ""
                await _plain(send, 503 if missing else 200, f"{missing or 'ok'}\n".encode())
            case "/metrics":
                await _plain(send, 200, self._telemetry.exposition())
            case _:
                return False
        return True


def _arrived(scope: Scope) -> sigv4.Arrived:
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    path = raw.partition(b"?")[0]
    return sigv4.Arrived(scope["method"], path, scope["query_string"], list(scope["headers"]))


def _service_of(arrived: sigv4.Arrived) -> str:
    """The service that a request is signed for, as it says itself; empty if it does not say."""
    for name, value in arrived.headers:
        if name == b"authorization":
            if value.startswith(b"AWS "):  # version 2 in a header: only S3 had that
                return "s3"
            found = _scope_service(value)
            return found[1].decode("latin-1") if found else ""
    if b"X-Amz-Credential=" in arrived.query:
        found = _scope_service(unquote_to_bytes(arrived.query))
        return found[1].decode("latin-1") if found else ""
    return ""


async def _send(send: Send, x: Exchange) -> None:
    headers = [
        (b"content-type", b"text/xml;charset=UTF-8"),
        (b"content-length", str(len(x.body)).encode()),
        (b"x-amzn-requestid", x.request_id.encode()),
        (b"cache-control", b"no-cache, no-store"),
    ]
    body = b"" if x.arrived.method == "HEAD" else x.body
    if x.status in {405, 413} or x.code == "RequestTimeout":  # the body was not read to its end
        headers.append((b"connection", b"close"))
    elif (answer := x.extensions.get("mallee.answer")) and answer(x.status, headers, body):
        return
    await send({"type": "http.response.start", "status": x.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _plain(send: Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan: nothing to open or close here, who started the front does that."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
