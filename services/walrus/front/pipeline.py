"""The object store's front: a raw ASGI application from a request to its answer.

Whatever comes in, the answer is S3's: XML with a code that clients match on, the request's id in
header and body. What a client did wrong is never a 5xx.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from mallee.aws.errors import AwsError
from mallee.aws.exchange import Disconnected, Receive, Scope, Send
from mallee.aws.rest_xml import Answer, RestError, RestXml, error_xml, header_text
from mallee.aws.sigv4 import Arrived
from mallee.aws.sigv4_s3 import S3Verifier, SigningKeys
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.kernel.threads import Threads
from mallee.walrus.api.table import S3Table
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Access
from mallee.walrus.front.exchange import Exchange
from mallee.walrus.front.form_stages import answer_form, is_form, read_form, receive_form
from mallee.walrus.front.incoming import Patience
from mallee.walrus.front.sending import send_answer
from mallee.walrus.front.stages import Stages, checked_operations
from mallee.walrus.front.telemetry import Telemetry

_log = structlog.get_logger()

Stage = Callable[[Stages, Exchange], Awaitable[None]]
STAGES: Final[tuple[Stage, ...]] = (
    Stages.find,
    Stages.route,
    Stages.verify,
    Stages.open_call,
    Stages.read,
    Stages.authorise,
    Stages.act,
)
PREFLIGHT: Final[tuple[Stage, ...]] = (Stages.find, Stages.preflight)
FORM: Final[tuple[Stage, ...]] = (
    Stages.find,
    receive_form,
    Stages.open_call,
    read_form,
    Stages.authorise,
    Stages.act,
    answer_form,
)


class S3Front:
    """The application to give to uvicorn.

    Args:
        table: the operations that are built.
        wire: compiled from the `s3` model.
        keys: where derived signing keys are found.
        access: decides who may do what.
        store, identity: handed to every call.
        domains: names of this service that may have a bucket before them in `Host`.
        regions: the region names that a scope may carry; None allows any.
        ready: says what is still missing before requests can be served; empty when nothing is.
        registry: where the metrics go.
        patience: how slow a client may be.
    """

    def __init__(
        self,
        table: S3Table,
        *,
        wire: RestXml,
        keys: SigningKeys,
        access: Access,
        clock: Clock,
        entropy: Entropy,
        store: Any = None,
        identity: Any = None,
        domains: Sequence[str] = (),
        regions: Collection[str] | None = None,
        ready: Callable[[], Awaitable[str]] | None = None,
        registry: CollectorRegistry | None = None,
        access_log: bool = True,
        patience: Patience | None = None,
    ) -> None:
        table.verify(wire.model)
        self._clock = clock
        self._entropy = entropy
        self._ready = ready
        self._hashing = Threads(os.cpu_count() or 2, "hashing")
        self._telemetry = Telemetry(registry or CollectorRegistry(), clock, access_log=access_log)
        self._stages = Stages(
            wire=wire,
            operations=table.operations,
            readers={one.name: wire.reader(one.name, one.accepts) for one in table},
            checked=checked_operations(wire),
            verifier=S3Verifier(keys, clock, regions=regions),
            access=access,
            clock=clock,
            domains=domains,
            hashing=self._hashing,
            patience=patience or Patience(),
            store=store,
            identity=identity,
        )

    def close(self) -> None:
        """End the threads. No request may be under way."""
        self._hashing.close()
        self._telemetry.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
        elif not scope["path"].startswith("/-/") or not await self._answered_by_itself(scope, send):
            await self._exchange(scope, receive, send)

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        x = Exchange(
            self._entropy.token(8).hex().upper(),
            scope,
            receive,
            send,
            Arrived(scope["method"], raw.partition(b"?")[0], scope["query_string"], list(scope["headers"])),
            self._clock.monotonic(),
            self._clock.now(),
        )
        try:
            await self._run(x)
            await send_answer(x)
        except Disconnected:
            x.code = "Disconnected"
        except Exception:  # noqa: BLE001 - the head is out: the connection is cut, so nobody takes it for whole
            x.code = "CutShort"
            _log.exception("answer cut short", request_id=x.request_id, operation=x.name)
        finally:
            if x.incoming is not None:
                x.incoming.close()
            self._telemetry.tell(x)

    async def _run(self, x: Exchange) -> None:
        """All stages, or an error in S3's words."""
        try:
            for stage in _stages_of(x):
                await stage(self._stages, x)
        except AwsError as error:
            _fail(x, error)
        except Disconnected:
            raise
        except Fault as fault:
            if fault.kind is Kind.UNAVAILABLE:
                _log.warning("unavailable", request_id=x.request_id, why=str(fault), code=fault.code)
                _fail(x, _full() if fault.code == STORAGE_FULL else S3Error("ServiceUnavailable"))
            else:
                _log.exception("fault without an answer", request_id=x.request_id, operation=x.name)
                _fail(x, S3Error("InternalError"))
        except Exception:  # noqa: BLE001 - the door stays open; the log has the whole story
            _log.exception("internal error", request_id=x.request_id, operation=x.name)
            _fail(x, S3Error("InternalError"))

    async def _answered_by_itself(self, scope: Scope, send: Send) -> bool:
        """Health, readiness and metrics, which need no signature; no bucket is called `-`."""
        if scope["method"] not in {"GET", "HEAD"}:
            return False
        match scope["path"]:
            case "/-/healthz":
                await _plain(send, 200, b"ok\n")
            case "/-/readyz":
                missing = await self._ready() if self._ready else ""
                await _plain(send, 503 if missing else 200, f"{missing or 'ok'}\n".encode())
            case "/-/metrics":
                await _plain(send, 200, self._telemetry.exposition())
            case _:
                return False
        return True


def _stages_of(x: Exchange) -> tuple[Stage, ...]:
    if x.arrived.method == "OPTIONS":
        return PREFLIGHT
    return FORM if is_form(x) else STAGES


def _fail(x: Exchange, error: AwsError) -> None:
    """Answer an error."""
    x.code = error.code
    headers = [(b"content-type", b"application/xml")] if error.status != 304 else []
    if isinstance(error, RestError):
        headers += [(name.lower().encode(), header_text(text)) for name, text in error.headers.items()]
    resource = x.arrived.path.decode("latin-1")
    body = error_xml(error, resource=resource, request_id=x.request_id, host_id=x.request_id)
    x.answer = Answer(error.status, headers, body)


def _full() -> S3Error:
    return S3Error(
        "ServiceUnavailable", "The disk of this object store has no room left; what is there can be read."
    )


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
